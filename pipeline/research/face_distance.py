"""How well dlib's face distance (`pipeline.measure.dlib_face`) tells generated people apart, and by which limits.

Of each person there are a portrait (at rest, straight ahead), frames of a film in which the person speaks with an
emotion and moves (once per second, as quality control looks), the portrait under another person's light, and, if a
model is given, frames that the model renders from the portrait and the same speech.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as changed

import numpy as np
from PIL import Image

from models import EMOTIONS
from models.config import POSE_DIM
from pipeline.common.options import SettingError, check_ranges, option
from pipeline.face.detector import FaceDetector
from pipeline.measure.dlib_face import DlibFace
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.look import Look
from pipeline.research.corpus.motion import FaceMotion, move
from pipeline.research.corpus.renderer import Renderer
from pipeline.research.corpus.text import draw_text
from pipeline.research.corpus.units import ARKIT
from pipeline.research.corpus.voice import LANGUAGES, draw_voice, speak

FIRST_SEED = 3000
DRAWN = 512
"""Side of the frames as they are drawn, px; smaller ones are made from them."""
FPS = 25
CONFIDENCE = 1.96
"""Standard deviations of a 95 % interval."""


Render = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(portrait (S,S,3) uint8 RGB, speech (n,) float32 at 16 kHz, seed) -> frames (T,s,s,3) uint8 RGB at 25 per second."""


@dataclass
class FaceDistanceSettings:
    """Who is compared, at which sizes."""

    people: int = option(32, "Number of generated people.", least=2, most=1000)
    frames: int = option(6, "Frames of each film, one per second.", least=1, most=60)
    sizes: list[int] = option([512, 128, 64], "Side lengths at which the faces are compared, px.")
    limits: list[float] = option([0.3, 0.35, 0.4, 0.45, 0.5, 0.6], "Distances above which a film would be flagged.")
    model: str = option("", "Folder of a model, or pocket: films of it are compared too, at its own size.")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.sizes or min(self.sizes) < 32 or max(self.sizes) > DRAWN:
            raise SettingError("sizes", f"give at least one size, each from 32 to {DRAWN}")
        if not self.limits:
            raise SettingError("limits", "give at least one distance")


@dataclass(frozen=True, eq=False)
class Person:
    """Pictures of one person, (...,S,S,3) uint8 RGB."""

    portrait: np.ndarray
    film: np.ndarray
    """(N,S,S,3)"""
    lit: np.ndarray
    """The portrait under another light."""
    rendered: np.ndarray | None
    """(N,s,s,3) by the model, at its own size."""


def draw_person(seed: int, frames: int, render: Render | None = None) -> Person:
    """Draw the person of a seed; `render` makes the model's frames."""
    head = Head(seed)
    look = Look.drawn(seed, head)
    still, ahead = np.zeros((1, len(ARKIT)), np.float32), np.zeros((1, 2), np.float32)
    straight = np.zeros((1, POSE_DIM), np.float32)
    renderer = Renderer(head, look, DRAWN)
    portrait = renderer.render(still, straight, ahead).frames[0]
    motion, sound = _speaking(seed, frames)
    seconds = slice(0, frames * FPS, FPS)
    film = renderer.render(motion.action_units[seconds], motion.pose[seconds], motion.gaze[seconds]).frames
    light = Look.drawn(seed + 1, head).light
    lit = Renderer(head, changed(look, light=light), DRAWN).render(still, straight, ahead).frames[0]
    return Person(portrait, film, lit, render(portrait, sound, seed)[seconds] if render is not None else None)


def _speaking(seed: int, seconds: int) -> tuple[FaceMotion, np.ndarray]:
    """Motion and speech (n,) float32 of at least so many seconds."""
    language = list(LANGUAGES)[seed % len(LANGUAGES)]
    emotion = EMOTIONS[seed % len(EMOTIONS)]
    text, voice = "", draw_voice(language, seed)
    for more in range(seed, seed + seconds + 1):  # a sentence takes a second and more
        text += f"{draw_text(language, more)} "
        spoken = speak(text.strip(), voice, emotion=emotion, seed=seed)
        if spoken.frames >= seconds * FPS:
            return move(spoken, seed), spoken.wave
    raise ValueError(f"{text!r} takes less than {seconds} s")


@dataclass
class Distances:
    """Of one kind of picture against portraits of the same size."""

    name: str
    same: list[list[float]] = field(default_factory=list)
    """Per person: the pictures against the own portrait."""
    other: list[list[float]] = field(default_factory=list)
    """Per person: the pictures against the portraits of all others."""
    missed: int = 0
    """Pictures in which no face was found."""


def compare(people: Iterable[Person], settings: FaceDistanceSettings) -> list[Distances]:
    """Distances of all people's pictures, for each size."""
    detector, embed = FaceDetector(), DlibFace()
    found: dict[str, list[list[np.ndarray]]] = {}
    portraits: dict[str, list[np.ndarray]] = {}
    missed: dict[str, int] = {}
    for person in people:
        for name, side, pictures in _kinds(person, settings.sizes):
            seen = [_embedded(picture, detector, embed) for picture in (_sized(person.portrait, side), *pictures)]
            if seen[0] is None:
                raise ValueError(f"no face is found in a portrait of {side} px")
            portraits.setdefault(name, []).append(seen[0])
            found.setdefault(name, []).append([one for one in seen[1:] if one is not None])
            missed[name] = missed.get(name, 0) + sum(one is None for one in seen)
    return [_distances(name, found[name], portraits[name], missed[name]) for name in found]


def _kinds(person: Person, sizes: Iterable[int]) -> Iterator[tuple[str, int, list[np.ndarray]]]:
    """(kind, side, its pictures)"""
    for side in sizes:
        yield f"film {side}", side, [_sized(frame, side) for frame in person.film]
    yield f"light {DRAWN}", DRAWN, [person.lit]
    if person.rendered is not None:
        side = person.rendered.shape[1]
        yield f"model {side}", side, list(person.rendered)


def _sized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def _embedded(picture: np.ndarray, detector: FaceDetector, embed: DlibFace) -> np.ndarray | None:
    faces = detector.detect(picture)
    return embed(picture, faces[0].landmarks) if faces else None


def _distances(name: str, pictures: list[list[np.ndarray]], portraits: list[np.ndarray], missed: int) -> Distances:
    result = Distances(name, missed=missed)
    for i, own in enumerate(pictures):
        table = np.array([[np.linalg.norm(one - portrait) for portrait in portraits] for one in own])
        result.same.append(table[:, i].tolist())
        result.other.append(np.delete(table, i, axis=1).ravel().tolist())
    return result


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share that was seen in `count` independent cases (Wilson 1927)."""
    z = CONFIDENCE**2 / count
    middle, spread = share + z / 2, CONFIDENCE * math.sqrt((share * (1 - share) + z / 4) / count)
    return (middle - spread) / (1 + z), (middle + spread) / (1 + z)


def table(found: Iterable[Distances], limits: Iterable[float]) -> str:
    """A Markdown table: distances, and for each limit the rates of both errors.

    A false alarm is a film of the right person that has a frame above the limit; a miss is a picture of another person
    that is not above it. Pairs that share a person are not independent, so intervals count people and not pairs.
    """
    lines = [
        "| pictures | same: median, 95 %, largest | other: smallest, 5 %, median | limit | false alarms | misses |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        same, other = np.concatenate(one.same), np.concatenate(one.other)
        about = (
            f"{np.median(same):.2f}, {np.percentile(same, 95):.2f}, {same.max():.2f}",
            f"{other.min():.2f}, {np.percentile(other, 5):.2f}, {np.median(other):.2f}",
        )
        for limit in limits:
            alarms = float(np.mean([max(own) > limit for own in one.same if own]))
            misses = float(np.mean([np.mean(np.array(others) <= limit) for others in one.other if others]))
            cells = [one.name, *about, f"{limit:g}", *(_rate(rate, len(one.same)) for rate in (alarms, misses))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rate(share: float, people: int) -> str:
    low, high = wilson(share, people)
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
