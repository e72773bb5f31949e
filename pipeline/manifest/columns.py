"""Names of columns: which of a table's columns is meant by `Clip ID`, and which names are probably mistakes.

A name that differs from a known one only in case, spaces, punctuation or invisible characters is read as that one, and
a note says so. A name that is one letter away from a known one is refused if the table does not have that one as well,
because a setting that is silently passed through as a column of its own is worse than a question.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pipeline.common.quoted import quoted

SHORTEST = 4
"""Letters of the shortest known name for which others are taken as mistyped."""

WORDS = re.compile(
    "speed|[lmpr]aces?|fa[cdkmrtz]e[dst]?|facts?|[fnwdrh]eed|see[nmk]|s[hl]ed|send|steed|steel|d?rop|prop|chop|crow|co[ro]p|"
    "corp|cop|pos[dt]?|post|[nrhdl]ose|pole|pore|poke|poise|posed|tag|motion|emoticon|frames|framed|flame|fame|"
    "[dfhlmr]aze|gazed|ga[gmtvp]e|gale|gauze|titles|titled|tile|presets|present|reset|"
    "orders|ordered|border|older|odder|second"
)
"""Words one letter away from a known name that are likely names of somebody's own column."""


class ColumnError(ValueError):
    """The names of a table's columns cannot be understood; the message says which, and what to change."""


@dataclass(frozen=True)
class Naming:
    """What the names of a table mean."""

    known: dict[str, str]
    """Known column by the table's name for it, where the two differ."""
    notes: tuple[str, ...]
    """A sentence for each of these names."""


@lru_cache(maxsize=1_000)
def naming(names: tuple[str, ...], known: tuple[str, ...]) -> Naming:
    """What a table with the columns `names` means by them, given the known columns.

    Raises ColumnError for two names that mean the same column, and for a name that is probably mistyped.
    """
    found: dict[str, str] = {}
    others = []
    for name in names:
        column = _by_letters(known).get(letters(name))
        if column is None:
            others.append(name)
        elif column in found:
            both = " and ".join(sorted(map(quoted, (found[column], name))))
            raise ColumnError(f"the columns {both} mean the same: keep one of them, or rename the other")
        else:
            found[column] = name
    for name in others:
        similar = [column for column in _similar(name, known) if column not in found]
        if similar:
            raise ColumnError(
                f"column {quoted(name)} looks like {' or '.join(similar)}: correct it, or give it a name that is less "
                "similar if it is a column of your own"
            )
    renamed = {name: column for column, name in found.items() if name != column}
    return Naming(renamed, tuple(f"column {quoted(name)} is read as {column}" for name, column in renamed.items()))


def missing_columns(columns: Iterable[str], required: Iterable[str]) -> str:
    """`no column image and no column audio; it has ...` if required columns are missing, or an empty text."""
    present = sorted(columns)
    missing = [f"no column {name}" for name in required if name not in present]
    if not missing:
        return ""
    shown = ", ".join(name if name.isprintable() and len(name) < 40 else quoted(name) for name in present[:20])
    return f"{' and '.join(missing)}; it has {shown or 'none'}{', ...' if len(present) > 20 else ''}"


def letters(name: str) -> str:
    """A name without what is easily mistaken: case, width of letters, spaces, punctuation, invisible characters."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


@lru_cache(maxsize=16)
def _by_letters(known: tuple[str, ...]) -> dict[str, str]:
    return {letters(column): column for column in known}


@lru_cache(maxsize=4_096)
def _similar(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Known columns that are one typing mistake away from a name."""
    text = letters(name)
    if WORDS.fullmatch(text) or len(text) > 40:
        return ()
    return tuple(
        column
        for short, column in _by_letters(known).items()
        if len(short) >= SHORTEST and not re.fullmatch(rf"{short}[0-9]", text) and _is_one_mistake(short, text)
    )


def _is_one_mistake(right: str, text: str) -> bool:
    """Whether a letter was left out, added, replaced, or swapped with the next one."""
    if right == text or abs(len(right) - len(text)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(right, text, strict=False)) if a != b), min(len(right), len(text)))
    a, b = right[start:], text[start:]
    swapped = a[1:2] + a[:1] + a[2:] == b
    return swapped or a[1:] == b or a == b[1:] or a[1:] == b[1:]
