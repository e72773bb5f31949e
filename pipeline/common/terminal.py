"""What jobs print, without anything that a terminal would obey.

Names and values in a line come from other people: an escape sequence would recolour or clear the screen or set the
window's title, and a character that turns the writing direction shows another name than the one that is there. Such
characters are printed as Python writes them, `\\x1b`.
"""

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except for tab and the end of a line
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # writing direction, no width, lines
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, tags
)
_ENDS = re.compile(r"[\t\n]")


def visible(text: str) -> str:
    """A text in which control characters and those that change the writing direction are written out."""
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: str) -> str:
    """The same, also without ends of lines: a value cannot begin a line that looks like one of ours."""
    return _ENDS.sub(lambda found: ascii(found.group())[1:-1], visible(text))


def say(line: str) -> None:
    """Print a line at once, also into a file or a pipe."""
    print(line, flush=True)


class FilteredStream:
    """A text stream that makes everything visible that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        shown = visible(text)
        try:
            self.unfiltered.write(shown)
        except UnicodeEncodeError:  # a terminal without these letters
            self.unfiltered.write(shown.encode("ascii", "backslashreplace").decode())
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


def filter_output() -> None:
    """Filter what this process prints from now on, log lines included; calling it again changes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, FilteredStream):
            setattr(sys, name, FilteredStream(stream))


def unfiltered(stream: Any) -> Any:
    """The stream below the filter, for output of our own that moves the cursor."""
    return getattr(stream, "unfiltered", stream)
