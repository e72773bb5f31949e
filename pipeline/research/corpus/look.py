"""What makes people and videos differ apart from the shape of the head: colours, hair, light, clothes, background.

Everything is drawn from a seed. The ranges are our own, set by eye; they do not describe any population.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.research.corpus.backdrop import backdrop
from pipeline.research.corpus.clothes import GARMENTS
from pipeline.research.corpus.hair import Colour, Hair, draw_hair
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.mesh import SKIN, Mesh

LOOKS = 2
"""Version of the looks. The first had caps of hair and plain walls; the bundled model of the first release was trained
on it, and the portraits of the demo are its."""

_SKINS: tuple[Colour, ...] = (
    (0.90, 0.74, 0.66),
    (0.86, 0.68, 0.57),
    (0.79, 0.59, 0.47),
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
    garment: str
    """One of GARMENTS."""
    cloth: Colour
    cloth2: Colour
    """Of stripes, and of the shirt under a jacket."""
    pattern: float
    """Above 0.75: stripes."""
    age: float
    """0 young to 1 very old: lines and shades under the eyes."""
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
        hair = _hair(random, head, tone, seed)
        brow = np.array(hair.colour) * random.uniform(0.5, 0.8) + skin * 0.06
        garment = str(random.choice(GARMENTS, p=[0.3, 0.14, 0.2, 0.2, 0.16]))
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
            garment=garment,
            cloth=_muted(random, 0.06, 0.75),
            cloth2=_muted(random, 0.5, 0.92) if garment == "jacket" else _muted(random, 0.1, 0.9),
            pattern=float(random.random() * (garment == "crew")),
            age=float(np.clip((head.age - 0.70) / 0.27, 0, 1)),
            collar=float(random.uniform(-0.64, -0.56)),
            light=_light(random),
            seed=seed,
        )

    def background(self, size: int) -> np.ndarray:
        """(size,size,3) uint8: a room out of focus."""
        return backdrop(self.seed, size)


def _hair(random: np.random.Generator, head: Head, tone: float, seed: int) -> Hair:
    old = np.clip((head.age - 0.75) / 0.2, 0, 1)
    names = list(_HAIRS)
    weights = np.array(
        [0.15 + 2.5 * tone, 1.0, 1.0 - tone, max(0.0, 0.9 - 3 * tone), max(0.0, 0.35 - tone), 2 * old, old]
    )
    colour = np.array(_HAIRS[str(random.choice(names, p=weights / weights.sum()))]) * random.uniform(0.85, 1.15)
    return draw_hair(random, head.woman, head.age, colour * random.uniform(0.97, 1.03, 3), seed)


def _light(random: np.random.Generator) -> Light:
    side = random.choice([-1, 1])
    key = np.array([side * random.uniform(0.1, 0.9), random.uniform(0.25, 0.9), random.uniform(0.7, 1.2)])
    fill = np.array([-side * random.uniform(0.5, 1.0), random.uniform(-0.1, 0.3), random.uniform(0.5, 1.0)])
    warm = random.normal(0, 0.06)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    room = random.uniform(0.10, 0.26)
    return Light(
        key=_colour_free(key / np.linalg.norm(key)),
        key_colour=_colour_free(tint * random.uniform(0.9, 1.4)),
        fill=_colour_free(fill / np.linalg.norm(fill)),
        fill_colour=_colour_free(tint[::-1] * random.uniform(0.12, 0.4)),
        sky=_colour_free(room * (1 + np.array([-0.04, 0.0, 0.06]))),
        ground=_colour_free(room * random.uniform(0.35, 0.65) * np.array([1.05, 1.0, 0.92])),
    )


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
