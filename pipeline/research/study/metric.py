"""What the study prints: metrics, and the requirements that they are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models import EMOTIONS
from pipeline.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Metric:
    """One number with its interval and its description."""

    key: str
    """Stable key in groups: reconstruction.mouth.over_shuffled."""
    text: str
    """Description in one line."""
    estimate: Estimate
    unit: str = ""
    counted: str = "clips"
    """What `estimate.count` counts."""
    better: Literal["higher", "lower", ""] = ""
    """Which values are better; empty where neither is."""


@dataclass(frozen=True)
class Claim:
    """A requirement for a model that ships."""

    key: str
    """Key of the metric."""
    low: float | None = None
    """Smallest allowed value."""
    high: float | None = None
    """Largest allowed value."""

    @property
    def wanted(self) -> str:
        """The requirement in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a value meets the requirement."""
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def verdict(self, estimate: Estimate) -> "Verdict":
        """The verdict on a metric, which mentions an interval that reaches outside."""
        if estimate.value is None:
            return "not measured"
        if not self.holds(estimate.value):
            return "not met"
        return (
            "met" if self.holds(estimate.low) and self.holds(estimate.high) else "met, but the interval reaches outside"
        )


Verdict = Literal["met", "met, but the interval reaches outside", "not met", "not measured"]

CLAIMS: tuple[Claim, ...] = (
    Claim("reconstruction.mouth.over_shuffled", low=4.0),
    Claim("probe.jawOpen", low=0.6),
    Claim("probe.yaw", low=0.85),
    Claim("reconstruction.whole.over_copy", low=6.0),
    Claim("reconstruction.mouth.over_copy", low=6.0),
    Claim("reconstruction.whole.gradient_energy", low=0.8),
    Claim("reconstruction.mouth.gradient_energy", low=0.8),
    Claim("speech.landmarks_rig.correlation", low=0.7),
    Claim("speech.landmarks_rig.lag", low=-1.0, high=1.0),
    Claim("speech.landmarks_rig.shuffled", low=-0.1, high=0.1),
    Claim("emotion.redirected.recognised", low=5.0),
    Claim("emotion.heard.agrees", low=round(1 / len(EMOTIONS), 3)),
)
"""In the order in which they are printed.

The limit of the last one is chance level, and it is met if the whole interval is above it: portraits are neutral, so if
the emotion is that of the speech more often, this can only come from the audio. How reliable this is follows from
comparing `emotion.heard.shown` with `emotion.redirected.accuracy`, the same with a given emotion.
"""


def value_text(estimate: Estimate, unit: str = "") -> str:
    """4.13 dB [3.80, 4.46]."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{' ' if unit else ''}{unit}{interval}"


def count_text(metric: Metric) -> str:
    """600 pairs, 23 speakers."""
    one = metric.estimate
    return f"{one.count} {metric.counted}, {one.speakers} speakers"


def claim_rows(metrics: Sequence[Metric], claims: Sequence[Claim]) -> list[list[str]]:
    """Per requirement: description, value, requirement, verdict, and number of items."""
    known = {metric.key: metric for metric in metrics}
    rows = []
    for claim in claims:
        metric = known.get(claim.key)
        if metric is None:
            rows.append([claim.key, "-", claim.wanted, "not measured", ""])
            continue
        value = value_text(metric.estimate, metric.unit)
        rows.append([metric.text, value, claim.wanted, claim.verdict(metric.estimate), count_text(metric)])
    return rows
