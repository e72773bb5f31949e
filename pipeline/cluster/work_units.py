"""Work units: which clips a worker takes together."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.common.disk_collections import LazySequence


@dataclass(frozen=True)
class Unit:
    """What a worker takes at a time: clips, their features, or their status rows."""

    items: list[Any]


class Units(LazySequence[Unit]):
    """Clips in units of about `unit_seconds` of audio (at least `least` clips each), longest clips first.

    Clips of similar length share a unit, because they are sampled in one batch. A long clip at the end would leave all
    workers but one idle. Needs 8 bytes of memory per clip.
    """

    def __init__(self, clips: Sequence[Any], seconds: Sequence[float], unit_seconds: float, least: int = 1) -> None:
        lengths = np.asarray(seconds, dtype=np.float64)
        self._clips = clips
        self._order = np.argsort(-lengths, kind="stable")
        self._starts = array("q")
        room = 0.0
        for i, length in enumerate(lengths[self._order]):
            if i == 0 or (length > room and i - self._starts[-1] >= least):
                self._starts.append(i)
                room = unit_seconds
            room -= length

    def __len__(self) -> int:
        return len(self._starts)

    def _item(self, i: int) -> Unit:
        end = self._starts[i + 1] if i + 1 < len(self) else len(self._order)
        return Unit([self._clips[k] for k in self._order[self._starts[i] : end]])
