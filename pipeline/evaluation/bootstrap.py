"""Confidence of a metric: a 95 % interval by bootstrap over groups, such as speakers.

Frames and clips of one person are similar, so they count as one draw: whole groups are drawn with replacement, and the
metric is computed again from all their members (the cluster bootstrap; Efron and Tibshirani 1993, percentile interval).
If each value is a group of its own, this is the plain bootstrap (Efron 1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.report.charts import Dot

DRAWS = 2000
"""Number of resamples."""

LEAST = 6
"""Number of speakers from which on a difference counts: even if all of fewer ones differ in the same direction, this
happens by chance in more than 5 % of cases (2 / 2^n, sign test, two-sided).
"""

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
    resampled: "Resampled | None" = field(default=None, repr=False, compare=False)
    """What the interval is of; None without one."""

    def as_row(self) -> dict[str, Any]:
        """The estimate as plain values."""
        names = ("value", "low", "high", "speakers", "count")
        return {name: getattr(self, name) for name in names}

    @property
    def sign(self) -> int:
        """Of a difference: 1 or -1 if it is beyond chance, that is if its interval excludes zero and is of at least
        `LEAST` speakers; 0 otherwise.
        """
        if self.low is None or self.high is None or self.speakers < LEAST or self.low <= 0 <= self.high:
            return 0
        return 1 if self.low > 0 else -1

    def minus(self, other: "Estimate") -> "Estimate | None":
        """The paired difference of two estimates; None unless both are of the same speakers with the same seed.

        A resample drew the same speakers for both, so the differences between their resamples are those of the
        difference: what varies between speakers, and is the same in both, does not widen the interval.
        """
        ours, theirs = self.resampled, other.resampled
        if ours is None or theirs is None or self.value is None or other.value is None:
            return None
        if (ours.names, ours.seed) != (theirs.names, theirs.seed):
            return None
        low, high = _interval(ours.values - theirs.values)
        return Estimate(self.value - other.value, low, high, self.speakers, min(self.count, other.count))

    def dot(self, name: str) -> Dot:
        """The estimate as a dot of a chart."""
        return name, self.value, self.low, self.high


@dataclass(frozen=True, eq=False)
class Resampled:
    """The values of an estimate's resamples, and what they were drawn from."""

    values: np.ndarray
    """(DRAWS,)."""
    names: tuple[Any, ...]
    """The speakers, sorted."""
    seed: int


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
        return _estimate(value, np.concatenate(found), names, len(rows), seed)


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
    return _estimate(value, np.array(drawn), names, len(values), seed)


def _estimate(value: float, drawn: np.ndarray, names: np.ndarray, count: int, seed: int) -> Estimate:
    resampled = Resampled(drawn, tuple(names.tolist()), seed)
    return Estimate(value, *_interval(drawn), len(names), count, resampled)


def _quotient(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(resampled, [2.5, 97.5]).tolist()
    return low, high
