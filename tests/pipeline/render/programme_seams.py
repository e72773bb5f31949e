"""The change between frames at the joins of a programme, beside that at the borders of windows inside one clip.

    python -m tests.pipeline.render.programme_seams films=24

Each film is one recording, spoken by a portrait of the demo: as one clip, as a programme of rows of 1 to 3 s that go on
from one another, and as the same rows without that. The figure of a place is that of the metric `seam_z`: the logarithm
of the mean change of the luma, in robust standard deviations above the median of all other frames of its film, in the
delivered file. `seam_z` itself is the largest one of a clip.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models import MOTION_FPS, Portrait, load_float
from models.pixels import to_tensor
from pipeline.api.model import Model
from pipeline.measure.seams import FLOOR
from pipeline.media.mp4 import write_video
from pipeline.media.pixel_layout import YUV420P
from pipeline.media.planes import to_planes
from pipeline.media.presets import PCM_RATE
from pipeline.media.settings import VideoSettings
from pipeline.media.sound_output import silence
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs, MotionStart
from pipeline.storage.model_cache import local_model
from tests import media
from tests.pipeline.render.test_continuation import motion_of

FOLDER = media.PORTRAIT.parent
PORTRAITS = [FOLDER / f"portrait_{number}.png" for number in (2011, 2016, 2017, 2022)]
SOUNDS = sorted(FOLDER.glob("speech_*.wav"))
PREVIOUS, WINDOW, FRAMES = 10, 50, 300
CALM = np.eye(7, dtype=np.float32)[3]
DRAWS = 2000
SHARES = (5, 50, 95)


@dataclass(frozen=True, eq=False)
class Film:
    """Motion (T,D) of a recording."""

    whole: np.ndarray
    """As one clip."""
    programme: np.ndarray
    """In rows that go on from one another."""
    anew: np.ndarray
    """In rows that do not."""
    cuts: tuple[int, ...]
    """Frames with which rows begin."""


class Studio:
    """The bundled model, and speech for it."""

    def __init__(self) -> None:
        self.model = Model(local_model("pocket"), "cpu")
        self._slots = MotionSlots(ModelRunner(load_float(self.model.folder)), 1)

    def film(self, speech: np.ndarray, cuts: tuple[int, ...], seed: int, reference: torch.Tensor) -> Film:
        """The motion for speech features (T,D), cut before these frames; `reference` (D,) is the portrait's own."""
        inputs = MotionInputs(speech, CALM, reference, (2.0, 1.0, 1.0), seed, 10)
        done, windows, anew = np.zeros((0, self._slots.speech_dim), np.float32), 0, []
        for at, end in zip((0, *cuts), (*cuts, len(speech)), strict=True):
            part, start = replace(inputs, speech=speech[at:end]), None
            if at:
                poses = np.zeros((PREVIOUS, 6), np.float32)
                start = MotionStart(done[-PREVIOUS:], speech[at - PREVIOUS : at], poses, windows)
                anew.append(motion_of(self._slots, part).numpy())
            motion = motion_of(self._slots, replace(part, start=start)).numpy()
            done, windows = np.concatenate([done, motion]), windows + -(-len(motion) // WINDOW)
        parts = np.concatenate([done[: cuts[0]], *anew])
        return Film(motion_of(self._slots, inputs).numpy(), done, parts, cuts)


def figures(changes: np.ndarray, places: list[int]) -> np.ndarray:
    """The figures of `seam_z` at some frames, of the changes (T,) from each frame to the next."""
    values = np.log(changes + FLOOR)
    elsewhere = np.delete(values, [place - 1 for place in places])
    median = np.median(elsewhere)
    spread = max(0.1, 1.4826 * float(np.median(np.abs(elsewhere - median))))
    return (values[[place - 1 for place in places]] - median) / spread


def _films(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The figures at windows' borders, at joins, and where rows begin anew, of each film."""
    studio = Studio()
    portraits = [studio.model.encode_portrait(path) for path in PORTRAITS]
    spoken = [studio.model.speech_features(path).content for path in SOUNDS]
    for number in range(count):
        speech = np.tile(spoken[number % len(spoken)], (8, 1))[:FRAMES]
        random, cuts = np.random.default_rng(number), []
        while (at := (cuts[-1] if cuts else 0) + int(random.integers(25, 76))) < FRAMES - 25:
            cuts.append(at + (at % WINDOW == 0))  # a border of a window of the whole clip is no other place
        portrait = portraits[number % len(portraits)]
        film = studio.film(speech, tuple(cuts), number, portrait.motion[0])
        changes = [_changes(studio.model, portrait, motion) for motion in (film.whole, film.programme, film.anew)]
        borders = list(range(WINDOW, len(film.whole), WINDOW))
        yield tuple(figures(change, places) for change, places in zip(changes, (borders, cuts, cuts), strict=True))


def _changes(model: Model, portrait: Portrait, motion: np.ndarray) -> np.ndarray:
    frames = to_tensor(model.decode(portrait, torch.from_numpy(motion)))
    sound = silence(round(len(motion) * PCM_RATE / MOTION_FPS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_video(to_planes(frames, YUV420P).numpy(), path, model.size, VideoSettings(), sound, {})
        luma = media.planes(str(path))[:, : model.size : 4, ::4].astype(np.int16)
    return np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2))


def compared(pairs: list[tuple[np.ndarray, np.ndarray]], seed: int = 0, draws: int = DRAWS) -> dict[str, float]:
    """Two samples (first, second) of each film: the difference of their means (second less first) with a 95 % interval
    (bootstrap over films), the probability of one as large if both were drawn alike (permutations within films), and
    the same for the largest distance of their distributions (Kolmogorov and Smirnov).
    """
    random = np.random.default_rng(seed)
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    sums = np.array([[one.sum(), len(one), other.sum(), len(other)] for one, other in pairs])
    drawn = sums[random.integers(0, len(pairs), (draws, len(pairs)))].sum(axis=1)
    means = drawn[:, 2] / drawn[:, 3] - drawn[:, 0] / drawn[:, 1]
    found = {"difference": float(second.mean() - first.mean()), "distance": _distance(first, second)}
    found |= dict(zip(("low", "high"), np.percentile(means, [2.5, 97.5]).tolist(), strict=True))
    larger = np.zeros(2)
    for _ in range(draws):
        mixed = [random.permutation(np.concatenate(pair)) for pair in pairs]
        one = np.concatenate([values[: len(pair[0])] for values, pair in zip(mixed, pairs, strict=True)])
        other = np.concatenate([values[len(pair[0]) :] for values, pair in zip(mixed, pairs, strict=True)])
        larger += (
            abs(other.mean() - one.mean()) >= abs(found["difference"]) - 1e-12,
            _distance(one, other) >= found["distance"] - 1e-12,
        )
    return found | {"p": (larger[0] + 1) / (draws + 1), "p_distance": (larger[1] + 1) / (draws + 1)}


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    places = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(part), places, side="right") / len(part) for part in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def main(arguments: list[str]) -> None:
    """Print the figures of `films=N` films."""
    count = int(dict(argument.split("=") for argument in arguments).get("films", "24"))
    films = list(_films(count))
    names = ("borders of windows", "joins", "begun anew")
    for name, parts in zip(names, zip(*films, strict=True), strict=True):
        values, largest = np.concatenate(parts), np.array([part.max() for part in parts])
        shares = ", ".join(
            f"{share} % {value:.2f}" for share, value in zip(SHARES, np.percentile(values, SHARES), strict=True)
        )
        print(f"{name}: {len(values)} places, mean {values.mean():.2f}, {shares}")
        print(f"  seam_z of a film: mean {largest.mean():.2f}, largest {largest.max():.2f}")
    for i in (1, 2):
        found = compared([(film[0], film[i]) for film in films])
        print(f"{names[i]} less {names[0]}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
