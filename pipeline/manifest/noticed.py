"""What was noticed while a table was read: what was understood although it is not written as the guide says."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

MOST = 50
"""Most different things that are kept of a table."""


class Noticed(NamedTuple):
    """One thing about the whole file, or about one of its rows."""

    text: str
    """A sentence without its end. It is the same for all rows of which the same is to be said."""
    of_row: bool = False
    example: str = ""
    """What is in this row."""


def place(number: int, line: int = 0) -> str:
    """`row 3 (line 4)` of a text file, or `row 3` where there are no lines."""
    return f"row {number} (line {line})" if line else f"row {number}"


@dataclass
class _Seen:
    rows: int
    """Number of rows; 0 for a thing about the whole file."""
    number: int
    line: int
    example: str


@dataclass
class Notices:
    """What was noticed about a table and its rows, with the number of rows and the first example."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def add(self, noticed: Iterable[Noticed], number: int, line: int = 0) -> None:
        """Add what was noticed about a row, or about the file in which it is."""
        for text, of_row, example in noticed:
            self._add(text, _Seen(int(of_row), number, line, example))

    def merge(self, other: "Notices", before: int = 0) -> None:
        """Add what was noticed about later rows, which were numbered without the `before` rows that precede them."""
        for text, seen in other._seen.items():
            self._add(text, _Seen(seen.rows, seen.number + before, seen.line, seen.example))

    def _add(self, text: str, seen: _Seen) -> None:
        if text in self._seen:
            self._seen[text].rows += seen.rows
        elif len(self._seen) < MOST:
            self._seen[text] = seen

    def sentences(self) -> tuple[str, ...]:
        """For the user, in the order in which they were noticed."""
        return tuple(text + _where(seen) for text, seen in self._seen.items())


def _where(seen: _Seen) -> str:
    if not seen.rows:
        return ""
    first = f"{place(seen.number, seen.line)}{': ' if seen.example else ''}{seen.example}"
    return f" ({first})" if seen.rows == 1 else f" ({seen.rows} rows; the first is {first})"
