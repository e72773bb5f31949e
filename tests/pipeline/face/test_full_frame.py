"""The size of a full frame, where the square lies in it, and the mask."""

from fractions import Fraction

import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.face.crop import crop_square
from pipeline.face.full_frame import OUTER, FrameSize, FullFrame, full_frame, mask, reach
from tests import media

BOX = (40.0, 30.0, 90.0, 80.0)
"""Its square: 80 px, from (25, 15) on."""


def image(width, height):
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(200, 120), (201, 120), (200, 121), (201, 121)])
def test_in_its_own_size_a_picture_keeps_its_pixels_and_loses_an_odd_column_or_row(width, height):
    full = full_frame(image(width, height), BOX, FrameSize())
    assert (full.width, full.height) == (200, 120)
    assert (full.picture == image(width, height)[:120, :200]).all()
    assert full.square == (25.0, 15.0, 80.0)


@pytest.mark.parametrize(
    ("size", "expected", "square"),
    [
        (FrameSize(width=160), (160, 96), (20, 12, 64)),
        (FrameSize(height=240), (400, 240), (50, 30, 160)),
        (FrameSize(width=160, height=160), (160, 96), (20, 12, 64)),
        (FrameSize(width=400, height=120), (200, 120), (25, 15, 80)),
        (FrameSize(width=100, height=100, pad=True), (100, 100), (12.5, 27.5, 40)),
        (FrameSize(width=240, height=120, pad=True), (240, 120), (45, 15, 80)),
    ],
)
def test_other_sizes_keep_the_aspect_ratio_and_move_the_square_with_the_picture(size, expected, square):
    full = full_frame(image(200, 120), BOX, size)
    assert (full.width, full.height) == expected
    assert full.square == pytest.approx(square)


def test_bars_are_black_and_the_picture_lies_between_them():
    full = full_frame(np.full((120, 200, 3), 90, np.uint8), BOX, FrameSize(width=200, height=160, pad=True))
    assert not full.picture[:20].any()
    assert not full.picture[140:].any()
    assert (full.picture[20:140] == 90).all()


def test_a_scaled_picture_shows_the_same_place_in_its_square():
    """The crop of the scaled picture is the crop of the picture."""
    source = media.colours()
    height, width = source.shape[:2]
    box = (0.3 * width, 0.3 * height, 0.6 * width, 0.3 * height + 0.3 * width)
    full = full_frame(source, box, FrameSize(width=(width // 2 * 3) // 2 * 2))
    left, top, side = full.square
    again = crop_square(full.picture, (left, top, left + side, top + side), 64, scale=1.0).astype(int)
    assert np.abs(again - crop_square(source, box, 64)).mean() < 2


@pytest.mark.parametrize(
    ("width", "height", "size", "said"),
    [
        (2000, 80, FrameSize(width=640), "640 x 24"),
        (9000, 300, FrameSize(), "9000 x 300"),
        (4000, 3000, FrameSize(), "4000 x 3000"),
        (2600, 2000, FrameSize(fps=Fraction(120)), "at 120 frames/s may have 4.4 megapixels"),
    ],
)
def test_a_frame_that_no_video_can_have_is_refused_with_its_size(width, height, size, said):
    with pytest.raises(ClipError, match=said) as caught:
        full_frame(np.zeros((height, width, 3), np.uint8), (10.0, 10.0, 40.0, 40.0), size)
    assert caught.value.code == "frame_size_invalid"


def test_the_mask_covers_the_face_and_ends_inside_the_square():
    y, x = np.mgrid[:160, :160] + 0.5
    found = mask(x, y, (20.0, 30.0, 100.0))
    face = (np.abs(x - 70) < 31.25) & (np.abs(y - 80) < 31.25)  # its box, whose corners are no face
    assert found[face].min() > 0.9
    assert (found[face & (np.hypot(x - 70, y - 80) < 35)] == 1).all()
    assert not found[(np.abs(x - 70) > 50 * OUTER) | (np.abs(y - 80) > 50 * OUTER)].any()
    assert np.abs(np.diff(found, axis=0)).max() < 0.15  # no step


@pytest.mark.parametrize(
    "square", [(20.0, 30.0, 100.0), (-40.3, -20.7, 99.1), (120.5, 90.0, 90.0), (500.0, 500.0, 80.0)]
)
def test_the_region_holds_the_whole_mask_and_hardly_more(square):
    width, height = 180, 150
    left, top, right, bottom = reach(square, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert not any(edge % 2 for edge in (left, top, right, bottom))
    y, x = np.mgrid[:height, :width] + 0.5
    found = mask(x, y, square)
    inside = found[top:bottom, left:right]
    assert found.sum() == pytest.approx(inside.sum())
    assert (right - left) <= square[2]


def test_a_full_frame_knows_its_sides():
    assert (FullFrame(image(20, 10), (0, 0, 5)).width, FullFrame(image(20, 10), (0, 0, 5)).height) == (20, 10)
