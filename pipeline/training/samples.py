"""Training samples. Each is a function of (seed, step, position in the step's batch) and of the data alone.

The only position of a run in the data is therefore its step: whether it was stopped and resumed, or runs on another
number of workers, it sees the same samples with the same noise. Ray Data, which prepares the shards, is not used to
read them: its streams for several workers have neither a fixed order nor a position from which they can resume.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models import EMOTIONS, FloatConfig
from models.learning.objectives import Dropout, MotionBatch
from models.pixels import to_tensor
from pipeline.common.errors import RefusedError
from pipeline.training.frames import read_frames
from pipeline.training_data.shards import Shards

HELD_OUT = -1
"""The step of held-out samples, which are the same in every validation."""


def random_source(seed: int, step: int, place: int) -> np.random.Generator:
    """Source of everything that is random in one sample. `step` may be `HELD_OUT`."""
    return np.random.default_rng([seed, step + 1, place])


class DataError(RefusedError):
    """Data that cannot be used for training; the message says what to change."""


class Samples(Protocol):
    """What a stage learns from."""

    def sample(self, seed: int, step: int, place: int) -> Any:
        """One sample; several threads call this at the same time."""

    def collate(self, samples: list[Any]) -> Any:
        """Samples -> a batch."""


class _Others:
    """Chooses another clip of the same speaker, for a share of the samples."""

    def __init__(self, shards: Shards, share: float) -> None:
        self._share = share
        # A clip of an unknown speaker counts as a speaker of its own.
        self._speakers: list[str] = [row["speaker"] or row["clip_id"] for row in shards.rows]
        self._clips_of: dict[str, list[int]] = {}
        for clip, speaker in enumerate(self._speakers):
            self._clips_of.setdefault(speaker, []).append(clip)

    def __call__(self, clip: int, draw: np.random.Generator) -> int:
        """The clip itself if the speaker has no other; draws nothing if the share is 0."""
        if not self._share or draw.random() >= self._share:
            return clip
        others = [one for one in self._clips_of[self._speakers[clip]] if one != clip]
        return others[int(draw.integers(len(others)))] if others else clip


# --- Phase 1 ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameBatch:
    """Pairs of frames of the same clip."""

    source: Tensor
    """(B,3,S,S) in [-1,1]."""
    driving: Tensor
    """(B,3,S,S)."""
    boxes: Tensor
    """(B,3,4) for the driving frame: `pipeline.training_data.shards.COMPONENTS`."""
    curves: Tensor | None = None
    """(B,2,K) known values of the source and driving frames, standardised."""

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device) -> "FrameBatch":
        """The batch on another device."""
        return self._each(lambda value: value.to(device))

    def part(self, rows: slice) -> "FrameBatch":
        """Some of its samples."""
        return self._each(lambda value: value[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "FrameBatch":
        curves = None if self.curves is None else change(self.curves)
        return FrameBatch(change(self.source), change(self.driving), change(self.boxes), curves)


class FramePairs:
    """Two different random frames of a clip; every second of video is equally likely."""

    def __init__(
        self,
        shards: Shards,
        size: int,
        cache_gigabytes: float = 0.0,
        curves: "CurveScale | None" = None,
        across: float = 0.0,
    ) -> None:
        """`across` is the share of the pairs whose source is a frame of another clip of the same speaker, if there is
        one.
        """
        self._shards, self._size, self._curves = shards, size, curves
        self._others = _Others(shards, across)
        self._ends = np.cumsum(shards.frames)
        if shards.frames.min() < 2:
            raise DataError(f"{shards.folder}: a clip has fewer than two frames")
        self._room = int(cache_gigabytes * 1e9)
        self._known: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def sample(self, seed: int, step: int, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """((2,S,S,3) uint8: source and driving frames, boxes (3,4) of the driving frame, standardised curves (2,K) of
        both).
        """
        draw = random_source(seed, step, place)
        clip = int(np.searchsorted(self._ends, draw.integers(self._ends[-1]), side="right"))
        frames = int(self._shards.frames[clip])
        source, driving = draw.choice(frames, size=2, replace=False).tolist()
        other = self._others(clip, draw)
        if other != clip:
            source = int(draw.integers(self._shards.frames[other]))
        wanted = [(other, source), (clip, driving)]
        columns = ["components", *(["curves"] if self._curves else [])]
        rows = {i: self._shards.read(i, *columns) for i in {other, clip}}
        curves = self._curves(np.stack([rows[i]["curves"][frame] for i, frame in wanted])) if self._curves else None
        boxes = rows[clip]["components"][driving]
        if other == clip:
            return self._pictures(clip, frames, [source, driving]), boxes, curves
        pictures = [self._pictures(i, int(self._shards.frames[i]), [frame]) for i, frame in wanted]
        return np.concatenate(pictures), boxes, curves

    def _pictures(self, clip: int, frames: int, numbers: list[int]) -> np.ndarray:
        known = self._known.get(clip)
        if known is not None:
            return known[numbers]
        video = self._shards.read(clip, "video")["video"]
        taken = frames * self._size**2 * 3
        with self._lock:
            fits = taken <= self._room
            self._room -= taken if fits else 0
        if not fits:
            return read_frames(video, numbers, self._size)
        self._known[clip] = read_frames(video, None, self._size)
        return self._known[clip][numbers]

    def collate(self, samples: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]) -> FrameBatch:
        """Samples -> a batch."""
        pairs, boxes, curves = zip(*samples, strict=True)
        source, driving = (to_tensor(np.stack([pair[i] for pair in pairs])) for i in range(2))
        known = torch.from_numpy(np.stack(curves)) if self._curves else None
        return FrameBatch(source, driving, torch.from_numpy(np.stack(boxes)), known)


class CurveScale:
    """Standardises the known values of frames, (T,K): over the training data each gets mean 0 and standard
    deviation 1.
    """

    def __init__(self, shards: Shards, most: int = 1000) -> None:
        """Computed from `most` clips, spread over all of them.

        Raises DataError if clips have no curves, or differ in K.
        """
        found, wanted = [], 0
        for clip in np.unique(np.linspace(0, len(shards) - 1, min(most, len(shards))).round().astype(int)).tolist():
            curves = shards.read(clip, "curves")["curves"]
            wanted = wanted or (0 if curves is None else curves.shape[1])
            if curves is None or curves.shape[1] != wanted:
                known = "no curves" if curves is None else f"{curves.shape[1]} curves, whereas others have {wanted}"
                raise DataError(
                    f"{shards.folder}: {shards.rows[clip]['clip_id']} has {known}: for reconstruction.curves all "
                    "clips need the same number (column curves in the source of jobs.prepare); alternatively, give "
                    "it a weight of 0"
                )
            found.append(curves)
        values = np.concatenate(found)
        self.mean: np.ndarray = values.mean(0)
        spread = values.std(0)
        self.spread: np.ndarray = np.where(spread > 1e-6, spread, 1.0)
        """(K,); 1 for a value that never changes, which stays 0."""

    def __call__(self, curves: np.ndarray) -> np.ndarray:
        """(...,K) -> (...,K) float32."""
        return ((curves - self.mean) / self.spread).astype(np.float32)


# --- Phase 2 ---------------------------------------------------------------------------------------------------


class MotionWindows:
    """A window of a clip with the P frames before it, or a clip's first window, which has no previous frames."""

    def __init__(
        self, shards: Shards, config: FloatConfig, dropout: Dropout, labels: float = 0.0, across: float = 0.0
    ) -> None:
        """`labels` is the share of windows whose emotion is the one-hot label of the clip, if it has one.

        `across` that of windows whose reference motion is from another clip of the same speaker, if there is one.

        Raises DataError for latents of another model's shape, and if no clip is as long as a window.
        """
        self._shards, self._config, self._dropout, self._labels = shards, config, dropout, labels
        self._others = _Others(shards, across)
        length, previous = config.window, config.previous
        dims = {"latent_dim": config.latent_dim, "content_dim": config.content_dim}
        for name, wanted in dims.items():
            found = shards.metadata.get(name)
            if found is not None and int(found) != wanted:
                raise DataError(
                    f"{shards.folder}: its {name} is {found}, but the model's is {wanted}: make the latents with this "
                    "model"
                )
        # Windows that start at 0, or at P or later.
        windows = np.where(shards.frames >= length, 1 + np.maximum(0, shards.frames - length - previous + 1), 0)
        self._ends = np.cumsum(windows)
        if not self._ends[-1]:
            raise DataError(f"{shards.folder}: no clip has at least the {length} frames of a window")

    def sample(self, seed: int, step: int, place: int) -> dict[str, Any]:
        """Arrays of `MotionBatch`, for one clip."""
        draw = random_source(seed, step, place)
        window = int(draw.integers(self._ends[-1]))
        clip = int(np.searchsorted(self._ends, window, side="right"))
        number = window - (int(self._ends[clip - 1]) if clip else 0)
        return self.window(clip, 0 if number == 0 else self._config.previous + number - 1, draw)

    def window(self, clip: int, start: int, draw: np.random.Generator) -> dict[str, Any]:
        """The window of a clip that starts at frame `start`; `draw` decides noise, time, reference and dropout."""
        config = self._config
        length, previous = config.window, config.previous
        columns = {"speech": ["speech_emotion"], "image": ["image_emotion"], "none": []}[config.emotion]
        columns += ["motion", "content"] + (["pose"] if config.pose == "head" else [])
        row = self._shards.read(clip, *columns)

        def cut(values: np.ndarray) -> np.ndarray:
            taken = values[max(0, start - previous) : start + length].astype(np.float32)
            return np.pad(taken, ((previous + length - len(taken), 0), (0, 0)))

        emotion = np.zeros(len(EMOTIONS), np.float32)
        if config.emotion != "none":
            emotion = row[columns[0]]
            if emotion is None:
                name = self._shards.rows[clip]["clip_id"]
                raise DataError(
                    f"{self._shards.folder}: {name} has no {columns[0]}: make the latents with a model folder that has "
                    "a face emotion classifier"
                )
        label = self._shards.rows[clip]["emotion"]
        if self._labels and label and config.emotion != "none" and draw.random() < self._labels:
            emotion = np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index(label)]
        other = self._others(clip, draw)
        still = row["motion"] if other == clip else self._shards.read(other, "motion")["motion"]
        keep = self._dropout.draw(draw)
        if start == 0:
            keep[3:] = False  # there are no previous frames
        return {
            "motion": cut(row["motion"]),
            "content": cut(row["content"]),
            "emotion": emotion,
            "reference": still[draw.integers(len(still))],
            "noise": draw.standard_normal((length, config.latent_dim), dtype=np.float32),
            "time": np.float32(draw.random()),
            "keep": keep,
            "pose": cut(row["pose"]) if config.pose == "head" else None,
        }

    def collate(self, samples: list[dict[str, Any]]) -> MotionBatch:
        """Samples -> a batch."""
        columns: dict[str, Any] = {name: [one[name] for one in samples] for name in samples[0]}
        for name, values in columns.items():
            columns[name] = None if values[0] is None else torch.from_numpy(np.stack(values))
        return MotionBatch(**columns)
