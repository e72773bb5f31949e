"""Confidence of a metric: a 95 % interval by bootstrap over groups, such as speakers.

Frames and clips of one person are similar, so they count as one draw: whole groups are drawn with replacement, and the
metric is computed again from all their members (the cluster bootstrap; Efron and Tibshirani 1993, percentile interval).
If each value is a group of its own, this is the plain bootstrap (Efron 1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.charts import Dot

DRAWS = 2000
"""Number of resamples."""

AT_ONCE = 1_000_000
"""Largest number of groups drawn in one step, so that memory does not grow with the number of groups."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval."""

    value: float | None
    """None if there was nothing to measure."""
    low: float | None
    """2.5 % of the resamples are below; None with fewer than two speakers."""
    high: float | None
    speakers: int
    count: int
    """Number of averaged items: pairs, frames or clips."""

    def dot(self, name: str) -> Dot:
        """The estimate as a dot of a chart."""
        return name, self.value, self.low, self.high


Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums (...,K) -> metrics (...)."""


def of_sums(statistic: Statistic, rows: np.ndarray, speakers: Sequence[Any] | np.ndarray, seed: int = 0) -> Estimate:
    """A metric that is a function of column sums: `rows` (N,K), with the speaker's name of each row.

    Means, ratios of sums and R2 are all of this kind, so a resample is one sum over speakers.
    """
    names, places = np.unique(np.asarray(speakers), return_inverse=True)
    if not len(names):
        return Estimate(None, None, None, 0, 0)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, places, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(0)))
    if not np.isfinite(value):
        return Estimate(None, None, None, len(names), len(rows))
    if len(names) < 2:
        return Estimate(value, None, None, len(names), len(rows))
    draw, step = np.random.default_rng(seed), max(1, AT_ONCE // len(names))
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, DRAWS, step):
            drawn = draw.integers(len(names), size=(min(step, DRAWS - start), len(names)))
            found.append(statistic(sums[drawn].sum(1)))
        return Estimate(value, *_interval(np.concatenate(found)), len(names), len(rows))


def ratio(over: np.ndarray, under: np.ndarray, speakers: Sequence[Any] | np.ndarray, seed: int = 0) -> Estimate:
    """sum(over) / sum(under), both (N,)."""
    return of_sums(_quotient, np.stack([over, under], axis=1).astype(np.float64), speakers, seed)


def mean(values: np.ndarray, speakers: Sequence[Any] | np.ndarray, seed: int = 0) -> Estimate:
    """Mean of values (N,); values that are not finite are left out and not counted."""
    known = np.isfinite(values)
    kept = [name for name, there in zip(speakers, known, strict=True) if there]
    return ratio(values[known], np.ones(int(known.sum())), kept, seed)


def interval(values: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    """95 % interval of the mean of independent values; None for a single value."""
    found = mean(np.asarray(values, dtype=np.float64), np.arange(len(values)), seed)
    return found.low, found.high


def median(values: np.ndarray, speakers: Sequence[Any] | np.ndarray, seed: int = 0) -> Estimate:
    """Median of values (N,); values that are not finite are left out and not counted."""
    known = np.isfinite(values)
    values = values[known]
    names, places = np.unique(np.asarray(speakers)[known], return_inverse=True)
    if not len(names):
        return Estimate(None, None, None, 0, 0)
    value = float(np.median(values))
    if len(names) < 2:
        return Estimate(value, None, None, len(names), len(values))
    groups = [values[places == i] for i in range(len(names))]
    draw = np.random.default_rng(seed)
    drawn = [np.median(np.concatenate([groups[i] for i in draw.integers(len(names), size=len(names))]))
             for _ in range(DRAWS)]  # fmt: skip
    return Estimate(value, *_interval(np.array(drawn)), len(names), len(values))


def _quotient(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(resampled, [2.5, 97.5]).tolist()
    return low, high
