"""The whole picture as the frame of a video: its size, where the animated square lies in it, and how it fades out.

The square is the one that was cropped for the model (`pipeline.face.crop`): 1.6 times the size of the face's box,
around its centre. Its frames cover the picture completely around the face, and not at all at the square's own rim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.face.crop import square_of
from pipeline.face.networks import Box

Square = tuple[float, float, float]
"""Left, top and side of the animated square, px of the video; fractions are kept, and parts may lie outside."""

INNER, OUTER = 0.7, 0.97
"""Distances from the centre at which the square begins and ends to fade out, where 1 is the middle of its rim.

The face's box reaches to 0.625. What is between it and INNER is for hair and neck that move.
"""
ROUNDNESS = 4.0
"""Exponent of the norm by which distances are measured: 2 would be circles, and large ones squares. Corners of the
square show shoulders and background, which need not move.
"""

SMALLEST_SIDE = 64
LARGEST_SIDE = 8192
LARGEST_BLOCKS, BLOCKS_PER_SECOND = 36_864, 2_073_600
"""Macroblocks (16 x 16 pixels) of a frame and of a second that H.264 allows at level 5.2 (ITU-T H.264, table A-1)."""


@dataclass(frozen=True)
class FrameSize:
    """What the settings want of the frames' size; 0 stands for the picture's own width or height."""

    width: int = 0
    height: int = 0
    pad: bool = False
    """Whether frames have exactly this size, with black bars; otherwise they are the largest that fit into it."""
    fps: Fraction = Fraction(25)
    least: tuple[int, int] = (SMALLEST_SIDE, SMALLEST_SIDE)
    """Smallest width and height that the encoder takes."""


@dataclass(frozen=True, eq=False)
class FullFrame:
    """A picture in the size of the video, and the place of the animated square."""

    picture: np.ndarray
    """(H,W,3) uint8 RGB; H and W are even."""
    square: Square
    others: tuple[Square, ...] = ()
    """The squares of further faces of the clip, which are put into the picture after that, in this order."""

    @property
    def squares(self) -> tuple[Square, ...]:
        """All animated squares."""
        return (self.square, *self.others)

    @property
    def width(self) -> int:
        """Width of the video, px."""
        return int(self.picture.shape[1])

    @property
    def height(self) -> int:
        """Height of the video, px."""
        return int(self.picture.shape[0])


def full_frame(image: np.ndarray, box: Box | None, size: FrameSize, others: Sequence[Box] = ()) -> FullFrame:
    """The upright `image` (H,W,3) uint8 as a frame of `size`, with the square around the face's `box`, and around those
    of `others`.

    Without a box the whole image, which is a square then, is animated. In its own size the picture keeps its pixels: an
    odd last column or row is cut off, because a video with subsampled colours has even sides. In another size its
    aspect ratio stays, and less than two pixels are cut off. Raises ClipError frame_size_invalid for a frame that has
    too many or too few pixels.
    """
    height, width, _ = image.shape
    scale, inner, outer = _sizes(width, height, size)
    _check(*outer, size)
    whole = (0.0, 0.0, float(min(width, height)))
    squares = [square_of(box) if box is not None else whole, *map(square_of, others)]
    picture = image[: inner[1], : inner[0]]
    if scale != 1:
        seen = (0.0, 0.0, inner[0] / scale, inner[1] / scale)
        picture = np.asarray(Image.fromarray(image).resize(inner, Image.Resampling.LANCZOS, box=seen))
    x, y = ((outside - inside) // 4 * 2 for outside, inside in zip(outer, inner, strict=True))
    if inner != outer:
        frame = np.zeros((outer[1], outer[0], 3), np.uint8)
        frame[y : y + inner[1], x : x + inner[0]] = picture
        picture = frame
    placed = [(x + scale * left, y + scale * top, scale * side) for left, top, side in squares]
    return FullFrame(np.ascontiguousarray(picture), placed[0], tuple(placed[1:]))


def _sizes(width: int, height: int, wanted: FrameSize) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """By how much an image is scaled, and (width, height) of the picture and of the frame around it."""
    factors = [new / old for new, old in ((wanted.width, width), (wanted.height, height)) if new]
    scale = min(factors, default=1.0)
    # A side that was asked for is reached exactly, whatever the rounding of the division.
    inner = (_even(width * scale + 1e-6), _even(height * scale + 1e-6))
    padded = wanted.pad and wanted.width > 0 and wanted.height > 0
    return scale, inner, (wanted.width, wanted.height) if padded else inner


def _even(length: float) -> int:
    return 2 * int(length / 2)


def _check(width: int, height: int, size: FrameSize) -> None:
    wide, high = (max(SMALLEST_SIDE, side) for side in size.least)
    fps = size.fps
    if width < wide or height < high:
        raise ClipError(
            "frame_size_invalid",
            f"the full frame would have {width} x {height} pixels, and such a video needs {wide} x {high} or more: use "
            "a less oblong image or a larger video.width and video.height, or set frame to crop",
        )
    blocks = -(-width // 16) * -(-height // 16)
    if max(width, height) > LARGEST_SIDE or blocks > LARGEST_BLOCKS or blocks * fps > BLOCKS_PER_SECOND:
        most = min(LARGEST_BLOCKS, int(BLOCKS_PER_SECOND / fps)) * 256 / 1e6
        raise ClipError(
            "frame_size_invalid",
            f"the full frame would have {width} x {height} pixels, and a video at {float(fps):g} frames/s may have "
            f"{most:.1f} megapixels and {LARGEST_SIDE} pixels on a side, which is what players can decode: set "
            "video.width or video.height to scale it down, or set frame to crop",
        )


def distance(x: np.ndarray, y: np.ndarray, square: Square) -> np.ndarray:
    """How far points are from the centre of the square, where 1 is the middle of its rim; x and y in px broadcast."""
    left, top, side = square
    a, b = ((at - start) * (2 / side) - 1 for at, start in ((x, left), (y, top)))
    return (np.abs(a) ** ROUNDNESS + np.abs(b) ** ROUNDNESS) ** (1 / ROUNDNESS)


def mask(x: np.ndarray, y: np.ndarray, square: Square) -> np.ndarray:
    """Weight of the square's frames at points in px, 0 to 1: exactly 1 up to INNER and exactly 0 from OUTER on."""
    return fade(distance(x, y, square))


def mask_of_all(x: np.ndarray, y: np.ndarray, squares: Sequence[Square]) -> np.ndarray:
    """How much of points in px is animated by any of the squares, 0 to 1."""
    still = math.prod((1 - mask(x, y, square) for square in squares), start=np.ones(1))
    return np.asarray(1 - still) if len(squares) > 1 else mask(x, y, squares[0])


def fade(far: np.ndarray, start: float = INNER, end: float = OUTER) -> np.ndarray:
    """1 up to `start`, 0 from `end` on, and a smooth step between."""
    t = ((end - far) / (end - start)).clip(0, 1)
    return t * t * (3 - 2 * t)


def reach(square: Square, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that the mask covers in a frame of this size; even numbers.

    At least one block of two by two pixels, also if the square lies outside.
    """
    found = []
    for start, length in zip(square[:2], (width, height), strict=True):
        margin = (1 - OUTER) / 2 * square[2]
        first = 2 * math.floor((start + margin) / 2)
        last = 2 * math.ceil((start + square[2] - margin) / 2)
        first = min(max(0, first), length - 2)
        found.append((first, min(max(first + 2, last), length)))
    (left, right), (top, bottom) = found
    return left, top, right, bottom
