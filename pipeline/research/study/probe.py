"""A linear probe: how much of a frame's ground truth its motion code encodes, and what a code means in these terms.

Least squares with a small ridge from the motion coefficients lambda (N,M) to the known values (N,K), fitted on frames
of training speakers and scored on frames of held-out speakers:

    R2 = 1 - sum (y - found)^2 / sum (y - mean y)^2, the mean over all held-out frames
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.autoencoder import Autoencoder
from models.pixels import to_tensor
from pipeline.evaluation.bootstrap import Estimate, of_sums
from pipeline.research.corpus.units import CURVES
from pipeline.research.study.clips import PLACE, Watch, every, frames_of, read_curves, speaker_of, unwatched
from pipeline.research.study.metric import Metric
from pipeline.training_data.shards import Shards

MOVES = 0.02
"""A value that varies less than this (standard deviation over held-out frames) does not move, and has no meaningful R2:
2 % of a blendshape's largest movement, or of a radian.
"""


@dataclass(frozen=True)
class Frames:
    """Frames of several clips."""

    codes: np.ndarray
    """(N,M)."""
    curves: np.ndarray
    """(N,K)."""
    speakers: list[str]
    clips: np.ndarray
    """(N,) number of each frame's clip."""


@dataclass(frozen=True)
class Probe:
    """A linear map with an offset."""

    weight: np.ndarray
    """(M,K)."""
    bias: np.ndarray
    """(K,)."""

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """(...,M) -> (...,K)."""
        return codes @ self.weight + self.bias


def fit_probe(codes: np.ndarray, curves: np.ndarray, ridge: float = 1e-4) -> Probe:
    """Codes (N,M), known values (N,K).

    The ridge is a share of each code's own variance, so the scale of codes does not matter.
    """
    codes, curves = codes.astype(np.float64), curves.astype(np.float64)
    middle, scale = codes.mean(0), codes.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    about, level = (codes - middle) / scale, curves.mean(0)
    gram = about.T @ about + ridge * len(codes) * np.eye(codes.shape[1])
    weight = np.linalg.solve(gram, about.T @ (curves - level)) / scale[:, None]
    return Probe(weight, level - middle @ weight)


def r2(found: np.ndarray, true: np.ndarray, speakers: Sequence[str], seed: int = 0) -> Estimate:
    """R2 of values (N,) with the interval over speakers."""
    true = true.astype(np.float64)
    rows = np.stack([(true - found) ** 2, true**2, true, np.ones(len(true))], axis=1)
    return of_sums(_r2, rows, speakers, seed)


def mean_r2(found: np.ndarray, true: np.ndarray, speakers: Sequence[str], seed: int = 0) -> Estimate:
    """Mean of the R2 of K values (N,K)."""
    true = true.astype(np.float64)
    rows = np.concatenate([(true - found) ** 2, true**2, true, np.ones_like(true)], axis=1)

    def each(sums: np.ndarray) -> np.ndarray:
        return _r2(np.moveaxis(sums.reshape(*sums.shape[:-1], 4, -1), -2, -1)).mean(-1)

    return of_sums(each, rows, speakers, seed)


def _r2(sums: np.ndarray) -> np.ndarray:
    """(...,4): sums of squared errors, squares, values and ones."""
    errors, squares, values, count = np.moveaxis(sums, -1, 0)
    return 1 - errors / (squares - values**2 / count)


@torch.no_grad()
def encode_frames(
    autoencoder: Autoencoder,
    shards: Shards,
    clips: Sequence[int],
    per_clip: int,
    size: int,
    device: str = "cpu",
    watch: Watch = unwatched,
) -> Frames:
    """Motion codes and known values of `per_clip` frames of each clip, evenly spaced."""
    codes, curves, speakers, places = [], [], [], []
    for clip in watch(clips, "clips to encode"):
        numbers = every(int(shards.frames[clip]), per_clip)
        images = to_tensor(frames_of(shards, clip, numbers, size)).to(device)
        codes.append(autoencoder.encode(images).coefficients.float().cpu().numpy())
        curves.append(read_curves(shards, clip)[numbers])
        speakers += [speaker_of(shards, clip)] * len(numbers)
        places += [clip] * len(numbers)
    return Frames(np.concatenate(codes), np.concatenate(curves), speakers, np.array(places))


def within_clips(values: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """(N,) minus the mean of each value's own clip (N,): what moves, without what differs between people."""
    _, places = np.unique(clips, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    return values - means[places]


def probe_metrics(train: Frames, held_out: Frames, seed: int = 0) -> tuple[Probe, list[Metric]]:
    """The probe, and its R2 on held-out speakers compared with that of a probe of shuffled values."""
    probe = fit_probe(train.codes, train.curves)
    shuffled = fit_probe(train.codes, np.random.default_rng([seed, 2]).permutation(train.curves))
    moving = [i for i in range(len(CURVES)) if held_out.curves[:, i].std() > MOVES]
    metrics = []
    for key, model, text in (("probe", probe, "R2"), ("probe_shuffled", shuffled, "R2 with shuffled blendshapes")):
        found = model(held_out.codes)

        def score(name: str, found: np.ndarray = found) -> Estimate:
            return r2(found[:, PLACE[name]], held_out.curves[:, PLACE[name]], held_out.speakers, seed)

        for name in ("jawOpen", "yaw"):
            metrics.append(Metric(f"{key}.{name}", f"{text} of {name} from the motion code", score(name), "", "frames"))
        for name in ("jawOpen", "yaw"):
            column = PLACE[name]
            moved, true = (within_clips(values[:, column], held_out.clips) for values in (found, held_out.curves))
            told = f"{text} of {name} from the motion code, after subtracting each clip's mean"
            metrics.append(Metric(f"{key}.within.{name}", told, r2(moved, true, held_out.speakers, seed), "", "frames"))
        together = mean_r2(found[:, moving], held_out.curves[:, moving], held_out.speakers, seed)
        told = f"{text}, mean of the {len(moving)} blendshapes that move"
        metrics.append(Metric(f"{key}.moving", told, together, "", "frames"))
        if key == "probe":
            for i in moving:
                if CURVES[i] not in ("jawOpen", "yaw"):
                    name = CURVES[i]
                    metrics.append(Metric(f"{key}.each.{name}", f"{text} of {name}", score(name), "", "frames"))
    return probe, metrics
