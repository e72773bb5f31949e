import numpy as np
import pytest

from pipeline.face.crop import crop_square


def ramp(height, width):
    """Red rises by 2 per pixel to the right, green by 2 per pixel downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, np.full_like(x, 50)], axis=-1).astype(np.uint8)


def test_same_size_copies_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    crop = crop_square(image, (30.0, 20.0, 70.0, 50.0), size=40, scale=1.0)  # centre (50, 35), side 40
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, image[15:55, 30:70])


def test_side_is_scale_times_the_longer_side_around_the_centre():
    image = ramp(120, 120)
    tall = crop_square(image, (50.0, 40.0, 60.0, 80.0), size=64, scale=1.6)  # centre (55, 60), side 64
    np.testing.assert_array_equal(tall, image[28:92, 23:87])
    wide = crop_square(image, (40.0, 50.0, 80.0, 60.0), size=64)  # centre (60, 55), scale 1.6 by default
    np.testing.assert_array_equal(wide, image[23:87, 28:92])


@pytest.mark.parametrize("size", [20, 33, 80, 200])
def test_scaling_shifts_nothing(size):
    left, top, side = 30.25, 40.5, 40.0
    crop = crop_square(ramp(120, 120), (left, top, left + side, top + side), size, scale=1.0).astype(float)
    # Middles of the pixels of the crop, in pixels of the picture.
    middles = (np.arange(size) + 0.5) * side / size - 0.5
    red, green = crop[..., 0] / 2 - left, crop[..., 1] / 2 - top
    # The values are rounded to half a pixel, so a quarter is the best there is.
    assert np.abs(red - middles[None, :]).max() < 0.3
    assert np.abs(green - middles[:, None]).max() < 0.3


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_square(stripes, (0.0, 0.0, 400.0, 400.0), size=50, scale=1.0)
    inside = crop[:, 3:-3].astype(int)  # at the border its own column is repeated
    assert np.abs(inside - 127).max() <= 3


def test_border_pixels_are_repeated_like_np_pad():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    crop = crop_square(image, (0.0, 0.0, 30.0, 30.0), size=90, scale=3.0)  # from (-30, -30) to (60, 60)
    expected = np.pad(image, ((30, 20), (30, 0), (0, 0)), mode="edge")
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 2), (5, 30)])
def test_square_may_leave_the_image_by_many_times_its_size(shape):
    image = np.random.default_rng(2).integers(100, 256, (*shape, 3), dtype=np.uint8)
    crop = crop_square(image, (-20.0, -20.0, 20.0, 20.0), size=64, scale=1.6)  # from -32 to 32
    height, width = shape
    expected = np.pad(image, ((32, 32 - min(32, height)), (32, 32 - min(32, width)), (0, 0)), mode="edge")
    np.testing.assert_array_equal(crop, expected[:64, :64])
    assert crop.min() >= 100


def test_square_outside_the_image_shows_its_border():
    image = ramp(50, 50)
    beside = crop_square(image, (-40.0, 10.0, -20.0, 30.0), size=20, scale=1.0)
    np.testing.assert_array_equal(beside, np.repeat(image[10:30, :1], 20, axis=1))


def test_image_is_left_alone():
    image = ramp(20, 20)
    before = image.copy()
    crop_square(image, (5.0, 5.0, 15.0, 15.0), size=10, scale=1.0)[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "box", "size"),
    [
        (np.zeros((5, 5), np.uint8), (0.0, 0.0, 5.0, 5.0), 8),
        (np.zeros((5, 5, 3), np.float32), (0.0, 0.0, 5.0, 5.0), 8),
        (np.zeros((0, 5, 3), np.uint8), (0.0, 0.0, 5.0, 5.0), 8),
        (np.zeros((5, 5, 3), np.uint8), (3.0, 3.0, 3.0, 3.0), 8),
        (np.zeros((5, 5, 3), np.uint8), (0.0, 0.0, float("nan"), 5.0), 8),
        (np.zeros((5, 5, 3), np.uint8), (0.0, 0.0, 5.0, 5.0), 0),
    ],
)
def test_nonsense_is_refused(image, box, size):
    with pytest.raises(ValueError, match="must be"):
        crop_square(image, box, size)
