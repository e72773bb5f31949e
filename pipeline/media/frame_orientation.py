"""Frames of other people's videos as a viewer sees them: upright, with square pixels, and with the right colours."""

from fractions import Fraction

import av
import numpy as np

UNSPECIFIED, BT709 = 2, 1
"""Colour matrices of ITU-T H.273."""
HD_LINES = 720
"""Frames without a declared colour matrix use BT.709 from this height on, as in players, and otherwise BT.601."""


def upright_size(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of a frame after it is turned upright and its pixels are made square."""
    width, height = frame.width, frame.height
    if aspect and aspect != 1:  # stretch rather than shrink, so that nothing is lost
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return (height, width) if round(frame.rotation / 90) % 2 else (width, height)


def upright(frame: av.VideoFrame, size: tuple[int, int], interpolation: str | None = None) -> np.ndarray:
    """The frame scaled to `size` (width and height when upright): (H,W,3) uint8 RGB."""
    turn = round(frame.rotation / 90)
    width, height = size[::-1] if turn % 2 else size
    guess = BT709 if frame.colorspace == UNSPECIFIED and frame.height >= HD_LINES else None
    rgb = frame.reformat(
        width=width, height=height, format="rgb24", src_colorspace=guess, interpolation=interpolation, threads=1
    )
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turn))
