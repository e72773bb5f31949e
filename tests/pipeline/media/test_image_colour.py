"""Colour profiles against closed forms: the tone curve and the primaries, computed here, in floating point."""

import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.common.limits import Limits
from pipeline.media import image_colour
from pipeline.media.image import load_image
from pipeline.media.image_colour import to_srgb
from tests import media

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
COLOURS = media.colours()

DISPLAY_P3 = np.array([[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
GAMMAS = [1.0, 461 / 256, 563 / 256]  # 1, 1.8 and 2.2


def encoded(linear):
    """IEC 61966-2-1: linear light 0..1 -> 0..255 sRGB."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def loaded(data):
    return load_image(data, Limits()).astype(float)


def grey(levels):
    """(H,W) -> (H,W,3)."""
    return np.dstack([levels] * 3)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_grey_with_the_curve_of_its_profile(kind, gamma):
    options = {"PNG": {}, "JPEG": {"quality": 100}, "WEBP": {"lossless": True}}[kind]
    found = loaded(media.picture(RAMP, kind, icc_profile=media.grey_profile(gamma), **options))
    assert np.abs(found - grey(encoded((RAMP / 255) ** gamma))).max() < 2


@pytest.mark.parametrize("gamma", GAMMAS)
def test_16_bit_grey_with_the_curve_of_its_profile(gamma):
    """In steps too fine for 8 bits, because a straight curve spreads the first of them over 13 levels."""
    fine = np.tile(np.arange(0, 65536, 32).astype(np.uint16), (64, 1))
    found = loaded(with_profile(media.png16(fine), media.grey_profile(gamma)))
    assert np.abs(found - grey(encoded((fine / 65535) ** gamma))).max() < 1.5


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB", "1"])
def test_grey_in_another_mode_has_the_curve_of_its_profile(mode):
    levels = RAMP // 128 * 255 if mode == "1" else RAMP
    found = loaded(media.picture(levels, mode=mode, icc_profile=media.grey_profile(1.0)))
    assert np.abs(found - grey(encoded(levels / 255))).max() < 2


def test_transparent_grey_with_a_profile_is_laid_over_white():
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (1, 256))
    image = Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(alpha)))
    found = loaded(media.picture_of(image, "PNG", icc_profile=media.grey_profile(1.0)))
    share = alpha[..., None] / 255
    assert np.abs(found - (grey(encoded(RAMP / 255)) * share + 255 * (1 - share))).max() < 3


def test_16_bit_grey_without_a_profile_is_scaled():
    assert np.array_equal(loaded(media.png16(RAMP.astype(np.uint16) * 257)), grey(RAMP))


@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [(media.SRGB, 1.0), (DISPLAY_P3, 563 / 256), (ADOBE_RGB, 563 / 256)],
    ids=["s", "p3", "adobe"],
)
@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "alpha", "palette", "grey"])
def test_colours_with_the_primaries_and_the_curve_of_their_profile(kind, primaries, gamma):
    pixels = COLOURS // 86 * 85 if kind == "palette" else np.clip(COLOURS, 16, 240)
    if kind == "grey":  # photo editors leave the profile when they make a picture grey
        pixels = grey(pixels[..., 0])
    profile = media.rgb_profile(gamma, primaries)
    data = {
        "8 bit": lambda: media.picture(pixels, icc_profile=profile),
        "16 bit": lambda: with_profile(media.png16(pixels.astype(np.uint16) * 257), profile),
        "alpha": lambda: media.picture(pixels, mode="RGBA", icc_profile=profile),
        "palette": lambda: media.picture_of(Image.fromarray(pixels).quantize(64), "PNG", icc_profile=profile),
        "grey": lambda: media.picture(pixels[..., 0], icc_profile=profile),
    }[kind]()
    linear = (pixels / 255) ** gamma @ primaries @ np.linalg.inv(media.SRGB)
    assert np.abs(loaded(data) - encoded(linear)).max() < 2.5


def test_ink_with_a_profile():
    """Paper, cyan, and half of black, as a table of Lab colours says; JPEG stores ink inverted."""
    inks = np.zeros((64, 192, 4), np.uint8)
    inks[:, 64:128, 0] = 255
    inks[:, 128:, 3] = 128
    image = Image.fromarray(inks, "CMYK")
    found = loaded(media.picture_of(image, "JPEG", quality=100, icc_profile=ink_profile()))[32, [32, 96, 160]]
    assert np.abs(found - [srgb_of_lab(100, 0, 0), srgb_of_lab(60, -30, -40), srgb_of_lab(50, 0, 0)]).max() < 4


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile" * 20,
        media.rgb_profile()[:200],
        media.grey_profile(1.0),
        media.icc_profile(b"R\xffB ", b"XYZ ", {}),
    ],
    ids=["text", "cut", "of grey, for colours", "of a space without a name"],
)
def test_a_profile_that_cannot_be_applied_is_ignored(profile):
    assert np.array_equal(loaded(media.picture(COLOURS, icc_profile=profile)), COLOURS)


def with_profile(png, profile):
    """A PNG with a profile behind its header."""
    made = media.picture(RAMP, icc_profile=profile)
    at = made.index(b"iCCP") - 4
    return png[:33] + made[at : at + 12 + struct.unpack(">I", made[at : at + 4])[0]] + png[33:]


def ink_profile():
    """CMYK -> Lab by a table of the 16 full inks: cyan has a colour, the others are only darker, and black is black."""
    table = bytearray()
    for number in range(16):
        cyan, others, black = number & 8, number & 6, number & 1
        lab = (0, 0, 0) if black else (60, -30, -40) if cyan else (50, 0, 0) if others else (100, 0, 0)
        table += bytes((round(lab[0] * 2.55), lab[1] + 128, lab[2] + 128))
    identity = b"".join(struct.pack(">i", round(v * 65536)) for v in np.eye(3).ravel())
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    return media.icc_profile(b"CMYK", b"Lab ", {b"A2B0": lut})


def srgb_of_lab(lightness, a, b):
    """CIE Lab of D50 -> 0..255 sRGB."""
    f = np.array([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116, (lightness + 16) / 116 - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    return encoded(xyz @ np.linalg.inv(media.SRGB))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("space", ["", "RGB", "GRAY"])
def test_a_large_image_is_converted_in_bands_as_it_would_be_as_a_whole(mode, space, monkeypatch):
    profile = {"": None, "RGB": media.rgb_profile(gamma=2.5), "GRAY": media.grey_profile(1.5)}[space]
    if mode == "I;16":
        image = Image.fromarray(media.colours()[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(media.colours()).convert("RGB" if mode == "LA" else mode)
        image = image.convert("LA") if mode == "LA" else image
    image.info = {"icc_profile": profile} if profile else {}
    if mode == "P":
        image.info["transparency"] = 3
    whole = to_srgb(image)
    monkeypatch.setattr(image_colour, "BAND", 128 * 7)
    assert np.array_equal(to_srgb(image), whole)
