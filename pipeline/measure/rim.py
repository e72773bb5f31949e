"""The rim: whether one can see in a full frame where the animated square ends.

Profiles of brightness are taken across the edge of the mask (`pipeline.face.full_frame`), from inside to outside, along
rays all around it: in the frames and in the original picture.
"""

import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipeline.face.full_frame import INNER, OUTER, ROUNDNESS, Square, distance
from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery, Frame

EVERY = 5
"""Interval in frames at which the rim is looked at."""
RAYS, SECTORS = 240, 8
"""Rays around the square, and parts of its rim that are compared with the picture on their own."""
START, END = INNER - 0.06, 1.06
"""The profiles begin and end at these distances, as for `full_frame.INNER`: what is wrong may also end at the square's
own rim.
"""
STEPS = 128
"""Steps of a profile per half side of a large square; in a small one, a step is a pixel."""
WIDE = 0.06
"""Gradients are taken over one step, where a cut shows, and over this distance, where a shift of colour shows. The
picture's own counts where it is within this distance, because an edge may move by that.
"""
FLOOR = 1.5
"""Added to both gradients, levels of 255: what is less is not seen, and coding changes an even area as much."""


class Rim:
    """Compares the surroundings of the mask's edge with the original picture."""

    METRICS: ClassVar = (
        Metric(
            "qc_seam_visibility",
            "",
            "Full frames: the largest gradient of brightness across the mask's edge, as a multiple of the picture's "
            f"own largest within {WIDE / 2:g} of the square, averaged over {SECTORS} parts of the edge (95th "
            "percentile of the frames).",
            above(review=1.1, fail=1.5),
            "measured: at most 1.06 for the demo's portraits in four pictures, up to 1.8 without video.hold_rim; 1.25 "
            "to 1.6 for a shift of colour by 8 levels, 2.1 and more for one with a hard edge",
            "watch the edge around the head; try another seed, or raise video.hold_rim",
            by_model=True,
        ),
        Metric(
            "qc_upscale",
            "",
            "Full frames: by how much the model's frames were enlarged to fit into the picture.",
            above(review=2),
            "twice as many pixels per side show the model's blur beside the picture's detail",
            "deliver a smaller frame (video.width), or use a model with larger frames",
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._upscale = delivery.upscale
        self.last: float | None = None
        """How visible the edge is in the frame that was taken last; None if it was not looked at."""
        self._seams: list[float] = []
        self._profiles: _Profiles | None = None
        if delivery.full is not None:
            full = delivery.full
            self._profiles = _Profiles(full.square, full.width, full.height, full.others)
            source = self._profiles.of(luma_of(full.picture))
            nearby = self._profiles.reaches[-1]
            self._own = [_nearby(gradient, nearby) for gradient in self._profiles.gradients(source)]

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        self.last = None
        if self._profiles is None or frame.number % EVERY:
            return
        seen = self._profiles.gradients(self._profiles.of(frame.whole.luma))
        found = [np.nanmean(_largest((one + FLOOR) / (own + FLOOR))) for one, own in zip(seen, self._own, strict=True)]
        self.last = float(max(found))
        self._seams.append(self.last)

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame; None for a clip that is the square."""
        seams = [seam for seam in self._seams if np.isfinite(seam)]
        return {
            "qc_seam_visibility": round(float(np.percentile(seams, 95)), 3) if seams else None,
            "qc_upscale": self._upscale,
        }


class _Profiles:
    """Where brightness is sampled: (steps,RAYS) points, NaN outside of the frame and where another face is animated."""

    def __init__(self, square: Square, width: int, height: int, others: Sequence[Square] = ()) -> None:
        left, top, side = square
        half = side / 2
        step = max(1 / half, 1 / STEPS)
        self.reaches = 1, max(2, round(WIDE / step))
        angles = np.arange(RAYS) * (2 * np.pi / RAYS)
        rays = np.stack([np.cos(angles), np.sin(angles)])
        rays /= (np.abs(rays) ** ROUNDNESS).sum(0) ** (1 / ROUNDNESS)  # each point of a row is equally far
        far = np.arange(START, END, step)[:, None]
        x, y = (start + half * (1 + far * ray) for start, ray in ((left, rays[0]), (top, rays[1])))
        self._outside = (x < 1) | (x > width - 1) | (y < 1) | (y > height - 1)
        for other in others:
            self._outside |= distance(x, y, other) < OUTER
        x, y = (x - 0.5).clip(0, width - 1.001), (y - 0.5).clip(0, height - 1.001)
        self._x, self._y = x.astype(int), y.astype(int)
        self._right, self._down = (x - self._x).astype(np.float32), (y - self._y).astype(np.float32)

    def of(self, luma: np.ndarray) -> np.ndarray:
        """The profiles of a frame (H,W), linear between pixels."""
        corners = [
            [luma[self._y + j, self._x + i].astype(np.float32) for i in (0, 1)]
            for j in (0, 1)
        ]  # fmt: skip
        rows = [left + self._right * (right - left) for left, right in corners]
        return np.where(self._outside, np.nan, rows[0] + self._down * (rows[1] - rows[0]))

    def gradients(self, profiles: np.ndarray) -> list[np.ndarray]:
        """For each reach, the mean change over it in each sector: (steps,SECTORS)."""
        found = []
        for reach in self.reaches:
            change = np.abs(profiles[reach:] - profiles[:-reach]).reshape(len(profiles) - reach, SECTORS, -1)
            known = np.isfinite(change).mean(2) > 0.5
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of sectors that are outside
                found.append(np.where(known, np.nanmean(change, axis=2), np.nan))
        return found


def luma_of(picture: np.ndarray) -> np.ndarray:
    """(H,W,3) uint8 RGB -> (H,W) float32, as in a file (BT.709 in limited range)."""
    return 16 + 219 / 255 * (picture.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32))


def _largest(values: np.ndarray) -> np.ndarray:
    """Per sector; NaN where there is nothing."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return np.nanmax(values, axis=0)


def _nearby(gradients: np.ndarray, steps: int) -> np.ndarray:
    """The largest gradient within so many steps of each place."""
    parts = [gradients[max(0, k - steps) : k + steps + 1] for k in range(len(gradients))]
    return np.stack([_largest(part) for part in parts])
