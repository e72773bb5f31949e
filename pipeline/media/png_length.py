"""Whether a PNG has data for all of its pixels. Pillow takes what is there, and leaves the rest of the image black."""

import zlib
from collections.abc import Iterator

_START = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples per pixel."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of Adam7: first column and row, and steps between columns and rows."""
_MOST = 1032
"""Bytes that a byte of deflated data stands for at most."""
_CHUNK = 2**20


def may_be_whole(data: bytes) -> bool:
    """Whether a PNG may have data for all of its pixels: without decoding, and True for another file."""
    needed = _needed(data)
    return needed is None or needed <= _MOST * sum(map(len, _parts(data)))


def is_whole(data: bytes) -> bool:
    """Whether a PNG has data for all of its pixels, by decompressing them piece by piece; True for another file."""
    needed = _needed(data)
    if needed is None:
        return True
    stream = zlib.decompressobj()
    for part in _parts(data):
        while part and needed > 0:
            needed -= len(stream.decompress(part, _CHUNK))
            part = stream.unconsumed_tail
    return needed <= 0


def _needed(data: bytes) -> int | None:
    """Bytes of all rows, each with the byte of its filter; None for what is no PNG."""
    if not data.startswith(_START) or data[12:16] != b"IHDR" or data[25] not in _CHANNELS:
        return None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * _CHANNELS[data[25]]
    passes = _PASSES if data[28] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _parts(data: bytes) -> Iterator[bytes]:
    """The data of each chunk of pixels."""
    at = len(_START)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + size]
        at += 12 + size
