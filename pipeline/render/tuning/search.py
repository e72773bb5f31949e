"""The search for the fastest engine that the gate accepts, within a limited time."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.render.tuning.candidates import Step
from pipeline.render.tuning.trial import Trial
from pipeline.render.variants import Choice

logger = logging.getLogger(__name__)

WORTH = 1.03
"""An engine is preferred to a safer one if it is faster by more than two measurements differ."""

Attempt = Callable[[str, Choice, bool, float], Trial]
"""(part, choice, whether it is risky, seconds that it may take) -> what came out of trying that part."""


@dataclass
class Found:
    """Where a search has arrived."""

    choice: Choice
    complete: bool = True
    """Whether every candidate was tried."""
    refused: dict[str, str] = field(default_factory=dict)
    """Engine -> why the gate refused it."""


def search(
    attempt: Attempt,
    start: Choice,
    seconds: dict[str, float],
    steps: Sequence[Step],
    budget: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The best of `start` and of the candidates that are accepted.

    Args:
        seconds: time per frame of each part of `start`.
        budget: seconds after which no further candidate is tried. The one that is being tried is then given up, unless
            its step is worth more time.
    """
    found, best = Found(start), dict(seconds)
    begun = clock()
    for step in steps:
        choice = found.choice
        for candidate in step.candidates(choice):
            left = budget - (clock() - begun)
            if left <= 0:
                break
            name, uncompiled = (_name(step.part, candidate, mode) for mode in (None, "eager"))
            if step.first_only and uncompiled in found.refused:
                continue  # compiling would not mend it
            trial = attempt(step.part, candidate, step.risky, max(step.least, left))
            if trial.problem:
                found.refused[name] = trial.problem
                logger.info("%s is refused: %s", name, trial.problem)
                continue
            logger.info("%s: %.3g ms a frame, %.1f dB", name, 1000 * trial.seconds, trial.psnr)
            if trial.seconds * WORTH < best[step.part]:
                found.choice, best[step.part] = candidate, trial.seconds
                if step.first_only:
                    break
    found.complete = clock() - begun < budget
    return found


def _name(part: str, choice: Choice, mode: str | None) -> str:
    """What a part of a choice is called, with another mode if one is given."""
    variant = choice.decoder if part == "decoder" else choice.field
    variant = variant if mode is None else replace(variant, mode=mode)
    return f"{part} {variant}" + (f" x{choice.frame_batch}" if part == "decoder" else "")
