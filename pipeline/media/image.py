"""Still images: PNG, JPEG and WebP -> upright 8-bit sRGB, with Pillow (PyAV ignores EXIF, profiles and CMYK)."""

import io
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.image_colour import to_srgb
from pipeline.media.image_format import found_format
from pipeline.media.image_repair import may_end_early, mended_jpeg, mended_png, mended_webp
from pipeline.media.png_length import is_whole, may_be_whole

# Pillow's own guard is global and cannot be configured per job; `ImageFile` checks the size itself.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("PNG", "JPEG", "WEBP")

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP"}
"""End of a file's name -> the format that it promises."""

JPEG = b"\xff\xd8"
STARTS = {JPEG: "JPEG", b"\x89PNG": "PNG"}


def load_image(data: bytes, limits: Limits, name: str = "", frame: int = 1) -> np.ndarray:
    """Decode an image to (H,W,3) uint8 RGB.

    The EXIF orientation is applied, colour profiles and CMYK are converted to sRGB, 16-bit samples to 8 bits, and
    transparent pixels are placed over white. `frame` is the number of a frame of an animation, from 1. Faults that do
    not touch the pixels are mended (`pipeline.media.image_repair`). `name` is the file's name, for messages. Raises
    ClipError: image_unreadable, image_too_small, image_too_large.
    """
    return ImageFile(data, limits, name).pixels(frame)


class ImageFile:
    """An image file whose frames are decoded one by one. Raises ClipError like `load_image`."""

    def __init__(self, data: bytes, limits: Limits, name: str = "") -> None:
        self._name = name
        try:
            self._image = _first_frame(data, limits)
        except ClipError:
            raise
        except UnidentifiedImageError:
            mended = mended_png(data)
            if mended is None:
                raise self._unknown(data) from None
            self._image = self._again(mended, limits)
        except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
            self._image = self._again(self._mended(data), limits)

    @property
    def frames(self) -> int:
        """Number of frames of an animation; 1 for a still image.

        A camera's JPEG may contain more pictures, such as a depth map, which are not frames.
        """
        return int(getattr(self._image, "n_frames", 1)) if self._image.format in ("PNG", "WEBP") else 1

    def pixels(self, frame: int = 1) -> np.ndarray:
        """Frame number `frame`, from 1, as (H,W,3) uint8 RGB."""
        try:
            if self._image.tell() != frame - 1:
                self._image.seek(frame - 1)
                self._image.load()
            return to_srgb(_as_tagged(self._image))
        except Exception as error:
            raise ClipError(
                "image_unreadable", f"frame {frame} of the image is damaged: export the image again"
            ) from error

    def _again(self, data: bytes, limits: Limits) -> Image.Image:
        try:
            return _first_frame(data, limits)
        except ClipError:
            raise
        except Exception as error:
            raise _damaged(data) from error

    def _mended(self, data: bytes) -> bytes:
        try:
            mended = mended_jpeg(data) if data.startswith(JPEG) else mended_png(data) or mended_webp(data)
        except ClipError:
            raise
        except Exception as error:
            raise _damaged(data) from error
        if mended is None:
            raise _damaged(data)
        return mended

    def _unknown(self, data: bytes) -> ClipError:
        what, advice = found_format(data)
        suffix = PurePosixPath(self._name).suffix.lower()
        promised = SUFFIXES.get(suffix)
        though = f", though its name ends in {suffix}" if promised and not what.startswith(f"a {promised} ") else ""
        return ClipError("image_unreadable", f"the file is {what}{though}: {advice}")


def _first_frame(data: bytes, limits: Limits) -> Image.Image:
    """Open, check and decode the first frame. Raises ClipError and what Pillow raises."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_size(*image.size, limits)
    if not may_be_whole(data):  # before there is memory for its pixels
        raise _damaged(data)
    image.load()
    if _ends_black(image) and not is_whole(data):
        raise _damaged(data)
    if data.startswith(JPEG) and may_end_early(data, image):
        mended_jpeg(data)
    return image


def _ends_black(image: Image.Image) -> bool:
    """Whether the last pixel has a zero, as where a PNG has no data; or that of the row before, if it is interlaced."""
    width, height = image.size
    return 0 in image.crop((width - 1, max(0, height - 2), width, height)).tobytes()


def _as_tagged(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF tag says; as it is if its EXIF cannot be read, because its pixels are still good."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
        return ImageOps.exif_transpose(image) if turned else image  # which would be a copy of a large image
    except Exception:  # Pillow raises SyntaxError, struct.error, ValueError, TypeError ...
        return image


def _damaged(data: bytes) -> ClipError:
    kind = next((kind for start, kind in STARTS.items() if data.startswith(start)), "WebP")
    return ClipError("image_unreadable", f"the {kind} file is damaged or incomplete: export or upload it again")


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
