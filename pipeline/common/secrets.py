"""The secrets of the environment, and how to find them in a text: as they are, or encoded by another program.

An error of a library may quote a header, a URI or a command line, in which a secret is percent-encoded, JSON-escaped,
in base64 or in hexadecimal digits. A text is decoded and searched, which is quick; only one in which a secret is found
is searched again for the characters that stand for it.
"""

import base64
import contextlib
import html
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

LENGTH = 8
"""Least characters of a secret. A shorter one hides nothing, and would also remove parts of words."""

LONG = 16
"""From so many characters on, a secret is also found with white space in it, which no words make by chance."""

ROUNDS = 4
"""So many times a text may have been encoded."""

_WORDS = re.compile(r"\w*?(SECRETS?|TOKENS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|APIKEY|ACCESSKEY)")
"""Last part of the name of a variable, between underscores or at the end of a word, that holds a secret."""
_PAIRS = tuple(f"{kind}_KEY" for kind in ("SECRET", "API", "ACCESS", "PRIVATE", "ACCOUNT", "ENCRYPTION", "SIGNING"))
_UNSURE = frozenset({"KEY", "PASS", "PWD", "PW", "AUTH", "SAS", "COOKIE"})
"""Words whose variables often hold something else, so that only a long value counts as a secret."""
_ABOUT = frozenset(
    (
        *("FILE", "PATH", "DIR", "ID", "NAME", "USER", "URL", "URI", "ARN", "SOCK", "ENDPOINT", "REGION", "TYPE"),
        *(
            "MODE",
            "EXPIRY",
            "EXPIRATION",
            "EXPIRES",
            "TTL",
            "SECONDS",
            "LENGTH",
            "SIZE",
            "COUNT",
            "VERSION",
            "ALGORITHM",
        ),
    )
)
"""Last words of variables that say something about a secret."""

_IN_URI = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_FILE = re.compile(r"(?:/|~|\.{1,2}/|[A-Za-z]:\\).*\.\w{2,5}")

_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([0-7]{3})|(n|r|t)|([^\s\w]))", re.IGNORECASE)
_WHITE = r"(?:\s|\\{1,8}[nrt]|%(?:25){0,4}(?:0[9ad]|20)){0,40}"
_URL_SAFE = str.maketrans("-_", "+/")


class Secrets:
    """Finds these secrets in texts."""

    def __init__(self, values: Iterable[str]) -> None:
        self._secrets = [_Secret(value) for value in sorted(set(values), key=len, reverse=True) if len(value) >= LENGTH]

    def removed(self, text: str, mark: str) -> str:
        """The text with `mark` in place of the secrets."""
        found = self._found(text)
        if not found:
            return text
        for secret in found:
            for pattern in secret.patterns:
                text = pattern.sub(mark, text)
        # What was encoded in a way that the patterns do not know is removed with all that surrounds it.
        return f"{mark} (a text with a credential in it)" if self._found(text) else text

    def _found(self, text: str) -> list["_Secret"]:
        found: dict[_Secret, None] = {}
        for _ in range(ROUNDS + 1 if self._secrets else 0):
            lower = text.lower()
            squeezed = _squeezed(lower)
            digits = squeezed.translate(_URL_SAFE)
            found |= dict.fromkeys(secret for secret in self._secrets if secret.is_in(lower, squeezed, digits))
            before, text = text, _decoded(text)
            if text == before:
                break
        return list(found)


class _Secret:
    def __init__(self, value: str) -> None:
        self._spaced = len(value) >= LONG
        self._value = value
        self._lower = _squeezed(value.lower()) if self._spaced else value.lower()
        self._encoded = sorted(set(_encoded(value)), key=len, reverse=True)
        self._digits = [part.lower().translate(_URL_SAFE) for part in self._encoded]

    def is_in(self, lower: str, squeezed: str, digits: str) -> bool:
        """Whether the secret is in a text: in small letters, also without white space, also with digits as in URIs."""
        return self._lower in (squeezed if self._spaced else lower) or any(part in digits for part in self._digits)

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """Of the secret, and of its encodings, the longest first."""
        found = []
        for value, spaced in ((self._value, self._spaced), *((part, True) for part in self._encoded)):
            parts = [_any_spelling(character) for character in value if not (spaced and character.isspace())]
            found.append(re.compile((_WHITE if spaced else "").join(parts), re.IGNORECASE))
        return found


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _decoded(text: str) -> str:
    """A text with one layer of percent-encoding, of escapes and of HTML's entities taken off."""
    if "%" in text:
        text = urllib.parse.unquote(text, errors="replace")
    if "\\" in text:
        text = _ESCAPE.sub(_character, text)
    return html.unescape(text) if "&" in text else text


def _character(escape: re.Match[str]) -> str:
    four, two, octal, white, plain = escape.groups()
    if four or two:
        return chr(int(four or two, 16))
    if octal:
        return chr(int(octal, 8))
    return " " if white else plain


def _encoded(value: str) -> Iterator[str]:
    """The secret in base64, at each place where it may begin in a longer text, and in hexadecimal digits."""
    data = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        # Its first and last digits also depend on the text around it.
        part = text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(part) >= LENGTH:
            yield part
    yield data.hex()


def _any_spelling(character: str) -> str:
    """A pattern of a character as it is, or as JSON, URIs, HTML, Python and shells may write it."""
    code = ord(character)
    spellings = [re.escape(character), rf"\\{{1,8}}u{code:04x}", rf"\\{{1,8}}x{code:02x}", rf"\\{{1,8}}{code:03o}"]
    spellings.append("".join(rf"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")))
    spellings.append(rf"&(?:amp;){{0,4}}#(?:0{{0,6}}{code}|x0{{0,6}}{code:x});")
    if not character.isalnum():
        spellings.append(rf"\\{{1,8}}{re.escape(character)}")
        named = html.escape(character)
        spellings += [rf"&(?:amp;){{0,4}}{named[1:]}"] if named != character else []
    if character in "+/":
        spellings.append({"+": "-", "/": "_"}[character])
    return f"(?:{'|'.join(spellings)})"


# --- The environment -------------------------------------------------------------------------------------------

_lock = threading.Lock()
_last: tuple[dict[str, str], Secrets] = ({}, Secrets(()))


def secrets_of_the_environment() -> Secrets:
    """The secrets in the variables that this process has now."""
    global _last
    environment = dict(os.environ)
    with _lock:
        known, secrets = _last
        if environment != known:
            secrets = Secrets(_secrets_in(environment))
            _last = environment, secrets
    return secrets


def _secrets_in(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        text = value.strip()
        yield from map(urllib.parse.unquote, _IN_URI.findall(text))
        least = _least_length(name)
        if not least or os.path.exists(text) or _FILE.fullmatch(text):  # messages may say names of files
            continue
        if text.startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):
                yield from _secrets_of(json.loads(text))
        if len(text) >= least:
            yield from _with_lines(text)


def _least_length(name: str) -> int:
    """Least characters of a secret in a variable of this name; 0 if it holds none."""
    words = name.upper().replace("-", "_").split("_")
    if words[-1] in _ABOUT or name in ("PWD", "OLDPWD"):
        return 0
    if any(map(_WORDS.fullmatch, words)) or any(pair in "_".join(words) for pair in _PAIRS):
        return LENGTH
    return LONG if _UNSURE & set(words) else 0


def _secrets_of(value: Any, name: str = "") -> Iterator[str]:
    """The secrets in the JSON of a credential."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _secrets_of(part, str(key))
    elif isinstance(value, str) and _least_length(name):
        yield from _with_lines(value)


def _with_lines(text: str) -> Iterator[str]:
    """A secret, and the lines within it, as of a private key."""
    yield text
    yield from (line.strip() for line in text.splitlines()[1:-1] if len(line.strip()) >= LONG)
