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
    short: float = 0.0
    """Added to the limit for a clip of one second, and divided by n^2 for one of n seconds: some figures are less
    exact for short clips.
    """

    def limit_for(self, seconds: float | None) -> float:
        """The limit for a clip of this length; None if it is unknown, as for a long clip."""
        return self.limit + self.short / seconds**2 if seconds else self.limit

    def broken_by(self, value: float, seconds: float | None = None) -> bool:
        """Whether a value is beyond the limit for a clip of this length."""
        limit = self.limit_for(seconds)
        return value < limit if self.operator == "<" else value > limit

    def __str__(self) -> str:
        return f"{self.operator} {self.limit:g}" + (f" + {self.short:g}/s^2" if self.short else "")


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


def above(review: float | None = None, fail: float | None = None, short: float = 0.0) -> tuple[Rule, ...]:
    """Rules for values that are too high; `short` as in `Rule`."""
    return _rules(">", review, fail, short)


def _rules(
    operator: Literal["<", ">"], review: float | None, fail: float | None, short: float = 0.0
) -> tuple[Rule, ...]:
    limits: tuple[tuple[Verdict, float | None], ...] = (("review", review), ("fail", fail))
    return tuple(Rule(operator, limit, verdict, short) for verdict, limit in limits if limit is not None)
