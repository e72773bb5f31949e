"""Paired differences between lines of the ablation table: models and settings, measured on the same held-out clips."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.evaluation.bootstrap import Estimate
from pipeline.research.study.metric import Metric


@dataclass(frozen=True)
class Standing:
    """One line in the comparison of a metric."""

    name: str
    metric: Metric
    difference: Estimate | None
    """From the first line; None for the first line itself, and where the two were not measured on the same speakers."""
    best: bool
    """Whether it differs for the better, beyond chance, from every other line."""

    @property
    def verdict(self) -> str:
        """What the difference from the first line says."""
        if self.difference is None:
            return ""
        sign = self.difference.sign
        if not sign:
            return "no difference beyond chance"
        if not self.metric.better:
            return "higher" if sign > 0 else "lower"
        return "better" if (sign > 0) == (self.metric.better == "higher") else "worse"


def standings(lines: Mapping[str, Metric]) -> list[Standing]:
    """One metric of several lines: name of the line -> its value there; the first line is what others differ from."""
    found: list[Standing] = []
    first = next(iter(lines.values()), None)
    for name, metric in lines.items():
        difference = None if first is None or metric is first else metric.estimate.minus(first.estimate)
        others = [other for other in lines.values() if other is not metric]
        best = bool(others) and bool(metric.better) and all(_better(metric, other) for other in others)
        found.append(Standing(name, metric, difference, best))
    return found


def _better(one: Metric, other: Metric) -> bool:
    difference = one.estimate.minus(other.estimate)
    return difference is not None and difference.sign == (1 if one.better == "higher" else -1)
