"""A quality control metric: its column, its meaning, and the values from which it is reported."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "review", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "review", "fail")
"""From best to worst."""

Measured = dict[str, float | None]
"""Column -> value; None if it could not be measured, for example without a face or without audio."""


@dataclass(frozen=True)
class Rule:
    """A value below (`<`) or above (`>`) the limit makes the clip's verdict at least this bad."""

    operator: Literal["<", ">"]
    limit: float
    verdict: Verdict

    def broken_by(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return value < self.limit if self.operator == "<" else value > self.limit


@dataclass(frozen=True)
class Metric:
    """One column of the output table."""

    column: str
    """Starts with qc_."""
    unit: str
    text: str
    """Definition, in one sentence."""
    rules: tuple[Rule, ...] = ()
    origin: str = ""
    """Where the limits come from: a standard, or our measurements."""
    advice: str = ""
    """What the user should do about it."""
    by_model: bool = False
    """Whether it depends on the motion or the frames that the model generates. If so, another seed may fix it, and it
    means nothing if the model is untrained.
    """


def below(review: float | None = None, fail: float | None = None) -> tuple[Rule, ...]:
    """Rules for values that are too low."""
    return _rules("<", review, fail)


def above(review: float | None = None, fail: float | None = None) -> tuple[Rule, ...]:
    """Rules for values that are too high."""
    return _rules(">", review, fail)


def _rules(operator: Literal["<", ">"], review: float | None, fail: float | None) -> tuple[Rule, ...]:
    limits: tuple[tuple[Verdict, float | None], ...] = (("review", review), ("fail", fail))
    return tuple(Rule(operator, limit, verdict) for verdict, limit in limits if limit is not None)
