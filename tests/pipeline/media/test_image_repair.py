"""Files with a fault that does not touch their pixels are read, and those that lack pixels are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.image import load_image
from tests import media

PICTURE = Image.open(media.PORTRAIT).convert("RGB").resize((120, 104))
END = b"\xff\xd9"

JPEGS = {
    "sequential": media.picture_of(PICTURE, "JPEG"),
    "progressive": media.picture_of(PICTURE, "JPEG", progressive=True),
    "with restart markers": media.picture_of(PICTURE, "JPEG", restart_marker_blocks=3),
    "4:4:4": media.picture_of(PICTURE, "JPEG", subsampling=0),
    "grey": media.picture_of(PICTURE.convert("L"), "JPEG"),
    "ink": media.picture_of(PICTURE.convert("CMYK"), "JPEG"),
}
PNG = media.picture_of(PICTURE, "PNG")


def refusal(data):
    with pytest.raises(ClipError) as caught:
        load_image(data, Limits())
    assert caught.value.code == "image_unreadable"
    return caught.value.message


def outcome(data):
    """(pixels, "") or (None, the message)."""
    try:
        return load_image(data, Limits()), ""
    except ClipError as error:
        return None, error.message


@pytest.fixture(params=JPEGS)
def jpeg(request):
    """A whole JPEG without its end marker, and its pixels."""
    data = JPEGS[request.param]
    return data.removesuffix(END), load_image(data, Limits())


@pytest.mark.parametrize("tail", [b"", b"\xff", END + b"vendor's data", bytes(3000)], ids=["", "half", "more", "zeros"])
def test_a_jpeg_whose_end_marker_is_cut_or_padded_is_whole(jpeg, tail):
    data, pixels = jpeg
    assert np.array_equal(load_image(data + tail, Limits()), pixels)


@pytest.mark.parametrize("tail", [b"", bytes(3000)], ids=["cut", "filled up with zeros"])
def test_a_jpeg_that_lacks_pixels_is_refused_wherever_it_is_cut(jpeg, tail):
    data, pixels = jpeg
    for missing in (5, 9, 30, 100, len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        found, message = outcome(data[:-missing] + tail)
        if found is not None:  # the last bytes may say nothing new
            assert missing < 10
            assert np.array_equal(found, pixels)
        else:
            assert "ends" in message
            assert "upload it again" in message


def test_the_message_says_where_the_picture_ends():
    data = JPEGS["sequential"]
    assert "missing from row 4" in (message := refusal(data[: int(len(data) * 0.6)]))
    assert "of 104 on" in message


def test_a_cut_jpeg_that_got_an_end_marker_is_refused():
    data = JPEGS["sequential"]
    assert "its picture is missing from row" in refusal(data[: len(data) // 2] + END)


def test_a_picture_that_is_mid_grey_at_its_end_is_no_cut_one():
    grey = np.full((96, 96, 3), 128, np.uint8)
    assert np.array_equal(load_image(media.picture(grey, "JPEG"), Limits()), grey)


def test_progressive_scans_that_are_missing_as_a_whole_are_missed():
    """The rest is a valid picture, only a coarser one."""
    data = JPEGS["progressive"]
    last_scan = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4", 0, last_scan)
    assert "before its picture is complete" in refusal(data[:tables])


def test_a_jpeg_that_is_too_large_is_refused_before_it_is_tried():
    with pytest.raises(ClipError) as caught:
        load_image(JPEGS["sequential"].removesuffix(END), Limits(max_image_megapixels=0.01))
    assert caught.value.code == "image_too_large"


def chunk(name, body, checksum=None):
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


@pytest.mark.parametrize("name", [b"tEXt", b"iCCP", b"gAMA", b"eXIf", b"prVt"])
def test_a_png_with_a_wrong_checksum_beside_its_pixels_is_read_without_that_chunk(name):
    assert np.array_equal(load_image(PNG[:33] + chunk(name, b"Title\0hello", 1) + PNG[33:], Limits()), PICTURE)


@pytest.mark.parametrize("missing", [4, 12, 16])
def test_a_png_without_its_end_is_whole(missing):
    assert np.array_equal(load_image(PNG[:-missing], Limits()), PICTURE)


def test_a_png_that_lacks_pixels_is_refused():
    for missing in (100, len(PNG) // 2):
        assert "the PNG file is damaged or incomplete" in refusal(PNG[:-missing])


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("declared", [0, 0xFFFFFFFF, 10])
def test_a_webp_with_a_wrong_length_in_its_first_header_is_whole(declared, lossless):
    data = media.picture_of(PICTURE, "WEBP", lossless=lossless)
    expected = load_image(data, Limits())
    wrong = data[:4] + struct.pack("<I", declared if declared != 10 else len(data) + 10) + data[8:]
    assert np.array_equal(load_image(wrong, Limits()), expected)
    assert np.array_equal(load_image(data + bytes(500), Limits()), expected)
    assert "the WebP file is damaged or incomplete" in refusal(wrong[:-20])


def test_pillows_own_words_reach_nobody():
    damaged = {name: data[:200] + bytes(40) + data[240:] for name, data in JPEGS.items()}
    damaged |= {"png": PNG[:200] + bytes(40) + PNG[240:], "short": PNG[:40], "jpeg": JPEGS["grey"][:150]}
    for data in damaged.values():
        _, message = outcome(data)
        assert not any(word in message for word in ("processed", "decoder", "stream", "image file is", "0x"))


def test_truncated_files_stay_errors_of_pillow():
    """A switch for the whole process would let other threads take half pictures for whole ones."""
    load_image(JPEGS["sequential"].removesuffix(END), Limits())
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(JPEGS["sequential"][:-200])).load()
