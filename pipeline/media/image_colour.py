"""Colours of still images: any mode and colour profile -> 8-bit sRGB."""

import io

import numpy as np
from PIL import Image, ImageCms

MODES = {"GRAY": ("L", "I;16"), "RGB": ("RGB",), "CMYK": ("CMYK",)}
"""Colour space of a profile -> the modes of the images that it describes."""

BAND = 4_000_000
"""Pixels that are converted at a time: the steps of a conversion hold several copies of them."""


def to_srgb(image: Image.Image) -> np.ndarray:
    """A decoded image of any mode -> (H,W,3) uint8 sRGB.

    A colour profile that describes the image's kind of colours is applied; a broken one is ignored, because the pixels
    are still good. Samples of 16 bits become 8 bits. Transparent pixels are placed over white.
    """
    profile, space = _profile(image.info.get("icc_profile"))
    width, height = image.size
    rows = max(1, BAND // width)
    if rows >= height or space == "GRAY":  # such a profile counts only if the image is grey as a whole
        return _srgb(image, profile, space)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _srgb(band, profile, space)
    return pixels


def _srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile | None, space: str) -> np.ndarray:
    if image.mode == "P" or (image.has_transparency_data and not image.mode.startswith("I")):
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = _converted(image if alpha is None else image.convert("RGB"), profile, space)
    if alpha is not None:
        colours = colours.convert("RGB")
        colours.putalpha(alpha)
        colours = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return np.asarray(colours.convert("RGB"))


def _profile(data: bytes | None) -> tuple[ImageCms.ImageCmsProfile | None, str]:
    """(the profile, its colour space as in MODES), or (None, "") without one that can be read."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data or b""))
        return profile, profile.profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError):  # also for a name that is not ASCII
        return None, ""


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile | None, space: str) -> Image.Image:
    """An image without alpha, whose colours were converted as `profile` says, if it can be applied."""
    if space == "GRAY" and image.mode == "1":
        image = image.convert("L")
    if space == "GRAY" and image.mode == "RGB" and _is_grey(image):  # with an alpha channel, grey is decoded to RGB
        image = image.getchannel("R")
    if image.mode.startswith("I") and space != "GRAY":
        image = _eight_bits(image)
    if space == "RGB" and image.mode in ("1", "L"):  # photo editors leave the profile when they make a picture grey
        image = image.convert("RGB")
    if profile is None or image.mode not in MODES.get(space, ()):
        return _eight_bits(image)
    try:
        srgb = ImageCms.createProfile("sRGB")
        if space == "GRAY":
            return _by_table(image, profile, srgb)
        return ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return _eight_bits(image)


def _by_table(image: Image.Image, profile: ImageCms.ImageCmsProfile, srgb: ImageCms.core.CmsProfile) -> Image.Image:
    """A grey image in sRGB, by converting each possible level once.

    LittleCMS's fast way for whole grey images is up to ten levels too dark near black if the profile's curve is
    straight, and the exact one takes seconds for a large image.
    """
    levels = np.asarray(image)
    every = Image.fromarray(np.arange(np.iinfo(levels.dtype).max + 1, dtype=levels.dtype)[None])
    exact = ImageCms.Flags.NOOPTIMIZE
    table = ImageCms.profileToProfile(every, profile, srgb, outputMode="RGB", flags=exact)
    return Image.fromarray(np.asarray(table)[0][levels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey is scaled, which Pillow would clip at 255; any other image is returned as it is."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, dtype=np.float32) / 257).round().clip(0, 255).astype(np.uint8))


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = (channel.tobytes() for channel in image.split())
    return red == green == blue
