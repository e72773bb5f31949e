"""Head pose: the 468 landmarks of a face, fitted to a canonical face mesh.

The mesh (`pipeline/face/face_models/canonical_mesh.npy`, (468,3) float32: x to the person's left, y up, z towards the
camera, in distances between the outer corners of the eyes) is our own: the landmarks of the demo's photograph, made
symmetric, so that it looks straight ahead, with forehead (10) and chin (152) at the same depth, which says what level
means. Another face fits it less well: yaw and roll stay true by symmetry, pitch is off by some degrees.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

MESH = Path(__file__).parent / "face_models" / "canonical_mesh.npy"

RIGHT_EYE, LEFT_EYE = 33, 263
"""Outer corners; right and left are the person's own."""
FOREHEAD, CHIN = 10, 152

_CANONICAL = np.load(MESH)

# Landmarks that move little with speech: above the mouth, without brows and lids. By the canonical heights.
_RIGID = np.flatnonzero(
    (_CANONICAL[:, 1] > _CANONICAL[2, 1]) & (np.abs(_CANONICAL[:, 1] - _CANONICAL[RIGHT_EYE, 1]) > 0.12)
)


@dataclass(frozen=True)
class Pose:
    """Of a head, in degrees: 0, 0, 0 looks into the camera."""

    yaw: float
    """Positive where the face turns to the right of the picture."""
    pitch: float
    """Positive where it looks up."""
    roll: float
    """Positive where it leans clockwise, as seen."""


def _similarity(landmarks: np.ndarray) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Rotation (3,3), scale (pixels) and place of the origin (x, y in pixels) that take the mesh to landmarks (468,3).

    x right, y down, z away from the camera, in pixels. The best similarity in the least squares sense (Umeyama 1991);
    FaceMesh's depth is that of weak perspective.
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
    """Angles of the rotation, first yaw, then pitch, then roll."""
    r, _, _ = _similarity(landmarks)
    return Pose(*(float(np.degrees(angle)) for angle in _angles(r)))


def head_pose(landmarks: np.ndarray, side: float) -> np.ndarray:
    """Six numbers (6,) float32 that say where a head is: what a model with pose condition takes for each frame.

    Yaw, pitch and roll in radians, as `pose_of` signs them; then x (right) and y (down) of the canonical mesh's origin
    from the middle of the square picture of `side` pixels, and the distance between the eyes' outer corners as the
    mesh has it, all three in shares of `side`. They stand for the rotation and translation of a 3DMM, which the paper
    takes and whose networks are not ours to ship: depth is told by the size.
    """
    rotation, scale, (x, y) = _similarity(landmarks)
    return np.array([*_angles(rotation), x / side - 0.5, y / side - 0.5, scale / side], dtype=np.float32)


def _angles(r: np.ndarray) -> tuple[float, float, float]:
    pitch = np.arcsin(np.clip(r[1, 2], -1, 1))
    yaw, roll = np.arctan2(r[0, 2], r[2, 2]), np.arctan2(-r[1, 0], r[1, 1])
    return float(yaw), float(pitch), float(roll)


def canonical_mesh(landmarks: np.ndarray) -> np.ndarray:
    """The mesh from landmarks (468,3) of one face in pixels, as `detector` gives them: how ours was made."""
    points = landmarks.astype(np.float64) * (1.0, -1.0, -1.0)
    points -= points.mean(0)
    for _ in range(50):
        # Each landmark's partner on the other side; then the half of the turn between the face and its mirror image.
        mirror = points * (-1.0, 1.0, 1.0)
        partner = ((points[:, None] - mirror[None]) ** 2).sum(-1).argmin(1)
        turn = _kabsch(points, mirror[partner])
        points = (points - points.mean(0)) @ _half(turn).T
        points[:, 0] -= (points[:, 0] - mirror[partner][:, 0]).mean() / 2
    symmetric = (points + points[partner] * (-1.0, 1.0, 1.0)) / 2
    down = symmetric[CHIN] - symmetric[FOREHEAD]
    angle = np.arctan2(down[2], -down[1])  # about x, until forehead and chin are at one depth
    cos, sin = np.cos(angle), np.sin(angle)
    level = symmetric @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T
    return (level / np.linalg.norm(level[LEFT_EYE] - level[RIGHT_EYE])).astype(np.float32)


def _kabsch(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd((onto - onto.mean(0)).T @ (points - points.mean(0)))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def _half(turn: np.ndarray) -> np.ndarray:
    """The rotation about the same axis by half of the angle."""
    root = turn + np.eye(3)
    u, _, vt = np.linalg.svd(root)
    return u @ vt
