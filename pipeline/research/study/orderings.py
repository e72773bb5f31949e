"""The conclusions of the paper's ablations, and whether ours agree.

The paper measures videos of people with networks of others (its tables for HDTF, guidance on RAVDESS), whereas we
compare motion codes of generated heads with their ground truth. The numbers are not comparable, but the orderings may
be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.evaluation.bootstrap import Estimate
from pipeline.research.study.metric import value_text


@dataclass(frozen=True)
class Condition:
    """Selects a line of the table."""

    variant: dict[str, str] = field(default_factory=dict)
    """Fields of the model's config that differ from FLOAT's."""
    setting: str = ""
    """Empty means the model's default."""


@dataclass(frozen=True)
class Ordering:
    """The paper finds the first of two lines better."""

    claim: str
    """The conclusion with the paper's numbers."""
    better: Condition
    worse: Condition
    key: str
    """Our metric that is closest to the paper's."""
    larger: bool = True
    """Whether a larger value is better."""


FLOAT_VARIANT = {"conditioning": "adaln", "objective": "flow", "emotion": "speech", "pose": "none"}

PAPER: tuple[Ordering, ...] = (
    Ordering(
        "frame-wise AdaLN over cross-attention (LSE-D 7.290, 7.757)",
        Condition(),
        Condition({"conditioning": "cross_attention"}),
        "jaw.correlation",
    ),
    Ordering(
        "flow over diffusion that predicts epsilon (LSE-D 7.290, 9.922)",
        Condition(),
        Condition({"objective": "epsilon"}),
        "jaw.correlation",
    ),
    Ordering(
        "flow over diffusion that predicts x0 (LSE-D 7.290, 9.048)",
        Condition(),
        Condition({"objective": "x0"}),
        "jaw.correlation",
    ),
    Ordering(
        "10 evaluations over 2 (FVD 162.052, 178.831)",
        Condition(),
        Condition(setting="nfe 2, audio 2, emotion 1"),
        "frechet",
        larger=False,
    ),
    Ordering(
        "guidance by audio of 2 over 1 (LSE-D 6.994, 7.049)",
        Condition(),
        Condition(setting="nfe 10, audio 1, emotion 1"),
        "jaw.correlation",
    ),
    Ordering(
        "head pose condition over none (FVD 126.663, 162.052)",
        Condition({"pose": "head"}),
        Condition(),
        "frechet",
        larger=False,
    ),
)

Look = Callable[[dict[str, str], str, str], Estimate | None]
"""(variant, setting or empty, key) -> the estimate of that line; None if there is none."""


def compare_orderings(look: Look, orderings: Sequence[Ordering] = PAPER) -> list[str]:
    """A sentence for each ordering of which both lines exist."""
    found = []
    for one in orderings:
        pair = [look(FLOAT_VARIANT | c.variant, c.setting, one.key) for c in (one.better, one.worse)]
        better, worse = pair
        if better is None or worse is None or better.value is None or worse.value is None:
            continue
        same = (better.value > worse.value) if one.larger else (better.value < worse.value)
        clear = _apart(better, worse)
        verdict = "the order is the same here" if same else "the order is REVERSED here"
        verdict += "" if clear else ", although the difference may be chance"
        values = f"{one.key} {value_text(better)} and {value_text(worse)}"
        found.append(f"the paper: {one.claim}; {verdict}: {values}")
    return found


def _apart(one: Estimate, other: Estimate) -> bool:
    """Whether the paired difference is beyond chance, or if the two have none, whether their intervals are apart."""
    if (difference := one.minus(other)) is not None:
        return difference.sign != 0
    ends = (one.low, one.high, other.low, other.high)
    if any(end is None for end in ends):
        return False
    low, high, other_low, other_high = (float(end) for end in ends if end is not None)
    return high < other_low or other_high < low
