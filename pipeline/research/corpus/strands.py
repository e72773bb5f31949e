"""The cards of which hair is made.

A card is a narrow strip of triangles that follows a lock of hair; a texture with gaps makes strands of it. Its path
starts on the scalp, follows the direction in which the cut is combed, bends with gravity, and is kept outside of the
head. All lengths are in head sizes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from pipeline.research.corpus.hair import CUTS, Hair, hair_height, smooth_step
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.mesh import SKIN

_KNOT = np.array([0.0, 0.55, -1.15])  # where tied hair meets
_CROWN = np.array([0.03, 0.80, -0.55])  # from which short hair grows away
_DRAWN_AT_BACK = 0.30  # share of the cards at the back of the head, of which only the outline is seen


@dataclass(frozen=True, eq=False)
class Cards:
    """The locks of a person, at rest."""

    vertices: np.ndarray
    """(n,14) float32: position, normal, direction of the strands, place in the texture and along the lock, how deep
    below the uppermost layer it lies (0 to 1), a random number of the lock, and the place across it (-1 to 1)."""
    triangles: np.ndarray
    """(m,3) int32, of what is in front first."""
    front: int
    """Number of triangles in front of the head's middle."""


def grown(head: Head, hair: Hair, normals: np.ndarray) -> Cards:
    """The cards of one person; `normals` (V,3) are those of the head at rest."""
    cut, mesh = CUTS[hair.cut], head.mesh
    if not cut.cards:
        return Cards(np.zeros((0, 14), np.float32), np.zeros((0, 3), np.int32), 0)
    random = np.random.default_rng([hair.seed, 5])
    height = hair_height(mesh, hair)
    triangles = mesh.triangles[(height[mesh.triangles] > -0.005).all(axis=1)]
    rest = head.rest
    a, b, c = (rest[triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    back = (a + b + c)[:, 2] / 3 < -0.62
    line = np.exp(-((height[triangles].mean(1) / 0.08) ** 2)) * ((a + b + c)[:, 2] / 3 > -0.4)
    weights = area * np.where(back, _DRAWN_AT_BACK, 1.0 + 2.5 * line)
    chosen = triangles[random.choice(len(triangles), cut.cards, p=weights / weights.sum())]
    shares = random.dirichlet([1, 1, 1], cut.cards)[..., None]
    roots, out = ((values[chosen] * shares).sum(1) for values in (rest, normals))
    inside = (height[chosen] * shares[..., 0]).sum(1)
    out = _unit(out)
    layer = random.random(cut.cards)
    length = hair.length * random.uniform(0.75, 1.1, cut.cards)
    on_top = smooth_step((roots[:, 1] - 0.25) / 0.35)
    length *= cut.sides + (1 - cut.sides) * on_top
    before = (roots[:, 2] > -0.25) & (np.abs(roots[:, 0]) < 0.36)  # what could hang over the eyes
    if hair.cut in ("full", "crop", "short"):
        length = np.where(before, np.minimum(length, inside + random.uniform(0.10, 0.17, cut.cards)), length)
    falls = random.random(cut.cards) < hair.fringe * before * (inside < 0.3)
    length = np.where(falls, np.minimum(length, inside + random.uniform(0.20, 0.27, cut.cards)), length)
    top = hair.thickness * (0.25 + 0.75 * smooth_step(inside / 0.15))
    paths = _paths(head, hair, normals, (roots, out), (length, layer, top, falls), random)
    return _strips(paths, length, layer, cut.width, hair, random)


def _paths(
    head: Head,
    hair: Hair,
    normals: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
    locks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Points (k,n,3) of the locks, and which way is outwards there."""
    cut, (roots, out), (length, layer, top, falls) = CUTS[hair.cut], start, locks
    count = len(roots)
    body = np.flatnonzero((head.mesh.part == SKIN) & ~head.mesh.ears)[::3]
    body_points, body_normals = torch.from_numpy(head.rest[body]), normals[body]
    step = (length / cut.segments)[:, None]
    jitter = random.normal(0, 0.16 + 0.3 * hair.curl, (count, 3))
    lift = np.where(falls, 0.25, cut.lift)[:, None] * random.uniform(0.6, 1.2, (count, 1))
    side = np.sign(roots[:, 0] - hair.parting + random.normal(0, 0.03, count))
    flow = _flow(hair, roots, side, falls)
    direction = _unit(_along(flow + jitter, out) + lift * out)
    points, outward, at = [roots - 0.01 * out], [out], roots
    gravity = np.array([0.0, -cut.gravity, 0.0])
    for number in range(cut.segments):
        at = at + direction * step
        nearest = torch.cdist(torch.from_numpy(at.astype(np.float32)), body_points).argmin(1).numpy()
        surface = body_normals[nearest]
        gap = ((at - head.rest[body[nearest]]) * surface).sum(1)
        wanted = 0.008 + (0.15 + 0.85 * layer) * top * min(1.0, 0.35 + 0.4 * number)
        lacking = np.maximum(wanted - gap, 0)[:, None]
        at = at + surface * np.minimum(lacking, 0.08)
        if cut.gravity > 0.15:  # hair frames a face and does not hang over it
            beside = ~falls & (at[:, 2] > -0.35)
            edge = 0.40 * smooth_step((0.68 - at[:, 1]) / 0.42) + 0.06 * smooth_step((0.3 - at[:, 1]) / 0.3)
            edge = edge * (0.92 + 0.16 * layer)
            back = 0.45 - 0.62 * smooth_step((0.72 - at[:, 1]) / 0.5)
            at[:, 2] = np.where(beside, np.minimum(at[:, 2], back), at[:, 2])
            at[:, 0] = np.where(beside, side * np.maximum(side * at[:, 0], edge), at[:, 0])
        points.append(at)
        outward.append(surface)
        wish = _along(_flow(hair, at, side, falls), surface)
        if hair.cut == "tied":  # it lies close to the head
            at = at - surface * np.clip(gap - wanted, 0, 0.1)[:, None]
            points[-1] = at
        kept = 0.3 if hair.cut == "tied" else 1 - 0.8 * cut.gravity
        bent = kept * direction + 0.45 * wish + 1.2 * gravity + 0.25 * jitter * hair.curl
        inwards = np.minimum((bent * surface).sum(1), 0) * (gap < wanted + 0.03)
        direction = _unit(bent - inwards[:, None] * surface)
    return np.stack(points), np.stack(outward)


def _flow(hair: Hair, at: np.ndarray, side: np.ndarray, falls: np.ndarray) -> np.ndarray:
    """(n,3): the direction in which hair at these places is combed."""
    on_top = smooth_step((at[:, 1:2] - 0.30) / 0.25)
    away = _unit(at - _CROWN)
    down = np.array([0.0, -1.0, 0.0])
    if hair.cut in ("short", "crop", "full", "afro"):
        flow = away + 0.3 * down * (1 - on_top)
    elif hair.cut == "quiff":
        flow = on_top * np.array([0.15, 0.35, -1.0]) + (1 - on_top) * np.array([0.0, -0.8, -0.6])
    elif hair.cut == "swept":
        across = np.stack([side, np.full(len(at), 0.1), np.full(len(at), -0.25)], axis=1)
        flow = on_top * across + (1 - on_top) * np.array([0.0, -0.9, -0.4])
    elif hair.cut == "tied":
        flow = _unit(_KNOT - at)
    else:
        across = np.stack([side, np.full(len(at), -0.5), np.full(len(at), -0.35)], axis=1)
        flow = on_top * across + (1 - on_top) * (down + np.stack([0.25 * side, 0 * side, -0.1 + 0 * side], axis=1))
    return np.where(falls[:, None], np.array([0.0, -0.75, 0.65]) + 0.25 * at * (1, 0, 0), flow)


def _strips(
    paths: tuple[np.ndarray, np.ndarray],
    length: np.ndarray,
    layer: np.ndarray,
    width: float,
    hair: Hair,
    random: np.random.Generator,
) -> Cards:
    points, outward = paths
    rows, count, _ = points.shape
    along = np.linspace(0, 1, rows)[:, None]
    tangent = _unit(np.gradient(points, axis=0))
    side = _unit(np.cross(tangent, outward) + 1e-6)
    tilt = random.normal(0, (0.12 if hair.cut == "tied" else 0.35) + 0.5 * hair.curl, (count, 1))
    across = _unit(side * np.cos(tilt) + outward * np.sin(tilt))
    turns = (2.0 + 5.0 * length) * 2 * np.pi * along + random.uniform(0, 6.28, count)
    swing = (hair.curl * (0.035 if hair.cut != "afro" else 0.05) * np.minimum(1, 2.5 * along))[..., None]
    points = points + swing * (side * np.cos(turns)[..., None] + 0.7 * outward * np.sin(turns)[..., None])
    half = (width / 2 * random.uniform(0.7, 1.25, count) * (1 - 0.45 * along**2))[..., None]
    window = random.random(count)
    found = np.zeros((rows, count, 2, 14), np.float32)
    for i, edge in enumerate((-1.0, 1.0)):
        found[:, :, i, 0:3] = points + edge * half * across
        found[:, :, i, 3:6] = _unit(outward + 0.55 * edge * across)
        found[:, :, i, 9] = window + edge * 0.06
        found[:, :, i, 13] = edge
    found[..., 6:9] = tangent[:, :, None]
    found[..., 10] = along[..., None]
    found[..., 11] = 1 - layer[None, :, None]
    found[..., 12] = random.random((1, count, 1))
    start = (np.arange(rows - 1)[:, None] * count + np.arange(count)) * 2
    triangles = np.stack([start[..., None] + three for three in ((0, 1, 2 * count), (1, 2 * count + 1, 2 * count))], 2)
    # What is in front hides the rest, which then need not be coloured.
    depth = (points[:-1] + points[1:])[..., 2] / 2
    near = (depth + 0.5 * layer).ravel()
    order = np.argsort(-near, kind="stable")
    triangles = triangles.reshape(-1, 2, 3)[order].reshape(-1, 3).astype(np.int32)
    return Cards(found.reshape(-1, 14), triangles, 2 * int((near > -0.35).sum()))


@lru_cache(maxsize=1)
def strand_texture() -> np.ndarray:
    """(256,512,2) uint8, the same for everybody: opacity and brightness of strands that run along the first axis."""
    random = np.random.default_rng(11)
    rows, columns = 256, 512
    along = np.linspace(0, 1, rows)[:, None]
    x = np.arange(columns) / columns
    waves = [np.cos(2 * np.pi * (k * x + random.random())) / k**0.5 for k in range(3, 24)]
    locks = np.sum(waves, axis=0) / 4
    fine = 0.6 * np.repeat(random.normal(0, 1, columns // 8), 8)
    fine = (
        fine + 0.7 * np.repeat(random.normal(0, 1, columns // 3 + 1), 3)[:columns] + 0.5 * random.normal(0, 1, columns)
    )
    end = 0.82 + 0.08 * locks + 0.13 * fine
    begin = 0.04 * random.random(columns)
    opacity = smooth_step((end - along) / 0.3) * smooth_step((along - begin) / 0.05 + 0.3)
    gaps = smooth_step((0.8 * locks + 0.75 * fine + 1.25 - 0.9 * along) / 0.6)
    bright = 0.5 + 0.10 * locks + 0.17 * fine + 0 * along
    return (np.stack([opacity * gaps, bright], axis=-1).clip(0, 1) * 255).round().astype(np.uint8)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _along(vectors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """What of the vectors lies in the surface, with length 1."""
    return _unit(vectors - (vectors * normals).sum(-1, keepdims=True) * normals)
