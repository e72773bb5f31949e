"""The clips of the corpus with their ground truth."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.common.errors import RefusedError
from pipeline.research.corpus.units import CURVES
from pipeline.training.frames import read_frames
from pipeline.training_data.shards import Shards

PLACE = {name: i for i, name in enumerate(CURVES)}
"""Name of a blendshape or other value -> its column."""

SMILE = ("mouthSmileLeft", "mouthSmileRight")

Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Yields items one by one and may show progress, which is the caller's responsibility."""


def unwatched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """A `Watch` that shows nothing."""
    return items


class StudyError(RefusedError):
    """Something that cannot be measured, as a code and a sentence that says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def read_curves(shards: Shards, index: int) -> np.ndarray:
    """(T,60) float32 of a clip with the columns of `CURVES`. Raises StudyError curves_missing."""
    row = shards.rows[index]
    try:
        curves = shards.read(index, "curves")["curves"]
    except KeyError:  # shards of an earlier version
        curves = None
    if curves is None:
        raise StudyError(
            "curves_missing",
            f"{shards.folder}: {row['clip_id']} has no blendshapes (curves): the study needs samples of a generated "
            "corpus, so prepare them from the corpus.csv that jobs.research.corpus writes, whose column curves names "
            "them",
        )
    if curves.shape[1] != len(CURVES):
        raise StudyError(
            "curves_unknown",
            f"{shards.folder}: {row['clip_id']} has {curves.shape[1]} curves per frame, but jobs.research.corpus "
            f"writes {len(CURVES)}: prepare the samples from its corpus.csv",
        )
    return curves


def speaker_of(shards: Shards, index: int) -> str:
    """The speaker of a clip; a clip of an unknown speaker counts as a speaker of its own."""
    row = shards.rows[index]
    return row["speaker"] or row["clip_id"]


def spread(shards: Shards, count: int, seed: int) -> list[int]:
    """Numbers of at most `count` clips, in order: drawn at random, with as equal numbers per speaker as possible."""
    draw = np.random.default_rng([seed, 7])
    taken: dict[str, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for index in draw.permutation(len(shards)).tolist():
        speaker = speaker_of(shards, index)
        taken[speaker] = taken.get(speaker, 0) + 1
        ranked.append((taken[speaker], len(ranked), index))
    return sorted(index for _, _, index in sorted(ranked)[:count])


def every(frames: int, number: int) -> list[int]:
    """Numbers of at most `number` frames, evenly spaced in a clip of `frames`."""
    return np.unique(np.linspace(0, frames - 1, min(number, frames)).round().astype(int)).tolist()


def frames_of(shards: Shards, index: int, numbers: Sequence[int] | None, size: int) -> np.ndarray:
    """Frames (n,size,size,3) uint8 of a clip; None returns all. Decodes the whole clip if many are requested."""
    video = shards.read(index, "video")["video"]
    frames = int(shards.frames[index])
    if numbers is not None and len(numbers) * 8 < frames:  # every eighth frame is a key frame
        return read_frames(video, numbers, size)
    found = read_frames(video, None, size)
    return found if numbers is None else found[list(numbers)]
