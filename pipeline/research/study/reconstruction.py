"""The auto-encoder on held-out speakers: reconstructing a frame from another one, compared with copying.

Each triple has a source frame, a driving frame, and another driving frame of the same clip. The driving frame is
reconstructed from the source and its own motion code, and then, as a control, from the source and the code of the other
frame. A model that only copies the source gives the same for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.learning.losses import component_masks
from models.learning.reconstruction import MOUTH, reconstruct
from models.pixels import to_images, to_tensor
from pipeline.evaluation.bootstrap import mean, ratio
from pipeline.research.study.clips import StudyError, Watch, frames_of, speaker_of, unwatched
from pipeline.research.study.metric import Metric
from pipeline.training.frames import gradient_energy, psnr
from pipeline.training_data.shards import Shards

REGIONS = {"whole": "whole frame", "mouth": "mouth box"}
"""Name -> its description."""

WORST = "mouth.reconstruction"
"""The score by which pairs are called the worst."""

STRIP = 8
"""Number of pairs that are kept as images, of different speakers."""


@dataclass
class PairScores:
    """Scores of N pairs."""

    speakers: list[str] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)
    """`<region>.<score>` -> values (N,): PSNR in dB of `reconstruction`, `copy` and `shuffled`; gradient energy `made`
    and `true`."""
    names: list[str] = field(default_factory=list)
    """Clip and driving frame (N,)."""
    strip: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Name of a row -> frames (S,S,3) uint8."""
    worst: list[tuple[float, int, dict[str, np.ndarray]]] = field(default_factory=list)
    """The pairs with the lowest PSNR of the mouth so far, the worst first: (PSNR, place in N, name of a row -> frame).
    """

    def column(self, name: str) -> np.ndarray:
        """(N,)."""
        return np.array(self.columns[name])


Pair = tuple[int, tuple[int, int, int]]
"""(clip, frames: source, driving, other driving)."""


def draw_pairs(shards: Shards, number: int, seed: int) -> list[Pair]:
    """Clips in turn, with random frames that are all different; in the order of the clips."""
    if shards.frames.max() < 3:
        raise StudyError("clips_too_short", f"{shards.folder}: no held-out clip has three frames")
    usable = np.flatnonzero(shards.frames >= 3)
    pairs = []
    for place in range(number):
        clip = int(usable[place % len(usable)])
        draw = np.random.default_rng([seed, 1, place])
        source, driving, other = draw.choice(int(shards.frames[clip]), size=3, replace=False).tolist()
        pairs.append((clip, (source, driving, other)))
    return sorted(pairs)


@torch.no_grad()
def score_pairs(
    autoencoder: Autoencoder,
    shards: Shards,
    pairs: Sequence[Pair],
    size: int,
    device: str = "cpu",
    watch: Watch = unwatched,
) -> PairScores:
    """Reconstruct the frames of all pairs, clip by clip, and compare them.

    `size` is the side of the model's images, px.
    """
    scores = PairScores()
    clips = [(clip, [numbers for _, numbers in group]) for clip, group in groupby(pairs, key=lambda pair: pair[0])]
    for clip, numbers in watch(clips, "clips of frame pairs"):
        flat = [number for three in numbers for number in three]
        images = to_tensor(frames_of(shards, clip, flat, size)).to(device)
        source, driving, other = images.unflatten(0, (-1, 3)).unbind(1)
        boxes = shards.read(clip, "components")["components"][[three[1] for three in numbers]]
        made = reconstruct(autoencoder, source, driving).float().clamp(-1, 1)
        shuffled = reconstruct(autoencoder, source, other).float().clamp(-1, 1)
        mouth = component_masks(torch.from_numpy(boxes.copy()).to(device), size)[:, MOUTH]
        found = _compare(source, driving, made, shuffled, mouth)
        for name, values in found.items():
            scores.columns.setdefault(name, []).extend(values.double().tolist())
        for i, three in enumerate(numbers):
            scores.names.append(f"{shards.rows[clip]['clip_id']} frame {three[1]}")
            _keep_worst(scores, {"source": source[i], "driving": driving[i], "reconstructed": made[i]})
        if speaker_of(shards, clip) not in scores.speakers and len(scores.strip.get("source", [])) < STRIP:
            shown = {
                "source": source,
                "driving": driving,
                "reconstructed": made,
                "with the code of another frame": shuffled,
            }
            for label, pictures in shown.items():
                scores.strip.setdefault(label, []).append(to_images(pictures[:1])[0])
        scores.speakers += [speaker_of(shards, clip)] * len(numbers)
    return scores


def _keep_worst(scores: PairScores, frames: dict[str, Tensor]) -> None:
    """Keep the frames (C,S,S) of the pair that was named last if it is among the worst."""
    place = len(scores.names) - 1
    found = scores.columns[WORST][place]
    if not np.isfinite(found) or (len(scores.worst) == STRIP and found >= scores.worst[-1][0]):
        return
    images = {name: to_images(frame[None])[0] for name, frame in frames.items()}
    scores.worst = sorted([*scores.worst, (found, place, images)], key=lambda one: one[:2])[:STRIP]


def worst_strip(scores: PairScores) -> dict[str, list[np.ndarray]]:
    """Name of a row -> frames of the worst pairs."""
    return {name: [images[name] for *_, images in scores.worst] for name in ("source", "driving", "reconstructed")}


def worst_table(scores: PairScores) -> list[list[str]]:
    """Head and rows: the worst pairs with their PSNR in dB."""
    head = ["clip and frame", "speaker", *(f"PSNR of the {where}, dB" for where in REGIONS.values())]
    rows = []
    for _, place, _ in scores.worst:
        values = (scores.columns[f"{region}.reconstruction"][place] for region in REGIONS)
        rows.append([scores.names[place], scores.speakers[place], *(f"{value:.2f}" for value in values)])
    return [head, *rows]


def _compare(source: Tensor, driving: Tensor, made: Tensor, shuffled: Tensor, mouth: Tensor) -> dict[str, Tensor]:
    found = {}
    for region, mask in zip(REGIONS, (None, mouth), strict=True):
        for name, picture in (("reconstruction", made), ("copy", source), ("shuffled", shuffled)):
            found[f"{region}.{name}"] = psnr(picture, driving, mask)
        for name, picture in (("made", made), ("true", driving)):
            found[f"{region}.{name}"] = gradient_energy(picture, mask)
    return found


def reconstruction_metrics(scores: PairScores, seed: int = 0) -> list[Metric]:
    """PSNR, differences of PSNR (both averaged over pairs, dB) and ratios of gradient energy, for the frame and the
    mouth.
    """
    metrics = []
    for region, where in REGIONS.items():

        def add(name: str, text: str, values: np.ndarray, region: str = region) -> None:
            estimate = mean(values, scores.speakers, seed)
            better: Literal["higher", ""] = "" if name in ("copy_psnr", "shuffled_psnr") else "higher"
            metrics.append(Metric(f"reconstruction.{region}.{name}", text, estimate, "dB", "pairs", better))

        made, copy, shuffled = (scores.column(f"{region}.{name}") for name in ("reconstruction", "copy", "shuffled"))
        add("psnr", f"PSNR of the reconstructed frame, {where}", made)
        add("copy_psnr", f"PSNR of the source frame itself, {where}", copy)
        add("shuffled_psnr", f"PSNR of the frame reconstructed with another frame's code, {where}", shuffled)
        add("over_copy", f"PSNR gain over copying the source, {where}", made - copy)
        add("over_shuffled", f"PSNR gain over the code of another frame, {where}", made - shuffled)
        energy = ratio(scores.column(f"{region}.made"), scores.column(f"{region}.true"), scores.speakers, seed)
        text = f"gradient energy of the reconstructed frame relative to the true one, {where}"
        metrics.append(Metric(f"reconstruction.{region}.gradient_energy", text, energy, "", "pairs"))
    return metrics


def paired_metrics(scores: PairScores, first: PairScores, seed: int = 0) -> list[Metric]:
    """PSNR difference between two models on the same pairs: people differ by more than models do (dB)."""
    metrics = []
    for region, where in REGIONS.items():
        name = f"{region}.reconstruction"
        estimate = mean(scores.column(name) - first.column(name), scores.speakers, seed)
        text = f"PSNR of the reconstructed frame, minus that of the first model in the table, {where}"
        metrics.append(Metric(f"reconstruction.{region}.over_first", text, estimate, "dB", "pairs"))
    return metrics
