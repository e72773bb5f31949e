"""Seams: motion is sampled in windows, and the borders between them are known."""

from typing import ClassVar

import numpy as np

from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery, Frame

FLOOR = 0.05
"""Added to the changes, out of 255: encoder noise in a still image is not motion."""


class Seams:
    """Compares the change between frames at window borders with the changes inside windows."""

    METRICS: ClassVar = (
        Metric(
            "qc_seam_z",
            "z",
            "Largest change between two frames at a window border, in robust standard deviations above the median of "
            "the changes inside windows (on a logarithmic scale).",
            above(review=4, fail=8),
            "measured: up to 3 without a jump; 4.9 for a jump of 2 % of the width, 6.6 for one of 6 %",
            "watch the frames at the seam; try another seed",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._borders = delivery.borders
        self._last: np.ndarray | None = None
        self.changes: list[float] = []
        """Mean absolute change of the luma between frames, out of 255; 0 for the first frame."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        # A quarter of the rows and columns is enough to measure motion, and a copy is needed because decoders reuse
        # memory.
        luma = frame.luma[::4, ::4].astype(np.int16)
        self.changes.append(0.0 if self._last is None else float(np.abs(luma - self._last).mean()))
        self._last = luma

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame; None for a clip with a single window."""
        changes = np.log(np.array(self.changes[1:]) + FLOOR)
        at_border = np.array([number in self._borders for number in range(1, len(self.changes))], dtype=bool)
        if not at_border.any() or at_border.all():
            return {"qc_seam_z": None}
        inside = changes[~at_border]
        median = float(np.median(inside))
        # 1.4826 turns the median deviation into that of a normal distribution; below 0.1 all changes are alike.
        spread = max(0.1, 1.4826 * float(np.median(np.abs(inside - median))))
        return {"qc_seam_z": round((float(changes[at_border].max()) - median) / spread, 2)}
