"""Whether a container file is whole: its header says how long it must be, and an interrupted upload is shorter."""

import os
from typing import BinaryIO

TOP_BOXES = frozenset(
    b"ftyp styp moov mdat free skip wide moof mfra sidx ssix uuid meta pnot udta prft emsg pdin".split()
)
"""Boxes at the top level of an MP4 or MOV file; what follows them with another name is not part of the film."""
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def declared_bytes(file: BinaryIO) -> int:
    """Length in bytes of an MP4, MOV, Matroska, WebM or AVI file according to its header; 0 if the header does not say.

    The position in the file is afterwards at its start.
    """
    try:
        file.seek(0)
        head = file.read(12)
        if head[4:8] in TOP_BOXES:
            return _boxes(file)
        if head[:4] == EBML:
            return _matroska(file)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return 8 + int.from_bytes(head[4:8], "little")
        return 0
    finally:
        file.seek(0)


def is_cut_short(file: BinaryIO) -> bool:
    """Whether a file is shorter than its header declares."""
    declared = declared_bytes(file)
    return declared > file.seek(0, os.SEEK_END) + file.seek(0)


def _boxes(file: BinaryIO) -> int:
    """End of the last box of an ISO base media file (ISO/IEC 14496-12, 4.2)."""
    place, end = 0, file.seek(0, os.SEEK_END)
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if head[4:8] not in TOP_BOXES or size == 0:  # 0: up to the end, however far that is
            break
        place += max(8, int.from_bytes(head[8:16], "big") if size == 1 else size)
    return place


def _matroska(file: BinaryIO) -> int:
    """End of the segment, which is the second element of the file (RFC 8794); 0 if it is a live recording."""
    file.seek(0)
    head = file.read(4096)
    size, length = _number(head, 4)
    start = 4 + length + size
    if head[start : start + 4] != SEGMENT:
        return 0
    size, length = _number(head, start + 4)
    return start + 4 + length + size if size != (1 << 7 * length) - 1 else 0


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Value and length in bytes of an EBML number of variable length."""
    first = data[place] if place < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[place : place + length], "big")
    return value & ((1 << 7 * length) - 1), length
