"""How long MP4, Matroska and AVI files say they are: the sizes of their outermost parts. A cut upload is shorter."""

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pipeline.media.sound_parts import Bytes, FileBytes

BOXES = frozenset(b"ftyp styp moov mdat moof free skip wide sidx ssix uuid meta pnot udta prft emsg pdin".split())
"""Boxes at the top level of an MP4 or MOV file. `mfra` is not among them: a file lacks nothing without that index."""
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", 0x18538067
STEPS = 1_000_000
"""Most boxes that are followed."""


class Box(NamedTuple):
    """A box of an ISO base media file, such as MP4."""

    at: int
    """Its first byte."""
    stop: int
    """The byte after its end, which may be missing."""
    name: bytes


class Segment(NamedTuple):
    """The contents of a Matroska or WebM file."""

    at: int
    """First byte of the EBML header before it."""
    stop: int
    """The byte after its end, which may be missing; without a meaning if its size is not known."""
    known: bool
    """Whether its size is known, as that of a live recording is not."""


def is_cut_short(file: BinaryIO) -> bool:
    """Whether an MP4, MOV, Matroska, WebM or AVI file is shorter than its header declares.

    The position in the file is afterwards at its start.
    """
    data = FileBytes(file)
    head = data[:12]
    declared = 0
    if head[4:8] in BOXES:
        declared = max((box.stop for box in boxes(data)), default=0)
    elif head[:4] == EBML:
        declared = max((segment.stop for segment in segments(data) if segment.known), default=0)
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        declared = 8 + int.from_bytes(head[4:8], "little")
    file.seek(0, os.SEEK_SET)
    return declared > len(data)


def boxes(data: Bytes) -> Iterator[Box]:
    """The boxes of `BOXES` at the top level (ISO/IEC 14496-12, 4.2).

    A box has its size (4 bytes, big-endian) and its name; for size 1 the size follows in 8 bytes, and size 0 reaches to
    the end of the file.
    """
    at = 0
    for _ in range(STEPS):
        head = data[at : at + 16]
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or len(data) - at
        if len(head) < 8 or size < 8:
            return
        if name in BOXES:
            yield Box(at, at + size, name)
        at += size


def segments(data: Bytes) -> Iterator[Segment]:
    """The segments, each with its EBML header (RFC 8794). Those behind one of an unknown size are not found."""
    at = 0
    while (header := _element(data, at)) is not None:
        element = _element(data, header[1])
        if element is None or element[0] != SEGMENT:
            return
        _, stop, known = element
        yield Segment(at, stop, known)
        if not known or data[stop : stop + 4] != EBML:
            return
        at = stop


def _element(data: Bytes, at: int) -> tuple[int, int, bool] | None:
    """The element at a byte -> (ID, byte after its end, whether its size is known).

    A size whose bits are all ones is unknown; the end is then that of its header.
    """
    head = data[at : at + 12]
    if not head or not head[0] or head[0] < 16:
        return None
    length = 9 - head[0].bit_length()
    name, rest = int.from_bytes(head[:length], "big"), head[length:]
    if not rest or not rest[0]:
        return None
    width = 9 - rest[0].bit_length()
    size = int.from_bytes(rest[:width], "big") & ((1 << 7 * width) - 1)
    known = size != (1 << 7 * width) - 1
    return name, at + length + width + (size if known else 0), known
