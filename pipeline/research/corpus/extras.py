"""Teeth, throat, clothes, lashes and what is behind long hair: surfaces that the head's mesh does not have."""

from dataclasses import dataclass

import numpy as np

from pipeline.research.corpus.clothes import flaps, torso
from pipeline.research.corpus.head import Head, lid_edges, posed, rotations, shift
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
            _Surface("clothes", *_clothes(torso(look.garment, look.collar, 1.08 - 0.16 * head.woman))),
        ]
        if look.garment in ("shirt", "jacket"):
            self.surfaces.append(_Surface("clothes", *_clothes(flaps(look.collar))))
        if look.hair.cut in ("long", "bob"):
            low = -0.85 if look.hair.cut == "long" else -0.45
            half = (0.62 - low) / 2
            self.surfaces.append(_ellipsoid("curtain", (0.44, half, 0.26), (0, 0.62 - half, -0.66), 0.8))
        self._lashes = _Lashes(head, 0.009 + 0.015 * head.woman)
        self.surfaces += self._lashes.surfaces

    def placed(self, action_units: np.ndarray, pose: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """Positions and normals (T,n,6) float32 of all surfaces, one after another; `vertices` (T,V,3) of the head."""
        count = len(pose)
        jaw = np.einsum("tj,jc->tc", action_units[:, _JAW], self._jaw) * (1.0, 0.92, 0.75)
        found = []
        for i, surface in enumerate(self.surfaces[:-2]):
            points = np.broadcast_to(surface.points, (count, *surface.points.shape))
            normals = np.broadcast_to(surface.normals, points.shape)
            if i == 1:  # the lower teeth go with the jaw
                points = points + jaw[:, None]
            if surface.kind != "clothes":
                points, normals = posed(points, pose), normals @ rotations(pose).transpose(0, 2, 1)
            length = np.linalg.norm(normals, axis=2, keepdims=True)
            found.append(np.concatenate([points + shift(pose)[:, None], normals / length], axis=2))
        found += self._lashes.placed(action_units, pose, vertices)
        return np.concatenate(found, axis=1).astype(np.float32)


class _Lashes:
    """The lashes of the upper lids: strips from the lids' edges, which turn down as the lids close."""

    def __init__(self, head: Head, length: float) -> None:
        share = lid_edges(head)
        x, eye = head.rest[:, 0], head.eyes[1]
        self._blinks = [ARKIT.index(name) for name in ("eyeBlinkRight", "eyeBlinkLeft")]
        self._roots: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._away: list[np.ndarray] = []
        self.surfaces: list[_Surface] = []
        for side in (-1, 1):
            edge = np.flatnonzero((share > 0.90) & (side * x > 0))
            column = np.round(x[edge] / 0.018)
            first = [edge[column == one] for one in np.unique(column)]
            roots = np.array([group[head.rest[group, 2].argmax()] for group in first])
            away = side * (x[roots] - side * eye[0]) / head.mesh.eye_radius  # -1 at the nose to 1 outside
            count = len(roots)
            self._roots.append(roots)
            self._lengths.append(length * np.interp(away, [-1.0, -0.6, 0.6, 1.0], [0.35, 0.7, 1.1, 0.7]))
            own = np.zeros((count, 2, 3))
            own[..., 0] = np.linspace(0, 1, count)[:, None]
            own[..., 1] = (0, 1)
            start = 2 * np.arange(count - 1)[:, None]
            triangles = np.concatenate([start + np.array(three) for three in ((0, 1, 2), (1, 3, 2))])
            empty = np.zeros((2 * count, 3))
            self.surfaces.append(_Surface("lashes", empty, empty, triangles, own.reshape(-1, 3)))
            self._away.append(np.clip(away, -1, 1) * side)

    def placed(self, action_units: np.ndarray, pose: np.ndarray, vertices: np.ndarray) -> list[np.ndarray]:
        """Positions and normals (T,n,6) of each strip."""
        found = []
        turn = rotations(pose).transpose(0, 2, 1)
        for roots, lengths, away, blink in zip(self._roots, self._lengths, self._away, self._blinks, strict=True):
            shut = action_units[:, blink, None]
            aim = np.zeros((len(pose), len(roots), 3), np.float32)
            aim[..., 0], aim[..., 1], aim[..., 2] = 0.5 * away, 0.45 - 0.95 * shut, 0.8
            aim /= np.linalg.norm(aim, axis=2, keepdims=True)
            aim = aim @ turn
            base = vertices[:, roots] + 0.004 * aim
            points = np.stack([base - 0.006 * aim, base + lengths[:, None] * aim], axis=2).reshape(len(pose), -1, 3)
            normals = np.broadcast_to(turn[:, 2:3], points.shape)
            found.append(np.concatenate([points, normals], axis=2))
        return found


def _clothes(made: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    points, normals, triangles, own = made
    return points, normals, triangles, own


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
