"""Names of speakers as the consent gate compares them: by what a reader sees, and not by how they are stored.

Unicode has many texts that look like `Anna`: full-width letters, invisible characters between letters, Cyrillic or
Greek letters among Latin ones. What is the same name in another form is compared as the same. What only looks the same
is told apart from it, so that the gate can refuse it.
"""

import re
import unicodedata
from functools import lru_cache

_LIKE_LATIN = {
    # Cyrillic
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c": "ABESIJKM",
    "\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0417": "HOPCTYX3",
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455": "aeopcyxs",
    "\u0456\u0458\u04bb\u0501\u051b\u051d\u043a\u0442": "ijhdqwkt",
    "\u04af\u04ae\u04c0\u04cf\u050c\u0433\u043f": "yYIlGrn",
    # Greek
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c": "ABEZHIKM",
    "\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03b3": "NOPTYXay",
    "\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03f2\u03f3\u03b5\u03b7": "ikvoptuxcjen",
    # Armenian
    "\u054d\u054f\u0555\u0531\u0561\u0570\u0578\u057d\u0581\u0585\u0584\u0566\u053c\u0575\u057f": "USOUwhnugopqLjs",
    # Cherokee
    "\u13aa\u13f4\u13df\u13a0\u13ac\u13c0\u13bb\u13a5": "ABCDEGHi",
    "\u13ab\u13e6\u13de\u13b7\u13e2\u13d2\u13da\u13a2": "JKLMPRST",
    "\u13d9\u13b3\u13c3": "VWZ",
    # Latin
    "\u0251\u0261\u0131\u0237\u0269\u028b\u0196\u026a\u029f": "agijivlil",
}
"""Letters of other alphabets, or rare ones, and the Latin letters that they look like."""

_LOOKS = str.maketrans({other: latin for pair in _LIKE_LATIN.items() for other, latin in zip(*pair, strict=True)})

_ALIKE = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "DESERET")
"""Alphabets with letters that look like those of the others: no word has letters of two of them."""

_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Characters without a shape that are not in the categories of such characters."""

_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction in which others are shown."""

_LETTER = re.compile(r"\b(?:LATIN|SYMBOL)\b.* LETTER (?:SMALL CAPITAL )?([A-Z])$")


@lru_cache(maxsize=10_000)
def folded(name: str) -> str:
    """A name in the form that is compared: in another case or width, with other spaces, or with invisible characters,
    it is the same name.
    """
    return " ".join(_bare(_bare(name).casefold()).split())


@lru_cache(maxsize=10_000)
def look(name: str) -> str:
    """What a name looks like, in Latin letters as far as possible. For comparison only."""
    text = "".join(map(_look, _bare(name))).casefold()
    if any(_alphabet(character) for character in text):
        # Marks that belong to no letter of the alphabet are decoration; é and й are letters.
        text = "".join(character for character in text if not unicodedata.category(character).startswith("M"))
    return " ".join(text.replace("1", "l").replace("|", "l").replace("0", "o").split())


@lru_cache(maxsize=10_000)
def doubt(name: str) -> str:
    """Why nobody can tell from its look whose name it is, as the rest of a sentence; empty if one can."""
    if _TURNING.search(name):
        return "contains characters that change the direction of writing"
    for word in re.split(r"[\s\W\d_]+", _bare(name)):
        alphabets = sorted({alphabet for character in word if (alphabet := _alphabet(character))})
        if len(alphabets) > 1:
            return f"has letters of the alphabets {' and '.join(map(str.title, alphabets))} in one word"
    return ""


def _bare(name: str) -> str:
    """A name in compatibility form (NFKC), without characters that have no shape."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", name))
    seen = (c for c in text if unicodedata.category(c) not in ("Cc", "Cf") or c.isspace())
    return unicodedata.normalize("NFKC", "".join(seen))


def _alphabet(character: str) -> str:
    """The alphabet of a letter, if it is one of those with letters that look alike."""
    first = unicodedata.name(character, "").partition(" ")[0]
    return first if first in _ALIKE and unicodedata.category(character).startswith("L") else ""


def _look(character: str) -> str:
    if character.isascii():
        return character
    if named := _LETTER.search(unicodedata.name(character, "")):
        return named[1]
    return character.translate(_LOOKS)
