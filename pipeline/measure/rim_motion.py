"""The motion of the rim: how far what is at the mask's edge in a full frame is from its place in the picture.

Blocks of the original picture around the edge are looked for in the frames, with both reduced to 128 px.
"""

import math
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from pipeline.face.full_frame import INNER, OUTER, ROUNDNESS, FullFrame, Square, distance
from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.rim import EVERY, luma_of
from pipeline.measure.video_pass import Delivery, Frame

SIDE = 128
"""Side of the reduced square, px."""
BLOCKS, BLOCK = 24, 17
"""Number of blocks around the edge, and their side, px."""
REACH = 8
"""How far a block is looked for in each direction, px."""
PLACE = INNER + 0.02
"""Distance of the blocks' centres, as for `full_frame.INNER`: hardly anything of the picture is seen there yet."""
TEXTURE = 4.0
"""Variance of a block, in squared levels of 255, below which its place is not known."""
EFFORT = 0.5
"""Squared levels that a displacement of a pixel must make a block fit better: along an edge all places fit alike."""


class RimMotion:
    """Follows blocks at the mask's edge."""

    METRICS: ClassVar = (
        Metric(
            "qc_rim_motion",
            "share",
            "Full frames: mean displacement of what is at the mask's edge from its place in the picture, as a share of "
            "the square's side (95th percentile of the frames).",
            above(review=0.015, fail=0.04),
            "measured: at most 0.004 for the demo's portraits in four pictures, 0.016 to 0.023 without video.hold_rim",
            "watch neck and hair at the edge; raise video.hold_rim, or try another seed",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._square: Square | None = None
        self._motions: list[float] = []
        if delivery.full is None:
            return
        self._square = delivery.full.square
        source = _reduced(luma_of(delivery.full.picture), self._square)
        angles = np.arange(BLOCKS) * (2 * np.pi / BLOCKS)
        rays = np.stack([np.sin(angles), np.cos(angles)])
        rays /= (np.abs(rays) ** ROUNDNESS).sum(0) ** (1 / ROUNDNESS)
        self._starts = np.round(SIDE / 2 * (1 + PLACE * rays.T)).astype(int) - BLOCK // 2
        blocks = _blocks(source, self._starts, BLOCK)
        self._blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
        inside = _inside(delivery.full, self._starts)
        self._known = inside & ((self._blocks**2).mean(axis=(1, 2)) > TEXTURE)
        steps = np.arange(-REACH, REACH + 1)
        self._effort = EFFORT * (steps[:, None] ** 2 + steps**2)

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        if self._square is None or frame.number % EVERY or not self._known.any():
            return
        reduced = _reduced(frame.whole.luma.astype(np.float32), self._square)
        found = []
        for start, block, known in zip(self._starts, self._blocks, self._known, strict=True):
            if known:
                found.append(self._displacement(reduced, start, block))
        self._motions.append(float(np.mean(found)) / SIDE)

    def _displacement(self, reduced: np.ndarray, start: np.ndarray, block: np.ndarray) -> float:
        around = _blocks(reduced, start[None] - REACH, BLOCK + 2 * REACH)[0]
        candidates = sliding_window_view(around, block.shape)
        means = candidates.mean(axis=(2, 3))
        # The squared difference of two blocks without their means, by its three terms.
        power = np.einsum("ijkl,ijkl->ij", candidates, candidates) / block.size - means**2
        common = np.einsum("ijkl,kl->ij", candidates, block) / block.size
        cost = power - 2 * common + (block**2).mean() + self._effort
        y, x = np.unravel_index(int(cost.argmin()), cost.shape)
        down, across = int(y) + _vertex(cost[:, x], int(y)), int(x) + _vertex(cost[y], int(x))
        return math.hypot(down - REACH, across - REACH)

    def metrics(self) -> Measured:
        """Compute the metric after the last frame; None for a clip that is the square, or without texture."""
        return {"qc_rim_motion": round(float(np.percentile(self._motions, 95)), 4) if self._motions else None}


def _reduced(luma: np.ndarray, square: Square) -> np.ndarray:
    """The square of a frame (H,W) as (SIDE,SIDE) float32; beyond the border its pixels are repeated."""
    left, top, side = square
    first = [int(np.floor(start)) - 1 for start in (top, left)]
    rows, columns = (
        np.arange(start, start + int(side) + 4).clip(0, n - 1) for start, n in zip(first, luma.shape, strict=True)
    )
    part = Image.fromarray(luma[rows[:, None], columns].astype(np.float32))
    x, y = left - first[1], top - first[0]
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BOX, box=(x, y, x + side, y + side)))


def _blocks(image: np.ndarray, starts: np.ndarray, side: int) -> np.ndarray:
    """(n,side,side) of an image (S,S) whose border is repeated."""
    rows, columns = ((starts[:, i, None] + np.arange(side)).clip(0, len(image) - 1) for i in (0, 1))
    return image[rows[:, :, None], columns[:, None, :]]


def _inside(full: FullFrame, starts: np.ndarray) -> np.ndarray:
    """Which blocks lie within the frame, and where no other face of it is animated."""
    left, top, side = full.square
    y, x = (start + side / SIDE * (starts[:, i] + BLOCK / 2) for i, start in ((0, top), (1, left)))
    inside = (x > 0) & (x < full.width) & (y > 0) & (y < full.height)
    for other in full.others:
        inside &= distance(x, y, other) > OUTER
    return np.asarray(inside)


def _vertex(values: np.ndarray, top: int) -> float:
    """Position of the minimum between samples, by a parabola through the least and its neighbours."""
    if not 0 < top < len(values) - 1:
        return 0.0
    before, here, after = values[top - 1 : top + 2]
    bend = before - 2 * here + after
    return float((before - after) / (2 * bend)) if bend > 0 else 0.0
