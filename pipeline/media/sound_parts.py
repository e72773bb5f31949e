"""Where the audio of a file lies in its bytes, and how long its container says that it is.

Most files are one part. Several WAV files or Ogg streams that were written one after the other are several parts, each
of which is decoded as a file of its own; tags and padding between the frames of MP3 and ADTS belong to no part.
"""

import bisect
import io
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO, Protocol


class Bytes(Protocol):
    """The bytes of a file, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class FileBytes:
    """An open file whose bytes are read when they are asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice, /) -> bytes:
        start, stop, _ = place.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


@dataclass(frozen=True)
class Part:
    """A piece of a file that is decoded as a file of its own."""

    ranges: tuple[tuple[int, int], ...]
    """First byte and the byte after the last one, of each run of bytes that belongs to it."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of FFmpeg's demuxer."""
    form: str | None = None
    """FFmpeg's name of the format, where a short part would not be recognised."""


@dataclass(frozen=True)
class Layout:
    """What is known of a file before it is decoded."""

    parts: tuple[Part, ...]
    seconds: Fraction | None = None
    """Length that the file itself states or that follows from its index; None if it states none."""
    problem: str = ""
    """What shows that bytes are missing, as a sentence without its end; empty if nothing does."""
    unsure: str = ""
    """What makes it possible that bytes are missing: the file states no length, and its end looks cut."""
    allowed: Fraction = Fraction(1, 10)
    """Seconds that may be missing at the end, because no word is lost with them."""
    share: Fraction = Fraction(0)
    """The same as a share of the length."""


def whole(data: Bytes) -> tuple[Part, ...]:
    """The file as one part."""
    return (Part(((0, len(data)),)),)


class Window(io.RawIOBase):
    """The bytes of a part as a file."""

    def __init__(self, data: Bytes, ranges: tuple[tuple[int, int], ...]) -> None:
        self._data, self._ranges, self._at = data, ranges, 0
        self._ends: list[int] = []
        for start, stop in ranges:
            self._ends.append((self._ends[-1] if self._ends else 0) + stop - start)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Position in the part."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the part."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes: `size` of them, or fewer at the end."""
        stop = self._ends[-1] if size < 0 else min(self._at + size, self._ends[-1])
        pieces = []
        while self._at < stop:
            number = bisect.bisect_right(self._ends, self._at)
            _start, end = self._ranges[number]
            first = end - (self._ends[number] - self._at)
            pieces.append(self._data[first : min(end, first + stop - self._at)])
            if not pieces[-1]:  # the file became shorter
                break
            self._at += len(pieces[-1])
        return b"".join(pieces)
