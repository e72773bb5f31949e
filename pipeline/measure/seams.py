"""Seams: motion is sampled in windows, and we know where they meet."""

from typing import ClassVar

import numpy as np

from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery, Frame

FLOOR = 0.05
"""Of 255, added to the changes: noise of the encoder in a picture that stands still is no motion."""


class Seams:
    """The change of the picture at the borders of windows, against the changes inside."""

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
        """Mean |change| of the luma from frame to frame, of 255; 0 for the first."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        # A quarter of the lines and columns says as much about motion, and a copy is needed: decoders reuse memory.
        luma = frame.luma[::4, ::4].astype(np.int16)
        self.changes.append(0.0 if self._last is None else float(np.abs(luma - self._last).mean()))
        self._last = luma

    def metrics(self) -> Measured:
        """After the last frame; None for a clip of one window."""
        changes = np.log(np.array(self.changes[1:]) + FLOOR)
        at_border = np.array([number in self._borders for number in range(1, len(self.changes))], dtype=bool)
        if not at_border.any() or at_border.all():
            return {"qc_seam_z": None}
        inside = changes[~at_border]
        median = float(np.median(inside))
        # 1.4826 makes the median deviation that of a normal distribution; below 0.1 all changes are alike.
        spread = max(0.1, 1.4826 * float(np.median(np.abs(inside - median))))
        return {"qc_seam_z": round((float(changes[at_border].max()) - median) / spread, 2)}
