"""The face: whether there is one, its size, its position, its pose, and whether it blinks."""

from typing import ClassVar

import numpy as np

from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import LEFT_EYE, RIGHT_EYE, Pose, pose_of
from pipeline.measure.metric import Measured, Metric, above, below
from pipeline.measure.video_pass import Delivery, Frame

UPPER_LIP, LOWER_LIP = 13, 14
"""The middle of the inner edges of the lips."""
LIDS = (((159, 145), (33, 133)), ((386, 374), (263, 362)))
"""(upper and lower lid, both corners) of the right and of the left eye."""

LOOK_AGAIN = 5
"""Number of frames after which a lost face is searched for in the whole frame again."""

BLINK_DEPTH = 0.6
"""In a blink, both eyes are less open than this share of their median opening."""
BLINK_SECONDS = 0.5
"""Eyes that are closed for longer than this are closed, not blinking."""
ENOUGH_SECONDS = 20.0
"""Blinks are counted from this duration on, because people sometimes do not blink for ten seconds."""


class FaceTrack:
    """Tracks the largest face from frame to frame.

    Other checks read its curves, which are NaN where there is no face.
    """

    METRICS: ClassVar = (
        Metric(
            "qc_face_share",
            "share",
            "Share of the frames in which a face is detected.",
            below(review=1, fail=0.98),
            "a portrait shows its face in every frame; FaceMesh's own confidence threshold is 0.9",
            "check the worst frame; use a portrait taken from the front",
            by_model=True,
        ),
        Metric(
            "qc_face_size",
            "share",
            "Median height of the face, as a share of the frame height.",
            below(review=0.3, fail=0.15),
            "the crop makes it 0.5 to 0.65, and motion can shrink it",
            "crop the portrait more tightly, or set crop to auto",
            by_model=True,
        ),
        Metric(
            "qc_face_offset",
            "share",
            "Largest distance between the centre of the face and that of the frame, as a share of the frame width.",
            above(review=0.2, fail=0.35),
            "beyond 0.2 a face of the usual size touches the border",
            "try another seed, or lower e_cfg_scale",
            by_model=True,
        ),
        Metric(
            "qc_yaw_deg",
            "degrees",
            "Largest turn to the side (98th percentile of the frames), from landmarks fitted to a face mesh.",
            above(review=30, fail=50),
            "from about 50 degrees the far eye is hidden, and FaceMesh guesses",
            "try another seed; a portrait taken from the front turns less",
            by_model=True,
        ),
        Metric(
            "qc_pitch_deg",
            "degrees",
            "Largest nod, measured in the same way; off by a few degrees for faces unlike the mesh.",
            above(review=30, fail=45),
            "same limit as for the turn; speakers nod by 10 to 15 degrees",
            "try another seed",
            by_model=True,
        ),
        Metric(
            "qc_roll_deg",
            "degrees",
            "Largest tilt to the side, measured in the same way.",
            above(review=25, fail=40),
            "same limit as for the turn; people tilt by 10 degrees",
            "try another seed; straighten the portrait",
            by_model=True,
        ),
        Metric(
            "qc_blinks_per_minute",
            "1/min",
            f"Blinks per minute: both eyes are below {BLINK_DEPTH:g} of their median opening for less than "
            f"{BLINK_SECONDS:g} s. Measured for clips of {ENOUGH_SECONDS:g} s or more.",
            (*below(review=2), *above(review=60)),
            "people blink 15 to 30 times a minute while talking (Bentivoglio 1997: 26 on average)",
            "try another seed",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery, detector: FaceDetector) -> None:
        self._fps, self._detector = float(delivery.fps), detector
        self._face: Face | None = None
        self._since = LOOK_AGAIN
        self._rows: list[tuple[float, ...]] = []
        self.found = False
        """Whether the last frame has a face."""

    @property
    def face(self) -> Face | None:
        """The face of the last frame."""
        return self._face

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        if self._face is not None:
            self._face = self._detector.follow(frame.rgb, self._face)
            self._since = LOOK_AGAIN if self._face is None else 0
        if self._face is None and self._since >= LOOK_AGAIN:
            faces = self._detector.detect(frame.rgb)
            self._face = faces[0] if faces else None
            self._since = 0
        self._since += 1
        self.found = self._face is not None
        height, width = frame.luma.shape
        self._rows.append((np.nan,) * 8 if self._face is None else _measure(self._face, width, height))

    def _curve(self, column: int) -> np.ndarray:
        return np.array([row[column] for row in self._rows], dtype=np.float32)

    @property
    def mouth(self) -> np.ndarray:
        """(frames,) distance between the lips divided by that between the outer eye corners."""
        return self._curve(6)

    @property
    def poses(self) -> np.ndarray:
        """(frames, 3) yaw, pitch and roll in degrees."""
        return np.stack([self._curve(column) for column in (3, 4, 5)], axis=1)

    @property
    def centres(self) -> np.ndarray:
        """(frames, 2) position of the face relative to the centre of the frame, in shares of the frame's side."""
        return np.stack([self._curve(column) for column in (1, 2)], axis=1)

    @property
    def sizes(self) -> np.ndarray:
        """(frames,) height of the face as a share of the frame height."""
        return self._curve(0)

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""
        there = np.isfinite(self.sizes)
        if not there.any():
            return {metric.column: None for metric in self.METRICS} | {"qc_face_share": 0.0}
        yaw, pitch, roll = np.percentile(np.abs(self.poses[there]), 98, axis=0).tolist()
        return {
            "qc_face_share": round(float(there.mean()), 4),
            "qc_face_size": round(float(np.median(self.sizes[there])), 3),
            "qc_face_offset": round(float(np.linalg.norm(self.centres[there], axis=1).max()), 3),
            "qc_yaw_deg": round(yaw, 1),
            "qc_pitch_deg": round(pitch, 1),
            "qc_roll_deg": round(roll, 1),
            "qc_blinks_per_minute": self._blinks(),
        }

    def _blinks(self) -> float | None:
        eyes = self._curve(7)
        seconds = len(eyes) / self._fps
        if seconds < ENOUGH_SECONDS:
            return None
        closed = eyes < BLINK_DEPTH * np.nanmedian(eyes)  # false for NaN
        edges = np.flatnonzero(np.diff(np.concatenate([[0], closed.astype(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2]
        return round(60 * int((lengths < BLINK_SECONDS * self._fps).sum()) / seconds, 1)


def _measure(face: Face, width: int, height: int) -> tuple[float, ...]:
    points = face.landmarks
    x, y = face.centre
    pose: Pose = pose_of(points)
    return (
        face.height / height,
        x / width - 0.5,
        y / height - 0.5,
        pose.yaw,
        pose.pitch,
        pose.roll,
        mouth_opening(points),
        lid_opening(points),
    )


def mouth_opening(landmarks: np.ndarray) -> float:
    """Distance between the lips divided by that between the outer eye corners, both in 3-D, so that turning the head
    does not open the mouth.
    """
    return _distance(landmarks, UPPER_LIP, LOWER_LIP) / _distance(landmarks, RIGHT_EYE, LEFT_EYE)


def lid_opening(landmarks: np.ndarray) -> float:
    """Distance between the lids divided by the width of the eye, averaged over both eyes."""
    return float(np.mean([_distance(landmarks, *lids) / _distance(landmarks, *corners) for lids, corners in LIDS]))


def _distance(points: np.ndarray, one: int, other: int) -> float:
    return max(1e-6, float(np.linalg.norm(points[one] - points[other])))
