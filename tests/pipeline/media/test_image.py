import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.image import ImageFile, load_image
from tests import media

COLOURS = media.colours()
NOISE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


def refusal(data, **limits):
    with pytest.raises(ClipError) as caught:
        load_image(data, Limits(**limits))
    return caught.value


def close(found, expected, most):
    """Same size, and no value further away than `most` of 255."""
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= most


# --- What is accepted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected", "most"),
    [
        (media.picture(NOISE), NOISE, 0),
        (media.picture(NOISE, mode="RGBA"), NOISE, 0),
        (media.picture(NOISE, "WEBP", lossless=True), NOISE, 0),
        (media.picture(COLOURS, "JPEG", quality=95, subsampling=0), COLOURS, 5),  # 4:4:4
        (media.picture(COLOURS, "JPEG", quality=95, subsampling=2), COLOURS, 8),  # 4:2:0
        (media.picture(COLOURS, "JPEG", mode="CMYK", quality=95), COLOURS, 5),
        (media.picture(COLOURS[..., 0], "JPEG", quality=95), COLOURS[..., [0, 0, 0]], 5),
        (media.picture(COLOURS // 128 * 255, mode="P", palette=0), COLOURS // 128 * 255, 0),
        (media.picture(COLOURS[..., 0] // 128 * 255, mode="1"), COLOURS[..., [0, 0, 0]] // 128 * 255, 0),
        (media.png16(COLOURS[..., 0].astype(np.uint16) * 257), COLOURS[..., [0, 0, 0]], 0),
        (media.png16(COLOURS.astype(np.uint16) * 257), COLOURS, 0),
    ],
    ids=["png", "rgba", "webp", "jpeg 444", "jpeg 420", "cmyk", "grey", "palette", "1 bit", "grey 16", "rgb 16"],
)
def test_every_kind_becomes_8_bit_rgb(data, expected, most):
    close(load_image(data, Limits()), expected, most)


def test_photograph_is_read_as_it_is():
    with Image.open(media.PORTRAIT) as image:
        np.testing.assert_array_equal(load_image(media.PORTRAIT.read_bytes(), Limits()), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "most"), [("PNG", 0), ("JPEG", 5), ("WEBP", 0)])
def test_exif_orientation_is_undone(kind, most, orientation):
    close(load_image(media.oriented(COLOURS, orientation, kind), Limits()), COLOURS, most)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0no tags at all", b"Exif\0\0MM\0*\0\0\0\x08\0\x05", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_read_is_ignored(kind, exif):
    data = media.picture(COLOURS, kind, exif=exif, **({} if kind == "PNG" else {"quality": 95}))
    assert np.abs(load_image(data, Limits()).astype(int) - COLOURS).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(kind):
    alpha = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (96, 1))
    data = media.picture(np.dstack([COLOURS, alpha]), kind, **({"lossless": True} if kind == "WEBP" else {}))
    share = alpha[..., None] / 255
    close(load_image(data, Limits()), np.round(COLOURS * share + 255 * (1 - share)), 1)


def test_transparent_palette_entry_becomes_white():
    indices = np.zeros((64, 64), np.uint8)
    indices[:, 32:] = 1
    image = Image.fromarray(indices, "L").convert("P")
    image.putpalette([200, 0, 0, 0, 0, 200])
    pixels = load_image(media.picture_of(image, "PNG", transparency=1), Limits())
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[0, -1].tolist() == [255, 255, 255]


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    data = media.picture_of(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(load_image(data, Limits()), NOISE)
    np.testing.assert_array_equal(load_image(data, Limits(), frame=2), 255 - NOISE)


def test_a_second_picture_in_a_cameras_jpeg_is_no_frame():
    """Phones append depth maps and other exposures."""
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    data = media.picture_of(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert ImageFile(data, Limits()).frames == 1
    close(load_image(data, Limits()), COLOURS, 8)


# --- What is refused -------------------------------------------------------------------------------------------

REFUSED = {
    "nothing": (b"", "image_unreadable"),
    "text renamed to .png": (media.TEXT, "image_unreadable"),
    "a sound": (media.SPEECH.read_bytes(), "image_unreadable"),
    "a GIF": (media.picture(COLOURS, "GIF"), "image_unreadable"),
    "half a PNG": (media.cut(media.PORTRAIT.read_bytes(), 0.5), "image_unreadable"),
    "half a JPEG": (media.cut(media.picture(NOISE, "JPEG"), 0.5), "image_unreadable"),
    "half a WebP": (media.cut(media.picture(NOISE, "WEBP"), 0.5), "image_unreadable"),
    "1 x 1": (media.picture(COLOURS[:1, :1]), "image_too_small"),
    "63 px wide": (media.picture(COLOURS[:, :63]), "image_too_small"),
    "damaged pixels": (media.huge_png(64, 64), "image_unreadable"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
def test_bad_image_is_rejected_with_its_code(data, code):
    error = refusal(data)
    assert (error.code, error.status) == (code, "rejected")
    assert " object at 0x" not in error.message


def test_huge_image_is_rejected_before_its_pixels_are_read():
    # The same damaged pixels as in "damaged pixels": reading them would have given image_unreadable.
    error = refusal(media.huge_png(20_000, 20_000))
    assert error.code == "image_too_large"
    assert "20000 x 20000" in error.message
    assert "limits.max_image_megapixels = 100" in error.message


def test_limits_are_inclusive_and_named():
    data = media.picture(COLOURS)  # 128 x 96 px
    load_image(data, Limits(min_image_side=96, max_image_megapixels=128 * 96 / 1e6))
    assert "at least 97 pixels" in refusal(data, min_image_side=97).message
    assert "limits.max_image_megapixels = 0.012" in refusal(data, max_image_megapixels=0.012).message
