"""Comparison of landmarks: how far faces and mouths are from the reference's, and whether the mouths open together."""

import numpy as np

from pipeline.face.head_pose import LEFT_EYE, RIGHT_EYE
from pipeline.measure.lip_correlation import SEARCH_SECONDS, correlation

MOUTH = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
"""FaceMesh landmarks of the lips: outer edge, inner edge."""


def landmark_distance(generated: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(LMD, M-LMD) of two faces' landmarks (468,2 or more), in distances between the outer eye corners.

    Each face is divided by its own such distance and centred (for M-LMD the mouth is centred), so a larger image or
    another position of the face does not matter. The result is the mean Euclidean distance in x and y.
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
    """(Pearson correlation, lag in ms) of two mouth opening curves (frames,) at the highest correlation.

    The lag is searched within 0.5 s in either direction. It is positive if the generated mouth is late, and accurate to
    one frame. NaN is a frame without a face. None if one of the mouths never moves.
    """
    if not all(np.nanstd(curve) > 1e-9 for curve in (generated, reference)):
        return None
    reach = round(SEARCH_SECONDS * fps)
    found = {lag: correlation(generated, reference, lag) for lag in sorted(range(-reach, reach + 1), key=abs)}
    best = max(found, key=lambda lag: found[lag])  # the shortest lag among equals
    return found[best], 1000 * best / fps
