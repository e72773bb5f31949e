"""Crop the square around a face from an image, and scale it to the size that a model expects."""

import math

import numpy as np
from PIL import Image

from pipeline.face.networks import Box

SCALE = 1.6
"""Side of the square around a face, as a multiple of the size of its box."""

_LANCZOS_REACH = 3  # number of input pixels that the filter weighs on each side of a point, if it does not shrink


def square_of(box: Box, scale: float = SCALE) -> tuple[float, float, float]:
    """Left, top and side of the square around the centre of `box`, whose side is `scale` times that of the box."""
    left, top, right, bottom = box
    side = scale * max(right - left, bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def crop_square(
    image: np.ndarray,
    box: Box,
    size: int,
    scale: float = SCALE,
) -> np.ndarray:
    """The square of side `scale * max(box width, box height)` around the centre of `box`.

    `image` is (H, W, 3) uint8. `box` is (left, top, right, bottom) in pixels, where (0, 0) is the outer corner of the
    first pixel; fractions are kept. Returns (size, size, 3) uint8.

    Where the square leaves the image, border pixels are repeated, as by `np.pad(mode="edge")`. A model would take a
    black bar for a part of the scene, and a mirrored border would put a second pair of eyes above a close forehead.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    x0, y0, side = square_of(box, scale)
    if size < 1 or not 0 < side < math.inf:
        raise ValueError(f"size and the side of the square must be positive, got {size} and {side} (box {box})")

    # The filter also weighs pixels just outside of the square, and more of them when it shrinks.
    margin = math.ceil(_LANCZOS_REACH * max(1.0, side / size)) + 1
    rows = np.arange(math.floor(y0) - margin, math.ceil(y0 + side) + margin)
    columns = np.arange(math.floor(x0) - margin, math.ceil(x0 + side) + margin)
    height, width, _ = image.shape
    patch = Image.fromarray(image[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)])
    x0, y0 = x0 - columns[0], y0 - rows[0]
    square = patch.resize((size, size), Image.Resampling.LANCZOS, box=(x0, y0, x0 + side, y0 + side))
    return np.array(square)
