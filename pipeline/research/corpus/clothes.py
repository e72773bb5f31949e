"""Shoulders and what is worn on them: rings from the neck to below the image, and the flaps of a collar."""

import numpy as np

GARMENTS = ("crew", "turtleneck", "vneck", "shirt", "jacket")

_AROUND = 49
_RINGS = {  # height from the collar, half width, half depth, middle z; the first ones are the collar
    "crew": (
        (-0.05, 0.285, 0.22, -0.44),
        (0.0, 0.32, 0.26, -0.44),
        (0.0, 0.345, 0.285, -0.44),
        (-0.045, 0.38, 0.31, -0.44),
    ),
    "turtleneck": (
        (0.06, 0.30, 0.23, -0.44),
        (0.11, 0.33, 0.26, -0.44),
        (0.10, 0.36, 0.29, -0.44),
        (-0.02, 0.38, 0.30, -0.44),
    ),
    "vneck": (
        (0.03, 0.22, 0.19, -0.44),
        (0.0, 0.33, 0.26, -0.45),
        (0.0, 0.34, 0.27, -0.45),
        (-0.04, 0.38, 0.30, -0.45),
    ),
}
_SHOULDERS = (
    (-0.09, 0.50, 0.36, -0.44),
    (-0.14, 0.66, 0.42, -0.43),
    (-0.21, 0.84, 0.46, -0.42),
    (-0.31, 0.96, 0.50, -0.40),
    (-0.50, 1.04, 0.54, -0.38),
    (-1.30, 1.08, 0.58, -0.36),
)


def torso(garment: str, collar: float, broad: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (n,3), normals (n,3), triangles (m,3), and coordinates (n,3) for the colours: x, the height from the
    collar, and the number of the ring. `broad` scales the shoulders."""
    first = _RINGS.get(garment, _RINGS["vneck"])
    rings = np.array(first + _SHOULDERS)
    rings[len(first) :, 1] *= np.linspace(1.0, broad, len(_SHOULDERS))
    angle = np.linspace(-np.pi, np.pi, _AROUND)  # 0 is the front
    sin, cos = np.sin(angle), np.cos(angle)
    # The collar lies deeper in front than at the back.
    slant = -0.075 * cos * np.clip(1 + rings[:, :1] * 2.5, 0, 1.2)
    points = np.stack(
        [
            rings[:, 1:2] * sin,
            collar + rings[:, :1] + slant,
            rings[:, 3:4] + rings[:, 2:3] * cos,
        ],
        axis=-1,
    )
    own = np.stack([points[..., 0], points[..., 1] - collar, np.repeat(np.arange(len(rings))[:, None], _AROUND, 1)], -1)
    own[..., 2] -= len(first) - 1
    return _surface(points, own)


def flaps(collar: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The collar of a shirt: it stands at the neck, is folded over, and is open in front. The same four arrays; the
    third coordinate is -9."""
    angle = np.linspace(0.24, 2 * np.pi - 0.24, 41)
    sin, cos = np.sin(angle), np.cos(angle)
    front = np.exp(-(((np.minimum(angle, 2 * np.pi - angle) - 0.24) / 0.55) ** 2))
    rows = []
    for height, wide, deep, fall in (
        (-0.06, 0.31, 0.245, 0.0),
        (0.055, 0.325, 0.26, 0.02),
        (0.05, 0.35, 0.285, 0.02),
        (-0.055, 0.415, 0.345, 0.13),
    ):
        slant = -0.085 * cos
        spread = 1 + 0.6 * front * (fall > 0.1)
        rows.append(
            np.stack(
                [
                    wide * sin * spread,
                    collar + height + slant - fall * front,
                    -0.44 + deep * cos + 0.03 * front * (fall > 0.1),
                ],
                -1,
            )
        )
    points = np.stack(rows)
    own = np.stack([points[..., 0], points[..., 1] - collar, np.full(points.shape[:2], -9.0)], -1)
    return _surface(points, own)


def _surface(points: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, columns, _ = points.shape
    around, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normals = np.cross(down, around).reshape(-1, 3)
    start = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    triangles = np.concatenate([start + np.array(three) for three in ((0, 1, columns), (1, columns + 1, columns))])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return points.reshape(-1, 3), normals, triangles, own.reshape(-1, 3)
