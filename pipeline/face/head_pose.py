"""Head pose: the 468 landmarks of a face, fitted to a canonical face mesh.

The mesh (`pipeline/face/face_models/canonical_mesh.npy`, (468,3) float32: x to the person's left, y up, z towards the
camera, in units of the distance between the outer eye corners) is our own. It was made from the landmarks of the demo's
photograph by making them symmetric, so that it looks straight ahead, and by putting the forehead (10) and the chin
(152) at the same depth, which defines level. Other faces fit it less well: yaw and roll stay accurate by symmetry, but
pitch is off by a few degrees.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

MESH = Path(__file__).parent / "face_models" / "canonical_mesh.npy"

RIGHT_EYE, LEFT_EYE = 33, 263
"""Outer eye corners; right and left are the person's own."""
FOREHEAD, CHIN = 10, 152

_CANONICAL = np.load(MESH)

# Landmarks that move little with speech: above the mouth, without brows and lids, selected by their canonical height.
_RIGID = np.flatnonzero(
    (_CANONICAL[:, 1] > _CANONICAL[2, 1]) & (np.abs(_CANONICAL[:, 1] - _CANONICAL[RIGHT_EYE, 1]) > 0.12)
)


@dataclass(frozen=True)
class Pose:
    """Pose of a head in degrees: 0, 0, 0 looks into the camera."""

    yaw: float
    """Positive if the face turns to the right of the image."""
    pitch: float
    """Positive if the face looks up."""
    roll: float
    """Positive if the head tilts clockwise, as seen."""


def _similarity(landmarks: np.ndarray) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Rotation (3,3), scale (pixels) and origin (x, y in pixels) that map the mesh to landmarks (468,3).

    x points right, y down and z away from the camera, in pixels. This is the best similarity transform by least squares
    (Umeyama 1991); FaceMesh's depth is that of a weak perspective camera.
    """
    found = landmarks[_RIGID] * (1.0, -1.0, -1.0)
    known = _CANONICAL[_RIGID].astype(np.float64)
    about, mean = found - found.mean(0), known.mean(0)
    u, spread, vt = np.linalg.svd(about.T @ (known - mean))
    flip = np.array([1.0, 1.0, np.linalg.det(u @ vt)])
    rotation = u @ np.diag(flip) @ vt
    scale = float((spread * flip).sum() / ((known - mean) ** 2).sum())
    x, y, _ = found.mean(0) - scale * rotation @ mean
    return rotation, scale, (float(x), float(-y))


def pose_of(landmarks: np.ndarray) -> Pose:
    """Angles of the rotation: yaw, then pitch, then roll."""
    r, _, _ = _similarity(landmarks)
    return Pose(*(float(np.degrees(angle)) for angle in _angles(r)))


def head_pose(landmarks: np.ndarray, side: float) -> np.ndarray:
    """Six numbers (6,) float32 for the position of a head: the input of a model with a pose condition, per frame.

    They are yaw, pitch and roll in radians, with the signs of `pose_of`; then x (right) and y (down) of the origin of
    the canonical mesh, relative to the centre of the square frame of `side` pixels; and the distance between the outer
    eye corners of the mesh. The last three are shares of `side`. They replace the rotation and translation of a 3DMM,
    which the paper uses and whose networks we may not distribute: the size stands for the depth.
    """
    rotation, scale, (x, y) = _similarity(landmarks)
    return np.array([*_angles(rotation), x / side - 0.5, y / side - 0.5, scale / side], dtype=np.float32)


def in_head(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (468,3) in pixels -> the same in the axes and the unit of the canonical mesh, whichever way the head is
    turned and however large it is.
    """
    rotation, scale, (x, y) = _similarity(landmarks)
    return (landmarks * (1.0, -1.0, -1.0) - (x, -y, 0.0)) @ rotation / scale


def _angles(r: np.ndarray) -> tuple[float, float, float]:
    pitch = np.arcsin(np.clip(r[1, 2], -1, 1))
    yaw, roll = np.arctan2(r[0, 2], r[2, 2]), np.arctan2(-r[1, 0], r[1, 1])
    return float(yaw), float(pitch), float(roll)


def canonical_mesh(landmarks: np.ndarray) -> np.ndarray:
    """The mesh computed from landmarks (468,3) of one face in pixels, as `detector` returns them.

    This is how ours was made.
    """
    points = landmarks.astype(np.float64) * (1.0, -1.0, -1.0)
    points -= points.mean(0)
    for _ in range(50):
        # Find each landmark's partner on the other side, and then half of the rotation between the face and its
        # mirror image.
        mirror = points * (-1.0, 1.0, 1.0)
        partner = ((points[:, None] - mirror[None]) ** 2).sum(-1).argmin(1)
        turn = _kabsch(points, mirror[partner])
        points = (points - points.mean(0)) @ _half(turn).T
        points[:, 0] -= (points[:, 0] - mirror[partner][:, 0]).mean() / 2
    symmetric = (points + points[partner] * (-1.0, 1.0, 1.0)) / 2
    down = symmetric[CHIN] - symmetric[FOREHEAD]
    angle = np.arctan2(down[2], -down[1])  # about x, until the forehead and the chin have the same depth
    cos, sin = np.cos(angle), np.sin(angle)
    level = symmetric @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T
    return (level / np.linalg.norm(level[LEFT_EYE] - level[RIGHT_EYE])).astype(np.float32)


def _kabsch(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd((onto - onto.mean(0)).T @ (points - points.mean(0)))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def _half(turn: np.ndarray) -> np.ndarray:
    """The rotation about the same axis by half the angle."""
    root = turn + np.eye(3)
    u, _, vt = np.linalg.svd(root)
    return u @ vt
