"""Picture files with a fault that does not touch their pixels: what is missing or wrong is set right.

A JPEG may lack its end marker, a PNG may have a wrong checksum in a chunk that is not about pixels, and a WebP may have
a wrong length in its first header. Viewers show such files whole. A file that really lacks pixels stays refused.
"""

import io
import re
import struct
import zlib

from PIL import Image

from pipeline.common.errors import ClipError

END = b"\xff\xd9"
"""JPEG's end marker."""

_FILLERS = (b"\xaa\x55" * 32, b"".join(bytes((0xFF, 0xD0 + n, *range(1, 64))) for n in range(8)) * 2)
"""What may stand for missing data, without and with restart markers. Without it, missing pixels become grey."""

_PADDING = 8  # zeros at the end of a file; fewer may belong to the picture

_STRIP = 64  # rows of pixels that are compared at a time

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd9]")
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # headers of sequential and progressive pictures
_SCAN = 0xDA

_PNG = b"\x89PNG\r\n\x1a\n"


def mended_jpeg(data: bytes) -> bytes:
    """A JPEG without its end -> the same with an end marker, if all of its pixels are there.

    Whether they are is tried: the data are continued in several ways, and no pixel may depend on it. Decodes the file
    three times. Raises ClipError image_unreadable if pixels are missing, and what Pillow raises if it is damaged.
    """
    body = _without_padding(data)
    if not _all_scans(body):
        raise ClipError("image_unreadable", "the JPEG file ends before its picture is complete: upload it again")
    first = _decoded(body + END)
    there = min(_same_rows(first, _decoded(body + filler + END)) for filler in _FILLERS)
    if there < first.height:
        raise ClipError(
            "image_unreadable",
            f"the JPEG file ends early: its picture is missing from row {there + 1} of {first.height} on; upload it "
            "again",
        )
    return body + END


def may_end_early(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG that was decoded without an error may lack pixels; `mended_jpeg` finds out.

    Its last corner is mid-grey, as the decoder fills what is missing, or the file ends with zeros instead of an end
    marker: they decode to something.
    """
    corner = image.crop((max(0, image.width - 4), max(0, image.height - 4), *image.size))
    if image.mode in ("L", "RGB") and set(corner.tobytes()) == {128}:
        return True
    return data.endswith(bytes(_PADDING)) and not data.rstrip(b"\0").endswith(END)


def mended_png(data: bytes) -> bytes | None:
    """A PNG without the chunks whose checksum is wrong and that are not about its pixels; None if there are none."""
    if not data.startswith(_PNG):
        return None
    kept, at, dropped = [_PNG], len(_PNG), False
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + size
        chunk, checksum = data[at + 4 : end - 4], data[end - 4 : end]
        wrong = chunk[:1].islower() and checksum != struct.pack(">I", zlib.crc32(chunk))
        if not wrong:
            kept.append(data[at:end])
        dropped |= wrong
        at = end
    return b"".join(kept) if dropped else None


def mended_webp(data: bytes) -> bytes | None:
    """A WebP whose first header has the length of the complete chunks; None if it had, or if there are none."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    at = 12
    while at + 8 <= len(data) and re.fullmatch(rb"[\x20-\x7e]{4}", data[at : at + 4]):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            break
        at += 8 + size + size % 2
    whole = data[:at].ljust(at, b"\0")  # the last byte may be padding
    mended = b"RIFF" + struct.pack("<I", at - 8) + whole[8:]
    return mended if at > 12 and mended != data else None


def _without_padding(data: bytes) -> bytes:
    """Without zeros that fill up a block at the end, and without the first or both bytes of an end marker."""
    body = data.rstrip(b"\0")
    if len(data) - len(body) < _PADDING:
        body = data
    elif body.endswith(b"\xff"):
        body += b"\0"
    return body.removesuffix(END).removesuffix(b"\xff")


def _all_scans(data: bytes) -> bool:
    """Whether every coefficient of every component is in a scan, to its last bit (a progressive JPEG has many scans).

    The data of the last scan may be incomplete.
    """
    wanted: set[tuple[int, int]] | None = None
    at = 2
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        size = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + size]
        if marker in (*_FRAMES, _SCAN) and len(body) < max(6, size - 2):
            return False
        if marker in _FRAMES:
            wanted = {(body[6 + 3 * i], k) for i in range(body[5]) for k in range(64)}
        elif marker == _SCAN:
            components, (low, high, bits) = body[1 : 1 + 2 * body[0] : 2], body[-3:]
            if wanted is not None and bits & 15 == 0:
                wanted -= {(component, k) for component in components for k in range(low, high + 1)}
        at += size
    return wanted is not None and not wanted


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return image


def _same_rows(one: Image.Image, other: Image.Image) -> int:
    """Number of rows from the top in which two images of the same size are equal."""
    width, height = one.size
    for top in range(0, height, _STRIP):
        boxes = [(0, row, width, row + 1) for row in range(top, min(top + _STRIP, height))]
        strip = (0, top, width, boxes[-1][3])
        if one.crop(strip).tobytes() != other.crop(strip).tobytes():
            return next(box[1] for box in boxes if one.crop(box).tobytes() != other.crop(box).tobytes())
    return height
