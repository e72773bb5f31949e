"""Paired differences between systems: on the same real videos, by how much does one differ from another?

Videos differ by more than systems do, so the means of two systems may have overlapping intervals although one of them
is better on every video. The interval of the difference, by bootstrap over the real videos that both systems imitate,
says whether that is so.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Estimate, mean
from pipeline.evaluation.metrics import PAIR_METRICS, Metric
from pipeline.evaluation.systems import measured, systems_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One metric of two systems."""

    metric: Metric
    one: str
    other: str
    estimate: Estimate
    """Mean of `one` minus `other` over the real videos of both, and its 95 % interval."""

    @property
    def better(self) -> str | None:
        """The better one of the two; None if the difference is not beyond chance (`Estimate.sign`)."""
        sign = self.estimate.sign * (1 if self.metric.better == "higher" else -1)
        return (None, self.one, self.other)[sign]


JUDGED = tuple(metric for metric in PAIR_METRICS if metric.better)
"""Metrics that say which of two videos is better."""


def score_of(metric: Metric, row: Row) -> float | None:
    """A pair's value for comparing it with others; None if it has none.

    Where the aim is the reference's value, this is the distance from it, of which less is better.
    """
    value = row.get(metric.column)
    if metric.better != "as the reference":
        return value
    aim = row.get(f"reference_{metric.column}")
    return None if value is None or aim is None else abs(value - aim)


def differences(rows: Sequence[Row], seed: int = 0) -> Iterator[Difference]:
    """All metrics of all pairs of systems that have real videos in common, pair by pair."""
    systems = systems_of(rows)
    known = {(metric.column, name): _by_video(rows, metric, name) for metric in JUDGED for name in systems}
    for one, other in combinations(systems, 2):
        for metric in JUDGED:
            ours, theirs = known[metric.column, one], known[metric.column, other]
            videos = sorted(ours.keys() & theirs.keys())
            if videos:
                values = np.array([ours[video] - theirs[video] for video in videos])
                yield Difference(metric, one, other, mean(values, videos, seed))


def _by_video(rows: Sequence[Row], metric: Metric, system: str) -> dict[str, float]:
    """Real video -> the mean score of the system's videos of it."""
    found = defaultdict(list)
    for row in measured(rows, system):
        if (score := score_of(metric, row)) is not None:
            found[row["reference"]].append(score)
    return {video: float(np.mean(scores)) for video, scores in found.items()}


def best_of(found: Sequence[Difference]) -> dict[str, str]:
    """Column of a metric -> the system that is better than each of the others that have this metric."""
    best = {}
    for column in dict.fromkeys(one.metric.column for one in found):
        ours = [one for one in found if one.metric.column == column]
        names = {name for one in ours for name in (one.one, one.other)}
        for name in names:
            if sum(one.better == name for one in ours) == len(names) - 1:
                best[column] = name
    return best
