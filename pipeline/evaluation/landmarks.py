"""Landmarks compared: how far faces and mouths are from the reference's, and whether mouths open together."""

import numpy as np

from pipeline.face.head_pose import LEFT_EYE, RIGHT_EYE
from pipeline.measure.lip_correlation import SEARCH_SECONDS, correlation

MOUTH = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
"""FaceMesh's landmarks of the lips: outer edge, inner edge."""


def landmark_distance(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(LMD, M-LMD) of two faces' landmarks (468,2 or more), in distances between the outer corners of the eyes.

    Each face is divided by its own such distance, and its mean place is subtracted (for M-LMD that of the mouth): a
    larger picture, or a face elsewhere in it, changes nothing. Mean of the Euclidean distances of x and y.
    """
    one, other = _normal(generated), _normal(reference)
    mouth = list(MOUTH)
    return _distance(one, other), _distance(one[mouth], other[mouth])


def _normal(landmarks: np.ndarray) -> np.ndarray:
    points = landmarks[:, :2].astype(np.float64)
    return points / max(1e-6, float(np.linalg.norm(points[LEFT_EYE] - points[RIGHT_EYE])))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm((one - one.mean(0)) - (other - other.mean(0)), axis=1).mean())


def best_lag(generated: np.ndarray, reference: np.ndarray, fps: float) -> tuple[float, float] | None:
    """(Pearson's correlation, lag in ms) of two curves (frames,) of the mouth's opening, where they correlate best.

    Within 0.5 s either way; the lag is positive where the generated mouth is late, and good to a frame. NaN is a frame
    without a face. None where one of the mouths never moves.
    """
    if not all(np.nanstd(curve) > 1e-9 for curve in (generated, reference)):
        return None
    reach = round(SEARCH_SECONDS * fps)
    found = {lag: correlation(generated, reference, lag) for lag in sorted(range(-reach, reach + 1), key=abs)}
    best = max(found, key=lambda lag: found[lag])  # the shortest of equals
    return found[best], 1000 * best / fps
