"""Still images: PNG, JPEG and WebP -> upright 8-bit sRGB, with Pillow (PyAV ignores EXIF, profiles and CMYK)."""

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits

# Pillow's own guard is global and cannot be configured per job; `load_image` checks the size itself.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("PNG", "JPEG", "WEBP")


def load_image(data: bytes, limits: Limits) -> np.ndarray:
    """Decode an image to (H,W,3) uint8 RGB.

    The EXIF orientation is applied, colour profiles and CMYK are converted to sRGB, 16-bit samples to 8 bits,
    transparent pixels are placed over white, and only the first frame of an animation is used. Raises ClipError:
    image_unreadable, image_too_small, image_too_large.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        _check_size(width, height, limits)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except ClipError:
        raise
    except UnidentifiedImageError:
        raise ClipError(
            "image_unreadable", f"the file is not in one of the formats {', '.join(FORMATS)}: export it as one of them"
        ) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise ClipError(
            "image_unreadable", f"the file cannot be read as a {', '.join(FORMATS)} image ({error}): export it again"
        ) from error


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_image_megapixels * 1e6:
        raise ClipError(
            "image_too_large",
            f"{width} x {height} pixels exceed limits.max_image_megapixels = {limits.max_image_megapixels:g}: scale "
            "the image down",
        )
    if min(width, height) < limits.min_image_side:
        raise ClipError(
            "image_too_small",
            f"{width} x {height} pixels are too few: use an image of at least {limits.min_image_side} pixels on each "
            "side",
        )


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it to 255 instead of scaling
        grey = (np.asarray(image, dtype=np.float32) / 257).round().clip(0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data or image.mode == "P":
        image = image.convert("RGBA")
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
            image = converted or image
        except (ImageCms.PyCMSError, OSError):
            pass  # broken profiles are common, and the pixels are still good: treat them as sRGB
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
