"""Hair: how it is cut, and where it grows. All lengths are in head sizes."""

from dataclasses import dataclass

import numpy as np

from pipeline.research.corpus.mesh import SKIN, Mesh

Colour = tuple[float, float, float]
"""sRGB, 0 to 1."""


@dataclass(frozen=True)
class Cut:
    """What all hair of a cut has in common."""

    cards: int
    """Number of cards; 0 is hair so short that it is only painted on the scalp."""
    segments: int
    top: tuple[float, float]
    """Range of the length of a lock on the top of the head, of which each person draws one."""
    sides: float
    """Length at the sides and at the back, relative to the top."""
    width: float
    """Of a card."""
    lift: float
    """How steeply a lock leaves the scalp."""
    gravity: float
    volume: tuple[float, float]
    """Range of the height of the uppermost layer over the scalp."""


CUTS: dict[str, Cut] = {
    "bald": Cut(0, 0, (0, 0), 0, 0, 0, 0, (0, 0)),
    "stubble": Cut(0, 0, (0, 0), 0, 0, 0, 0, (0, 0)),
    "short": Cut(900, 4, (0.12, 0.20), 0.60, 0.060, 0.50, 0.05, (0.02, 0.05)),
    "crop": Cut(900, 5, (0.20, 0.28), 0.45, 0.060, 0.45, 0.10, (0.03, 0.06)),
    "quiff": Cut(900, 6, (0.28, 0.40), 0.35, 0.060, 1.00, 0.03, (0.05, 0.11)),
    "swept": Cut(900, 6, (0.32, 0.46), 0.40, 0.065, 0.60, 0.10, (0.05, 0.09)),
    "full": Cut(800, 7, (0.36, 0.52), 0.90, 0.080, 0.60, 0.14, (0.06, 0.12)),
    "afro": Cut(1300, 4, (0.16, 0.34), 0.85, 0.100, 2.50, 0.0, (0.06, 0.18)),
    "long": Cut(380, 12, (1.30, 1.75), 1.00, 0.105, 0.45, 0.45, (0.05, 0.11)),
    "bob": Cut(400, 10, (0.80, 1.05), 0.95, 0.100, 0.50, 0.40, (0.06, 0.12)),
    "tied": Cut(700, 9, (1.00, 1.25), 1.00, 0.070, 0.05, 0.0, (0.015, 0.035)),
}
HAIRCUTS = tuple(CUTS)


@dataclass(frozen=True)
class Hair:
    """The hair of one person."""

    cut: str
    """One of HAIRCUTS."""
    colour: Colour
    length: float
    """Of the locks on the top of the head."""
    thickness: float
    """Height of the uppermost layer over the scalp."""
    brow: float
    """Height of the hairline above the eyes."""
    peak: float
    """How much the hairline falls from the middle to the temples."""
    parting: float
    """Place of the parting, negative on the left of the image."""
    nape: float
    """Height down to which it reaches at the back."""
    fringe: float
    """0, or the share of the locks at the forehead that fall over it."""
    curl: float
    """0 straight strands, 1 curls."""
    shine: float
    seed: int


def draw_hair(random: np.random.Generator, woman: float, age: float, colour: np.ndarray, seed: int) -> Hair:
    """Cuts go with the sex of the head; the hairline of old men is higher."""
    old = float(np.clip((age - 0.75) / 0.2, 0, 1))
    men = (0.10 + 0.12 * old, 0.11, 0.22, 0.12, 0.13, 0.15, 0.09, 0.08, 0.0, 0.0, 0.0)
    women = (0.0, 0.02, 0.05, 0.04, 0.03, 0.07, 0.11, 0.09, 0.27, 0.18, 0.14)
    share = float(np.clip((woman - 0.35) / 0.3, 0, 1))
    chances = np.array(men) / sum(men) * (1 - share) + np.array(women) / sum(women) * share
    name = str(random.choice(HAIRCUTS, p=chances / chances.sum()))
    cut = CUTS[name]
    curl = 1.0 if name == "afro" else float(random.choice([0.0, 0.25, 0.7], p=[0.5, 0.3, 0.2]))
    if name == "tied":
        curl *= 0.2
    parted = name in ("swept", "long", "bob")
    red, green, blue = np.clip(colour, 0, 1).tolist()
    return Hair(
        cut=name,
        colour=(red, green, blue),
        length=float(random.uniform(*cut.top)),
        thickness=float(random.uniform(*cut.volume)),
        brow=float(random.uniform(0.37, 0.46) + 0.08 * old * (1 - woman)),
        peak=float(random.uniform(0.1, 0.9)),
        parting=float(random.choice([-1, 0, 1], p=[0.4, 0.2, 0.4]) * random.uniform(0.08, 0.2)) if parted else 0.0,
        nape=float(random.uniform(-0.42, -0.25)),
        fringe=float(random.uniform(0.6, 1.0) * (random.random() < 0.3)) if name in ("long", "bob", "tied") else 0.0,
        curl=curl,
        shine=float(random.uniform(0.4, 1.0)),
        seed=seed,
    )


def hair_height(mesh: Mesh, hair: Hair) -> np.ndarray:
    """(V,) float32: how far inside of the hair each vertex is; negative outside.

    By the average head, so that people with the same cut have it at the same places of their heads.
    """
    x, y, z = mesh.vertices.T
    eye = mesh.eyes[0, 1]
    ear = mesh.vertices[mesh.ears]
    # In front the hairline runs over the forehead, falls before the ear, and ends at the nape behind it.
    front = eye + hair.brow - hair.peak * x**2 - 1.2 * np.maximum(np.abs(x) - 0.30, 0)
    behind = (ear[:, 2].max() + 0.03 - z) / 0.22
    line = front + (hair.nape - front) * smooth_step(behind)
    height = y - line
    # Around the ears it keeps clear of them: a tuft on the ear is what gives generated hair away.
    from_ear = np.sqrt(((mesh.vertices[:, None] - ear[None, ::6]) ** 2).sum(-1)).min(1) - 0.02
    above = y > ear[:, 1].max() - 0.02
    height = np.where(above, np.minimum(height, from_ear + 0.04), np.minimum(height, from_ear - 0.02))
    return np.where((mesh.part == SKIN) & ~mesh.ears, height, -1.0).astype(np.float32)


def smooth_step(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 without corners (like GLSL's smoothstep)."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
