"""A person's head: its shape from a seed, and its vertices for action units and a pose (linear, and so fast)."""

import numpy as np
import torch

from pipeline.research.corpus.mesh import LEFT_EYEBALL, SHAPES, SKIN, Mesh, anny_model, both_sides, mesh, upright
from pipeline.research.corpus.units import ARKIT

PIVOT = (0.0, -0.42, -0.30)
"""The point around which the head turns on the neck, in head sizes: at the height of the ear lobes, in front of the
spine.
"""
_NECK = (-0.66, -0.46)
"""Heights at rest between which the neck twists: below, it stays with the shoulders; above, it moves with the head."""


class Head:
    """The head of one person.

    The same seed gives the same head on any machine, up to the last bits of float arithmetic.
    """

    def __init__(self, seed: int) -> None:
        """Draw the sliders of an adult: anny's phenotype and about fifty sliders of the face, symmetric.

        The phenotype is sex, age from about 20 to 80, build, and three ancestries in any mixture.
        """
        self.mesh: Mesh = mesh()
        model = anny_model()
        random = np.random.default_rng([seed, 1])
        self.woman: float = float(random.beta(0.4, 0.4))
        """From 0, a man, to 1."""
        self.age: float = float(random.uniform(0.62, 0.97))
        """anny's: 2/3 is 25 years, 1 very old."""
        ancestry = random.dirichlet([0.5] * 3)
        self.ancestry: np.ndarray = ancestry
        """(3,) African, Asian, Caucasian, as anny names them; they sum to 1."""
        phenotype = {
            "gender": self.woman,
            "age": self.age,
            "muscle": random.uniform(0.25, 0.85),
            "weight": random.uniform(0.2, 0.9),
            "height": random.uniform(0.35, 0.7),
            "proportions": random.uniform(0.2, 0.9),
            "cupsize": 0.5,
            "firmness": 0.5,
            **dict(zip(("african", "asian", "caucasian"), ancestry.tolist(), strict=True)),
        }
        sliders = {label: random.normal(0, spread) for label, spread in SHAPES.items()}
        local = {name: float(np.clip(x, -0.7, 0.7)) for label, x in sliders.items() for name in both_sides(label)}

        rows = len(ARKIT) + 1  # the face at rest, then each unit alone
        actions = {name: torch.zeros(rows, dtype=torch.float64) for name in model.facial_action_labels}
        for i, name in enumerate(ARKIT):
            actions[name][i + 1] = 1
        with torch.no_grad():
            shapes = model(
                phenotype_kwargs={name: _filled(rows, value) for name, value in phenotype.items()},
                local_changes_kwargs={name: _filled(rows, value) for name, value in local.items()},
                facial_actions=actions,
            )["rest_vertices"]
        shapes = upright(shapes.numpy())
        middle, size = self.mesh.frame(shapes[0])
        self.rest: np.ndarray = ((shapes[0] - middle) / size).astype(np.float32)
        """(V,3) the neutral face, in head sizes."""
        self.units: np.ndarray = ((shapes[1:] - shapes[0]) / size).astype(np.float32)
        """(52,V,3) what each unit of `ARKIT` adds. Gaze units only move the lids: the eyes are drawn rotated."""
        for i, name in enumerate(ARKIT):
            if name.startswith("eyeLook"):
                self.units[i, self.mesh.part >= LEFT_EYEBALL] = 0
        skin = self.mesh.part == SKIN
        height = (self.rest[:, 1] - _NECK[0]) / (_NECK[1] - _NECK[0])
        height = np.where(skin, height, 1.0).clip(0, 1)
        self._turns = (height * height * (3 - 2 * height)).astype(np.float32)

    @property
    def eyes(self) -> np.ndarray:
        """(2,3) centres of the right and of the left eyeball at rest."""
        left = self.rest[self.mesh.part == LEFT_EYEBALL]
        centre = (left.min(0) + left.max(0)) / 2
        return np.stack([centre * (-1, 1, 1), centre]).astype(np.float32)

    def expressed(self, action_units: np.ndarray) -> np.ndarray:
        """Vertices (T,V,3) float32 for action units (T,52) in [0,1], in the order of `ARKIT`; the head looks straight
        ahead.
        """
        if action_units.ndim != 2 or action_units.shape[1] != len(ARKIT):
            raise ValueError(f"action_units must be (T,{len(ARKIT)}), got {action_units.shape}")
        moved = action_units.astype(np.float32) @ self.units.reshape(len(ARKIT), -1)
        return self.rest + moved.reshape(len(moved), *self.rest.shape)

    def vertices(self, action_units: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """The same with pose (T,6): yaw, pitch and roll in radians and signed as `pipeline.face.head_pose.head_pose`
        does; x to the right of the image, y down and z towards the camera in head sizes, by which the whole person
        moves."""
        found = self.expressed(action_units)
        turned = posed(found, pose)
        return found + self._turns[:, None] * (turned - found) + shift(pose)[:, None]


def _filled(rows: int, value: float) -> torch.Tensor:
    return torch.full((rows,), float(value), dtype=torch.float64)


def lid_edges(head: Head) -> np.ndarray:
    """(V,) how near each vertex is to the edge of the upper lids, which a blink moves most.

    It is the movement of the vertex relative to the largest one of the vertices above and below it.
    """
    away = np.linalg.norm(sum(head.units[ARKIT.index(name)] for name in ("eyeBlinkLeft", "eyeBlinkRight")), axis=1)
    x = head.rest[:, 0]
    moved = np.flatnonzero((away > 0.12 * away.max()) & (head.mesh.part == SKIN))
    column = np.abs(x[moved, None] - x[moved]) < 0.012
    share = np.zeros(len(x))
    share[moved] = away[moved] / (column * away[moved]).max(axis=1)
    return share


def rotations(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices (T,3,3) float32 of poses (T,6): about y, then x, then z, of the head's own axes."""
    yaw, pitch, roll = pose[:, :3].astype(np.float64).T
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    sin, cos = np.sin, np.cos
    about_y = [[cos(yaw), zero, sin(yaw)], [zero, one, zero], [-sin(yaw), zero, cos(yaw)]]
    about_x = [[one, zero, zero], [zero, cos(pitch), sin(pitch)], [zero, -sin(pitch), cos(pitch)]]
    about_z = [[cos(roll), sin(roll), zero], [-sin(roll), cos(roll), zero], [zero, zero, one]]
    y, x, z = (np.moveaxis(np.array(matrix), -1, 0) for matrix in (about_y, about_x, about_z))
    return (y @ x @ z).astype(np.float32)


def posed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (T,n,3) rotated with the head, without its translation."""
    pivot = np.array(PIVOT, np.float32)
    return (points - pivot) @ rotations(pose).transpose(0, 2, 1) + pivot


def shift(pose: np.ndarray) -> np.ndarray:
    """(T,3) float32: the translation of the person by a pose, with y up as in this folder."""
    return pose[:, 3:6].astype(np.float32) * np.array([1, -1, 1], np.float32)
