"""Head motion: how jerky and how wide it is, and how far the head drifts from the portrait's pose."""

from typing import ClassVar

import numpy as np

from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import pose_of
from pipeline.measure.metric import Measured, Metric, above, below
from pipeline.measure.video_pass import Delivery

DRIFT_SECONDS = 2.0
"""The drift is averaged over this time at the end."""


class Motion:
    """Metrics of the head pose curve."""

    METRICS: ClassVar = (
        Metric(
            "qc_jerk",
            "1000 degrees/s^3",
            "Root mean square of the third derivative of yaw, pitch and roll, smoothed over five frames.",
            above(review=12),
            "measured: 8 for a slowly swaying head, mostly from landmark noise; 15 for tilting by 10 degrees at 2 Hz",
            "watch the clip; try another seed",
            by_model=True,
        ),
        Metric(
            "qc_motion_range_deg",
            "degrees",
            "How far the head moves: the largest of the ranges (5 % to 95 %) of yaw, pitch and roll.",
            (*below(review=0.5), *above(review=50)),
            "measured: the landmarks of a still head with a moving mouth alone give 0.4",
            "watch the clip: the head does not move, or swings; another seed moves it differently",
            by_model=True,
        ),
        Metric(
            "qc_drift_deg",
            "degrees",
            "How far the head has turned away from the portrait's pose, averaged over the last two seconds.",
            above(review=25, fail=45),
            "motion is sampled window by window, so errors can add up",
            "try another seed; raise r_cfg_scale; shorten the clip",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery, detector: FaceDetector) -> None:
        self._fps = float(delivery.fps)
        faces = [] if delivery.portrait is None else detector.detect(delivery.portrait)
        pose = pose_of(faces[0].landmarks) if faces else None
        self._reference = None if pose is None else np.array([pose.yaw, pose.pitch, pose.roll])

    def metrics(self, poses: np.ndarray) -> Measured:
        """`poses` (frames,3) as returned by `FaceTrack`."""
        there = poses[np.isfinite(poses[:, 0])]
        measured: Measured = {"qc_jerk": None, "qc_motion_range_deg": None, "qc_drift_deg": None}
        if len(there) < self._fps:  # less than a second
            return measured
        smooth = np.stack([np.convolve(column, np.ones(5) / 5, mode="valid") for column in there.T], axis=1)
        jerk = np.diff(smooth, 3, axis=0) * self._fps**3
        low, high = np.percentile(there, [5, 95], axis=0)
        measured["qc_jerk"] = round(float(np.sqrt((jerk**2).sum(1).mean())) / 1000, 2)
        measured["qc_motion_range_deg"] = round(float((high - low).max()), 2)
        if self._reference is not None:
            end = there[-round(DRIFT_SECONDS * self._fps) :].mean(0)
            measured["qc_drift_deg"] = round(float(np.linalg.norm(end - self._reference)), 1)
        return measured
