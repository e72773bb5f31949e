"""Work units: which clips a worker takes together."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.common.disk_collections import LazySequence


@dataclass(frozen=True)
class Unit:
    """What a worker takes at a time: clips, their features, or their status rows."""

    items: list[Any]


def unit_of(item: Any) -> Unit:
    """The unit of what a worker has put off: an item, or several that belong together."""
    return Unit(item if isinstance(item, list) else [item])


class Units(LazySequence[Unit]):
    """Clips in units of about `unit_seconds` of audio (at least `least` clips each), longest clips first.

    Clips of similar length share a unit, because they are sampled in one batch. A long clip at the end would leave all
    workers but one idle. Clips of a programme are one unit, in their order, so that each can go on from the one before
    it; these units come first. Needs 8 bytes of memory per clip.
    """

    def __init__(
        self,
        clips: Sequence[Any],
        seconds: Sequence[float],
        unit_seconds: float,
        least: int = 1,
        together: Mapping[int, tuple[str, int]] | None = None,
    ) -> None:
        """`together`: index of a clip -> its programme, and its number there."""
        lengths = np.asarray(seconds, dtype=np.float64)
        self._clips = clips
        self._starts = array("q")
        order = array("q")
        programmes: dict[str, list[int]] = {}
        together = together or {}
        for i in sorted(together, key=lambda i: together[i][1]):
            programmes.setdefault(together[i][0], []).append(i)
        for group in sorted(programmes.values(), key=lambda group: -float(lengths[group].sum())):
            self._starts.append(len(order))
            order.extend(group)
        single = np.argsort(-lengths, kind="stable")
        single = single[~np.isin(single, np.array(order, dtype=np.int64))] if together else single
        self._order = np.concatenate([np.array(order, dtype=np.int64), single])
        room = 0.0
        for i, length in enumerate(lengths[single], start=len(order)):
            if i == len(order) or (length > room and i - self._starts[-1] >= least):
                self._starts.append(i)
                room = unit_seconds
            room -= length

    def __len__(self) -> int:
        return len(self._starts)

    def _item(self, i: int) -> Unit:
        end = self._starts[i + 1] if i + 1 < len(self) else len(self._order)
        return Unit([self._clips[k] for k in self._order[self._starts[i] : end]])
