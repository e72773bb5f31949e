"""What makes people and videos differ apart from the shape of the head: colours, hair, light, clothes, background.

Everything is drawn from a seed. The ranges are our own, set by eye; they do not describe any population.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.research.corpus.head import Head
from pipeline.research.corpus.mesh import SKIN, Mesh

Colour = tuple[float, float, float]
"""sRGB, 0 to 1."""

_SKINS: tuple[Colour, ...] = (
    (0.95, 0.80, 0.72),
    (0.90, 0.72, 0.60),
    (0.82, 0.62, 0.48),
    (0.70, 0.50, 0.37),
    (0.54, 0.36, 0.26),
    (0.37, 0.24, 0.18),
)
"""From light to dark; people are between two neighbours."""
_HAIRS: dict[str, Colour] = {
    "black": (0.11, 0.095, 0.09),
    "dark brown": (0.24, 0.17, 0.13),
    "brown": (0.38, 0.27, 0.19),
    "fair": (0.72, 0.58, 0.39),
    "red": (0.55, 0.28, 0.14),
    "grey": (0.55, 0.54, 0.53),
    "white": (0.80, 0.79, 0.77),
}
_IRISES: tuple[Colour, ...] = (
    (0.20, 0.11, 0.06),
    (0.33, 0.20, 0.10),
    (0.42, 0.36, 0.18),
    (0.30, 0.42, 0.34),
    (0.33, 0.47, 0.60),
    (0.45, 0.50, 0.54),
)

HAIRCUTS = ("bald", "stubble", "short", "full", "afro", "long", "swept")


@dataclass(frozen=True)
class Hair:
    """The scalp pushed out along its normals, and for long hair a curtain behind the neck."""

    cut: str
    """One of HAIRCUTS."""
    colour: Colour
    thickness: float
    """In head sizes."""
    brow: float
    """Height of the hairline above the eyes, in head sizes."""
    peak: float
    """How much the hairline falls from the middle to the temples."""
    parting: float
    """How much the hairline rises from one side to the other."""
    nape: float
    """Height down to which it reaches at the back."""
    sweep: float
    """How much thicker it is on one side, -1 to 1."""
    curl: float
    """0 straight strands, 1 curls."""


@dataclass(frozen=True)
class Light:
    """A key light, a fill light from the other side and the ambient light of the room."""

    key: tuple[float, float, float]
    """Direction towards it, length 1."""
    key_colour: Colour
    """Linear, and so are the next three."""
    fill: tuple[float, float, float]
    fill_colour: Colour
    sky: Colour
    ground: Colour


@dataclass(frozen=True)
class Look:
    """The look of one person in one recording."""

    skin: Colour
    lip: Colour
    blush: float
    freckles: float
    shine: float
    """Strength of highlights on the skin, 0 to 1."""
    roughness: float
    iris: Colour
    brow: Colour
    brow_height: float
    """Head sizes."""
    brow_thickness: float
    brow_arch: float
    lashes: float
    """How dark the line of the lids is, 0 to 1."""
    beard: float
    """0 shaven to 1 thick."""
    hair: Hair
    cloth: Colour
    collar: float
    """Height of the clothes at the neck, in head sizes."""
    light: Light
    seed: int
    """Seed of the skin's spots and of the background."""

    @staticmethod
    def drawn(seed: int, head: Head) -> "Look":
        """The same seed and head give the same look.

        Hair greys with the head's age, beards go with its sex, and the skin's tone loosely with its ancestry.
        """
        random = np.random.default_rng([seed, 2])
        african, asian, _ = head.ancestry.tolist()
        tone = float(np.clip(0.14 + 0.62 * african + 0.14 * asian + random.normal(0, 0.13), 0, 1))
        skin = _between(_SKINS, tone) * random.uniform(0.96, 1.04, 3)
        lip = skin * (1 - np.array([0.10, 0.34, 0.30]) * random.uniform(0.6, 1.1))
        if head.woman > 0.6 and random.random() < 0.5:  # made up
            lip = 0.45 * lip + 0.55 * np.array([random.uniform(0.5, 0.75), random.uniform(0.15, 0.35), 0.30])
        hair = _hair(random, head, tone)
        brow = np.array(hair.colour) * random.uniform(0.5, 0.8) + skin * 0.06
        beard = random.choice([0.0, 0.2, 0.45, 0.85], p=[0.45, 0.2, 0.15, 0.2]) if head.woman < 0.35 else 0.0
        return Look(
            skin=_colour(skin),
            lip=_colour(lip),
            blush=float(random.uniform(0.1, 0.6) * (1 - tone)),
            freckles=float(random.random() < 0.2) * float(random.uniform(0.2, 0.6)) * (tone < 0.3),
            shine=float(random.uniform(0.15, 0.7)),
            roughness=float(random.uniform(0.45, 0.8)),
            iris=_IRISES[int(random.integers(len(_IRISES) if tone < 0.4 else 2))],
            brow=_colour(brow),
            brow_height=float(random.uniform(0.115, 0.145)),
            brow_thickness=float(random.uniform(0.017, 0.032) * (1.1 - 0.35 * head.woman)),
            brow_arch=float(random.uniform(0.3, 1.0)),
            lashes=float(np.clip(random.uniform(0.6, 0.85) + 0.15 * head.woman, 0, 1)),
            beard=float(beard),
            hair=hair,
            cloth=_muted(random, 0.08, 0.85),
            collar=float(random.uniform(-0.64, -0.56)),
            light=_light(random),
            seed=seed,
        )

    def background(self, size: int) -> np.ndarray:
        """(size,size,3) uint8: a wall with a gradient and, in some, soft shapes that are out of focus."""
        random = np.random.default_rng([self.seed, 3])
        y, x = np.mgrid[0:size, 0:size] / size
        angle = random.uniform(-0.6, 0.6)
        along = np.clip(y * np.cos(angle) + x * np.sin(angle), 0, 1)[..., None]
        one = np.array(_muted(random, 0.15, 0.9))
        picture = one + along * (np.array(_muted(random, 0.15, 0.9)) - one) * random.uniform(0.1, 0.6)
        picture *= 1 - random.uniform(0, 0.35) * ((x - 0.5) ** 2 + (y - 0.4) ** 2)[..., None] * 2
        for _ in range(random.choice([0, 2, 4, 7])):
            centre, half, soft = random.uniform(-0.1, 1.1, 2), random.uniform(0.04, 0.25, 2), random.uniform(0.01, 0.06)
            edges = [_smooth((h - np.abs(at - c)) / soft + 0.5) for at, c, h in zip((x, y), centre, half, strict=True)]
            share = (edges[0] * edges[1])[..., None]
            picture += share * random.uniform(0.15, 0.6) * (np.array(_muted(random, 0.1, 0.9)) - picture)
        return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def _hair(random: np.random.Generator, head: Head, tone: float) -> Hair:
    old = np.clip((head.age - 0.75) / 0.2, 0, 1)
    names = list(_HAIRS)
    weights = np.array(
        [0.15 + 2.5 * tone, 1.0, 1.0 - tone, max(0.0, 0.9 - 3 * tone), max(0.0, 0.35 - tone), 2 * old, old]
    )
    colour = np.array(_HAIRS[str(random.choice(names, p=weights / weights.sum()))]) * random.uniform(0.85, 1.15)
    chances = np.array([0.14, 0.14, 0.34, 0.16, 0.10, 0.0, 0.22]) * (1 - head.woman)
    chances += np.array([0.01, 0.03, 0.15, 0.2, 0.08, 0.5, 0.15]) * head.woman
    cut = str(random.choice(HAIRCUTS, p=chances / chances.sum()))
    thickness = {"bald": (0, 0), "stubble": (0.008, 0.015), "short": (0.03, 0.07), "full": (0.07, 0.13)}
    low, high = thickness.get(cut, (0.12, 0.24) if cut == "afro" else (0.05, 0.11))
    return Hair(
        cut=cut,
        colour=_colour(colour * random.uniform(0.97, 1.03, 3)),
        thickness=float(random.uniform(low, high)),
        brow=float(random.uniform(0.31, 0.46) + 0.08 * old * (1 - head.woman)),
        peak=float(random.uniform(0.1, 1.1)),
        parting=float(random.uniform(0.15, 0.45) * random.choice([-1, 1]) if cut in ("swept", "long") else 0.0),
        nape=float(random.uniform(-0.42, -0.25)),
        sweep=float(random.uniform(0.4, 0.9) * random.choice([-1, 1]) if cut == "swept" else random.normal(0, 0.08)),
        curl=float(1.0 if cut == "afro" else random.choice([0.0, 0.3, 0.8], p=[0.6, 0.25, 0.15])),
    )


def _light(random: np.random.Generator) -> Light:
    side = random.choice([-1, 1])
    key = np.array([side * random.uniform(0.1, 0.9), random.uniform(0.25, 0.9), random.uniform(0.7, 1.2)])
    fill = np.array([-side * random.uniform(0.5, 1.0), random.uniform(-0.1, 0.3), random.uniform(0.5, 1.0)])
    warm = random.normal(0, 0.06)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    room = random.uniform(0.12, 0.32)
    return Light(
        key=_colour_free(key / np.linalg.norm(key)),
        key_colour=_colour_free(tint * random.uniform(0.9, 1.4)),
        fill=_colour_free(fill / np.linalg.norm(fill)),
        fill_colour=_colour_free(tint[::-1] * random.uniform(0.12, 0.4)),
        sky=_colour_free(room * (1 + np.array([-0.04, 0.0, 0.06]))),
        ground=_colour_free(room * random.uniform(0.35, 0.65) * np.array([1.05, 1.0, 0.92])),
    )


def hair_height(mesh: Mesh, hair: Hair) -> np.ndarray:
    """(V,) float32: how far inside of the hair each vertex is, in head sizes; negative outside.

    By the average head, so that people with the same cut have it at the same places of their heads.
    """
    x, y, z = mesh.vertices.T
    eye = mesh.eyes[0, 1]
    ear = mesh.vertices[mesh.ears]
    # In front the hairline runs over the forehead, falls before the ear, and ends at the nape behind it.
    front = eye + hair.brow + hair.parting * x - hair.peak * x**2 - 1.2 * np.maximum(np.abs(x) - 0.30, 0)
    behind = (ear[:, 2].max() + 0.03 - z) / 0.22
    line = front + (hair.nape - front) * _smooth(behind)
    height = y - line
    # Around the ears it keeps clear of them: a tuft on the ear is what gives such caps away.
    from_ear = np.sqrt(((mesh.vertices[:, None] - ear[None, ::6]) ** 2).sum(-1)).min(1) - 0.02
    above = y > ear[:, 1].max() - 0.02
    height = np.where(above, np.minimum(height, from_ear + 0.04), np.minimum(height, from_ear - 0.02))
    return np.where((mesh.part == SKIN) & ~mesh.ears, height, -1.0).astype(np.float32)


def beard_share(mesh: Mesh) -> np.ndarray:
    """(V,) float32: how much each vertex belongs to the areas where beards grow, 0 to 1."""
    x, y, z = mesh.vertices.T
    lips = mesh.vertices[mesh.lips]
    middle, wide = lips.mean(0), np.ptp(lips[:, 0]) / 2
    cheek = middle[1] + 0.02 + 0.9 * np.maximum(np.abs(x) - wide, 0) ** 1.1
    top = np.where(np.abs(x) < wide, lips[:, 1].max() + 0.055, cheek)
    share = ((top - y) / 0.14).clip(0, 1) * ((y - (mesh.vertices[mesh.chin, 1] - 0.16)) / 0.12).clip(0, 1)
    share = share * ((z + 0.44) / 0.12).clip(0, 1)
    return np.where((mesh.part == SKIN) & ~mesh.lips & ~mesh.ears, share, 0).astype(np.float32)


def _smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 without corners (like GLSL's smoothstep)."""
    share = share.clip(0, 1)
    return share * share * (3 - 2 * share)


def _between(colours: tuple[Colour, ...], share: float) -> np.ndarray:
    """On the line through these colours."""
    known = np.array(colours)
    return np.array([np.interp(share, np.linspace(0, 1, len(known)), channel) for channel in known.T])


def _muted(random: np.random.Generator, low: float, high: float) -> Colour:
    """A colour that is mostly grey."""
    grey = random.uniform(low, high)
    return _colour(grey + random.normal(0, 0.07, 3) * min(1.0, 2.5 * grey))


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 0, 1).tolist()
    return red, green, blue


def _colour_free(values: np.ndarray) -> tuple[float, float, float]:
    """Three numbers without bounds."""
    one, two, three = np.asarray(values, float).tolist()
    return one, two, three
