"""What the study prints: figures, and the claims that they are held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models import EMOTIONS
from pipeline.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Metric:
    """One number with its interval and what it is of."""

    key: str
    """Stable, in groups: reconstruction.mouth.over_shuffled."""
    text: str
    """What it is, in a line."""
    estimate: Estimate
    unit: str = ""
    counted: str = "clips"
    """What `estimate.count` counts."""


@dataclass(frozen=True)
class Claim:
    """What a model that ships must reach."""

    key: str
    """Of the figure."""
    low: float | None = None
    """Least value."""
    high: float | None = None
    """Largest value."""

    @property
    def wanted(self) -> str:
        """In words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a value is inside."""
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def verdict(self, estimate: Estimate) -> "Verdict":
        """Of the figure; an interval that reaches outside is told."""
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

The last one's limit is chance, and it is met where the whole interval is above: portraits are neutral, so an emotion
that is the speech's more often can only come from the sound. How surely it does is told by `emotion.heard.shown` beside
`emotion.redirected.accuracy`, the same with the emotion named.
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
    """Of each claim: what, value, wanted, verdict, of how many."""
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
