"""A figure of quality control: its column, what it means, and from which value on it is remarked on."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "review", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "review", "fail")
"""From best to worst."""

Measured = dict[str, float | None]
"""Column -> value; None where it could not be measured, as without a face or without sound."""


@dataclass(frozen=True)
class Rule:
    """`<` or `>` a limit makes the clip's verdict at least this bad."""

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
    """Begins with qc_."""
    unit: str
    text: str
    """What it is, in a sentence."""
    rules: tuple[Rule, ...] = ()
    origin: str = ""
    """Where the limits come from: a standard, or what was measured."""
    advice: str = ""
    """What a person does about it."""
    by_model: bool = False
    """Whether it depends on the motion or the pictures that the model makes: then another seed may mend it, and it says
    nothing where the model is untrained."""


def below(review: float | None = None, fail: float | None = None) -> tuple[Rule, ...]:
    """Rules for values that are too low."""
    return _rules("<", review, fail)


def above(review: float | None = None, fail: float | None = None) -> tuple[Rule, ...]:
    """Rules for values that are too high."""
    return _rules(">", review, fail)


def _rules(operator: Literal["<", ">"], review: float | None, fail: float | None) -> tuple[Rule, ...]:
    limits: tuple[tuple[Verdict, float | None], ...] = (("review", review), ("fail", fail))
    return tuple(Rule(operator, limit, verdict) for verdict, limit in limits if limit is not None)
