"""A PNG that ends before its last row is damaged, even if its compressed data end properly."""

import zlib

import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.image import load_image
from pipeline.media.png_length import is_whole, may_be_whole
from tests import media

SAID = "the PNG file is damaged or incomplete: export or upload it again"


def png(width, height, rows):
    return media._png(width, height, 8, 2, zlib.compress(rows))


ROW = b"\0" + bytes(range(96)) * 3


@pytest.mark.parametrize("rows", [0, 1, 60, 95])
def test_rows_that_are_missing_are_not_made_black(rows):
    with pytest.raises(ClipError, match=SAID):
        load_image(png(96, 96, ROW * rows), Limits())


def test_half_a_row_that_is_missing_is_noticed():
    with pytest.raises(ClipError, match=SAID):
        load_image(png(96, 96, ROW * 95 + ROW[:100]), Limits())


def test_all_rows_are_read_also_if_they_are_black_and_also_if_more_follow():
    assert load_image(png(96, 96, ROW * 96), Limits()).shape == (96, 96, 3)
    assert load_image(png(96, 96, bytes(289 * 96)), Limits()).max() == 0
    assert load_image(png(96, 96, ROW * 97), Limits()).shape == (96, 96, 3)


def test_a_few_bytes_that_claim_many_pixels_are_refused_before_they_take_memory(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ClipError, match=SAID):
        load_image(png(128, 524_384, ROW * 96), Limits())


def interlaced(rows):
    """64 x 64 grey pixels in the seven passes of Adam7, of which the last one has so many rows."""
    passes = [(8, 8), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32)]  # columns and rows
    data = b"".join((b"\0" + bytes([200]) * columns) * lines for columns, lines in passes)
    data += (b"\0" + bytes([200]) * 64) * rows
    body = bytearray(media._png(64, 64, 8, 0, zlib.compress(data)))
    body[28] = 1
    body[29:33] = zlib.crc32(bytes(body[12:29])).to_bytes(4, "big")
    return bytes(body)


def test_an_interlaced_image_without_its_last_rows_is_damaged_too():
    assert (load_image(interlaced(32), Limits()) == 200).all()
    for rows in (31, 1, 0):
        with pytest.raises(ClipError, match=SAID):
            load_image(interlaced(rows), Limits())


@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(97, 65), (64, 64), (70, 131)])
def test_every_kind_of_png_that_is_whole_counts_as_whole(kind, size):
    pixels = np.zeros(size, np.uint16) if kind == "I;16" else np.zeros((*size, 3), np.uint8)
    data = media.png16(pixels) if kind == "I;16" else media.picture(pixels, "PNG", kind)
    assert may_be_whole(data)
    assert is_whole(data)
