"""Teeth, throat, clothes and the curtain of long hair: surfaces that the head's mesh does not have."""

from dataclasses import dataclass

import numpy as np

from pipeline.research.corpus.head import Head, posed, rotations, shift
from pipeline.research.corpus.look import Look
from pipeline.research.corpus.units import ARKIT

_JAW = [ARKIT.index(name) for name in ("jawForward", "jawLeft", "jawRight", "jawOpen")]
_ARC = np.linspace(-1.2, 1.2, 17)  # radians, of a row of teeth


@dataclass(frozen=True, eq=False)
class _Surface:
    kind: str
    """Of `shaders.FRAGMENTS`."""
    points: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    own: np.ndarray
    """Coordinates from which its shader computes the colours."""


class Extras:
    """The extras of one person."""

    def __init__(self, head: Head, look: Look) -> None:
        lips = head.rest[head.mesh.lips]
        self._jaw = head.units[_JAW][:, head.mesh.chin]
        wide, meet, front = np.ptp(lips[:, 0]) / 2, _line_of_lips(head), lips[:, 2].max()
        self.surfaces = [
            _row(wide * 0.80, front - 0.070, meet + 0.050, meet - 0.018),
            _row(wide * 0.74, front - 0.090, meet - 0.075, meet - 0.022),
            _ellipsoid("throat", (0.24, 0.19, 0.12), (0, meet, front - 0.38), 1.0),
            _ellipsoid("clothes", (0.98, 0.40, 0.50), (0, look.collar - 0.40, -0.28), 1.0),
        ]
        if look.hair.cut == "long":
            wide = 0.5 + 0.6 * look.hair.thickness
            self.surfaces.append(_ellipsoid("curtain", (wide, 0.85, 0.34), (0, -0.12, -0.54), 0.7))

    def placed(self, action_units: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Positions and normals (T,n,6) float32 of all surfaces, one after another."""
        count = len(pose)
        jaw = np.einsum("tj,jc->tc", action_units[:, _JAW], self._jaw) * (1.0, 0.92, 0.75)
        found = []
        for i, surface in enumerate(self.surfaces):
            points = np.broadcast_to(surface.points, (count, *surface.points.shape))
            normals = np.broadcast_to(surface.normals, points.shape)
            if i == 1:  # the lower teeth go with the jaw
                points = points + jaw[:, None]
            if surface.kind != "clothes":
                points, normals = posed(points, pose), normals @ rotations(pose).transpose(0, 2, 1)
            length = np.linalg.norm(normals, axis=2, keepdims=True)
            found.append(np.concatenate([points + shift(pose)[:, None], normals / length], axis=2))
        return np.concatenate(found, axis=1).astype(np.float32)


def _line_of_lips(head: Head) -> float:
    """Height at which the closed lips meet: the middle of the lips' vertices near the middle of the face."""
    lips = head.rest[head.mesh.lips & (np.abs(head.mesh.vertices[:, 0]) < 0.04)]
    return float((lips[:, 1].min() + lips[:, 1].max()) / 2)


def _row(wide: float, front: float, gum: float, edge: float) -> _Surface:
    """Teeth: a strip along an arc, from the height of the gums to that of the edges."""
    count = len(_ARC)
    points, normals, own = np.zeros((3, count, 2, 3))
    points[..., 0] = (np.sin(_ARC) * wide)[:, None]
    points[..., 1] = (gum, edge)
    points[..., 2] = (front - (1 - np.cos(_ARC)) * wide * 0.9)[:, None]
    normals[..., 0], normals[..., 2] = np.sin(_ARC)[:, None], np.cos(_ARC)[:, None]
    own[..., 0] = np.linspace(0, 1, count)[:, None]
    own[..., 1] = (0, 1)
    start = 2 * np.arange(count - 1)[:, None]
    triangles = np.concatenate([start + np.array(three) for three in ((0, 1, 2), (1, 3, 2))])
    return _Surface("teeth", points.reshape(-1, 3), normals.reshape(-1, 3), triangles, own.reshape(-1, 3))


def _ellipsoid(
    kind: str, half: tuple[float, float, float], centre: tuple[float, float, float], roundness: float
) -> _Surface:
    """1 gives an ellipsoid; smaller values are closer to a box."""
    around, up = 37, 19
    a, b = np.meshgrid(np.linspace(0, 2 * np.pi, around), np.linspace(-np.pi / 2, np.pi / 2, up))
    ball = np.stack([np.cos(b) * np.cos(a), np.sin(b), np.cos(b) * np.sin(a)], axis=-1).reshape(-1, 3)
    points = np.sign(ball) * np.abs(ball) ** roundness
    start = (np.arange(up - 1)[:, None] * around + np.arange(around - 1)).reshape(-1, 1)
    triangles = np.concatenate([start + np.array(three) for three in ((0, 1, around), (1, around + 1, around))])
    return _Surface(kind, points * half + centre, ball / half, triangles, points)
