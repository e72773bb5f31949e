"""WAV, RF64 and Wave64: where the samples lie, whatever the header says of their size.

Programs that write a WAV into a pipe cannot know its size and write another number, and some leave a stale number
behind. A number that a program has counted differs from one that it has made up:

- it is a whole number of sample blocks,
- it is not 0, not within a mebibyte of 2^31 or 2^32, and neither the size of the samples nor that of the file ends in
  eight decimal zeros or 24 binary ones. Among sizes that were counted, one in ten million is as round as that.
- the size of the file in the header is not smaller than that of the samples.

A file that is shorter than a size that was counted was cut. After any other size, the samples go on to the end of the
file, or to the next file behind it.
"""

import re
import struct
from dataclasses import dataclass
from fractions import Fraction

from pipeline.common.errors import ClipError
from pipeline.media.sound_parts import Bytes, Layout, Part, whole

SHORT_SECONDS = 0.1
"""Samples that may be missing at the end of a file, because no word is lost with them."""
KNOWN = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"JUNK", b"junk", b"PAD ", b"FLLR", b"_PMX", b"iXML")
"""Chunks that may follow the samples, and may even be cut."""
CHUNKS = 10_000
"""Most chunks that are followed."""
PLAIN = (1, 3, 0xFFFE)
"""Formats without compression."""
IGNORE = {"ignore_length": "1"}
"""FFmpeg then reads samples to the end of the bytes that it is given."""
_LETTER = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class _Samples:
    """Where the samples of one of the files in a file are."""

    first: int
    stop: int
    following: int | None = None
    """Where the next file starts."""
    counted: bool = True
    """Whether the header is right about their size."""
    per_second: int = 0
    """Bytes; 0 if they are compressed."""


def wav_layout(data: bytes) -> Layout:
    """Parts of a RIFF or RF64 file, and its length. Raises ClipError audio_truncated."""
    found = [_samples(data, 0)]
    while (start := found[-1].following) is not None:
        found.append(_samples(data, start))
    seconds = None
    if all(one.per_second for one in found):
        seconds = sum((Fraction(one.stop - one.first, one.per_second) for one in found), Fraction(0))
    if len(found) == 1 and found[0].counted:  # chunks behind the samples do no harm then
        return Layout(whole(data), seconds)
    starts = [0, *(one.following for one in found if one.following is not None)]
    parts = [
        Part(((start, one.stop),), {} if one.counted else IGNORE) for start, one in zip(starts, found, strict=True)
    ]
    return Layout(tuple(parts), seconds)


def is_wav(data: Bytes, at: int = 0) -> bool:
    """Whether a WAV file starts at this byte."""
    return data[at : at + 4] in (b"RIFF", b"RF64", b"BW64") and data[at + 8 : at + 12] == b"WAVE"


def _samples(data: bytes, start: int) -> _Samples:
    """Look at the file that starts at a byte."""
    at, block, rate, per_second, long_size = start + 12, 1, 0, 0, 0
    for _ in range(CHUNKS):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"data" or not _is_name(name):
            break
        if name == b"fmt " and at + 24 <= len(data):
            kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            plain = kind in PLAIN and block == channels * -(-bits // 8)
            per_second, block = rate * block if plain else 0, block or 1
        elif name == b"ds64":
            long_size = int.from_bytes(data[at + 16 : at + 24], "little")
        at += 8 + size + size % 2
    if name != b"data":
        return _Samples(len(data), len(data))  # FFmpeg finds that there are none
    first, riff = at + 8, int.from_bytes(data[start + 4 : start + 8], "little")
    if size == 0xFFFFFFFF and long_size:
        size, riff = long_size, 0
    available = len(data) - first
    if size > available:
        if is_counted(size, riff, block, first - start):
            _check_missing(data, size - available, first + size, rate * block)
            return _Samples(first, len(data), None, True, per_second)
    elif size and (following := _after(data, first + size)) is not None:
        return _Samples(first, first + size, following if following >= 0 else None, True, per_second)
    following = _next(data, first + size if size < available else first)
    return _Samples(first, len(data) if following is None else following, following, False, per_second)


def is_counted(size: int, riff: int, block: int, header: int) -> bool:
    """Whether sizes of the samples and of the file in a header were counted: see the top of this file."""
    if size % block or 0 < riff < size:
        return False
    for value in {size, size + 1, riff, riff + 1, riff + 8, riff - header + 8}:
        if value and (value % 10**8 == 0 or value % 2**24 == 0):
            return False
        if min(abs(value - 2**31), abs(value - 2**32)) < 2**20:
            return False
    return True


def _check_missing(data: bytes, missing: int, meant: int, per_second: int) -> None:
    if missing > max(64, SHORT_SECONDS * per_second):
        raise ClipError(
            "audio_truncated",
            f"the file has {len(data):,} bytes, but its header declares {meant:,} bytes: upload it again",
        )


def _after(data: bytes, at: int) -> int | None:
    """What follows the declared end of the samples: the start of another file, -1 for nothing, None for samples."""
    for here in (at, at + 1):  # some programs leave out the byte that makes sizes even
        if is_wav(data, here):
            return here
        end = _chunks(data, here)
        if end is not None:
            return end
    more = _LETTER.search(data, at)
    is_tag = more is not None and data[more.start() : more.start() + 3] in (b"TAG", b"ID3", b"APE")
    return -1 if more is None or is_tag or len(data) - more.start() < 8 else None


def _chunks(data: bytes, at: int) -> int | None:
    """Follow chunks: start of the next file, -1 if they reach the end of the file, None if these are no chunks."""
    for _ in range(CHUNKS):
        if at >= len(data):
            return -1
        if is_wav(data, at):
            return at
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if not _is_name(name):
            return None if _LETTER.search(data, at) else -1
        if at + 8 + size > len(data) + 1 and name not in KNOWN:
            return None
        at += 8 + size + size % 2
    return -1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= letter < 127 for letter in name)


def _next(data: bytes, start: int) -> int | None:
    at = start
    while (at := data.find(b"RIFF", at)) >= 0:
        if is_wav(data, at):
            return at
        at += 4
    return None


def wave64_layout(data: bytes) -> Layout:
    """Wave64 has 64-bit sizes, and identifiers of 16 bytes. Raises ClipError audio_truncated
    and audio_unreadable.
    """
    at, per_second = 40, 0
    while at + 24 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 16 : at + 24], "little")
        if name == b"fmt ":
            per_second = int.from_bytes(data[at + 32 : at + 36], "little")
        if name == b"data":
            missing = at + size - len(data)
            if missing > 0 and is_counted(size - 24, 0, 1, 0):
                _check_missing(data, missing, at + size, per_second)
            elif data.find(b"riff\x2e\x91", at + size) >= 0:
                text = "several Wave64 files were written one after the other: export them as one file"
                raise ClipError("audio_unreadable", text)
            break
        if size < 24:
            break
        at += size + -size % 8
    return Layout(whole(data))
