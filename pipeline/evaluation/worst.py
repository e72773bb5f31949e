"""The worst pairs of each metric, which a person looks at first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.differences import JUDGED, score_of
from pipeline.evaluation.metrics import Metric
from pipeline.evaluation.systems import measured

Row = dict[str, Any]

EACH = 3
"""Number of pairs per metric."""
PICTURED = 6
"""Number of pairs that are shown as pictures: at first the worst of each metric."""


@dataclass(frozen=True)
class Worst:
    """A pair that is among the worst of a metric."""

    metric: Metric
    row: Row


def worst_pairs(rows: Iterable[Row]) -> list[Worst]:
    """At most `EACH` pairs per metric, the worst first; none where all pairs have the same value."""
    done, found = measured(rows), []
    for metric in JUDGED:
        scored = [(score, row) for row in done if (score := score_of(metric, row)) is not None]
        if len({score for score, _ in scored}) < 2:
            continue
        scored.sort(key=lambda one: (one[0] if metric.better == "higher" else -one[0], one[1]["row"]))
        found += [Worst(metric, row) for _, row in scored[:EACH]]
    return found


def to_picture(worst: Sequence[Worst]) -> list[Row]:
    """The rows of at most `PICTURED` pairs: the worst of each metric, then the second of each, and so on."""
    places: dict[str, int] = {}
    ranked = []
    for one in worst:
        rank = places[one.metric.column] = places.get(one.metric.column, -1) + 1
        ranked.append((rank, one.row))
    ranked.sort(key=lambda one: one[0])
    return list({row["row"]: row for _, row in ranked}.values())[:PICTURED]
