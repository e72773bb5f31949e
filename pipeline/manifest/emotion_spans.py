"""Values of the column `emotion`: an emotion, weights of several, or a list of spans of the clip with one each."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from models import EMOTIONS
from pipeline.common.quoted import quoted
from pipeline.manifest.entries import is_list_of_entries, of_text
from pipeline.manifest.spans import number_in, read_spans, times_of
from pipeline.manifest.values import number_of

STRONGEST = 20.0
"""Most that `strength` times `e_cfg_scale` may be, as for `e_cfg_scale` alone."""

LEAST_TOLD = 0.005
"""Weights below this, which would be 0%, are not told in words."""

KEYS = ("start", "end", "emotion", "strength")

UNNAMED = {
    "speech": "predict the emotion from speech",
    "image": "predict the emotion from the portrait",
    "none": "use none, because this model has no emotion condition",
}
"""What an empty cell does, by the model's source of emotions, for messages."""

ALL_ZERO = "the weights are all 0"


@dataclass(frozen=True)
class EmotionSpan:
    """A part of a clip with an emotion of its own."""

    start: float
    """Seconds of the clip."""
    end: float
    """Later than `start` by a frame (0.04 s) or more."""
    emotion: Mapping[str, float]
    """Weights by emotion, with sum 1."""
    strength: float = 1.0
    """Factor of the clip's guidance by emotion."""
    number: int = field(default=0, compare=False)
    """Its place in the list of the row, from 1, for messages."""

    def __str__(self) -> str:
        strength = "" if self.strength == 1 else f" at {self.strength:g} times the strength"
        return f"{in_words(self.emotion)} from {self.start:g} to {self.end:g} s{strength}"


class Emotions(NamedTuple):
    """What a cell says about the emotion of a clip."""

    weights: dict[str, float] | None
    """Weights by emotion, with sum 1: of the whole clip, or outside of the spans. None: the row does not say it."""
    spans: tuple[EmotionSpan, ...] = ()
    """In the order of time."""


def vector_of(weights: Mapping[str, float]) -> np.ndarray:
    """w_e (7,) float32 in the order of `models.EMOTIONS`."""
    return np.array([weights.get(name, 0.0) for name in EMOTIONS], dtype=np.float32)


def emotions_of(value: Any, e_cfg_scale: float) -> Emotions:
    """The emotions of a cell, for a clip with this guidance. Raises ValueError, which says what is wrong."""
    value = of_text(value)
    if value is None:
        return Emotions(None)
    if is_list_of_entries(value):
        return spans_of(value, e_cfg_scale)
    return Emotions(weights_of(value) or None)


def weights_of(value: Any) -> dict[str, float]:
    """An emotion or weights of several -> weights with sum 1; empty if there are none. Raises ValueError."""
    if isinstance(value, str):
        value = {value: 1.0}
    if isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        value = {str(name): weight for name, weight in value}  # this is how Arrow returns a map column
    if not isinstance(value, Mapping):
        raise ValueError(f"{quoted(value)} is neither an emotion nor a mapping of emotions to weights")
    # A struct column has every name in every row, with null where a row does not use it.
    numbers = {str(name): number_of(weight) for name, weight in value.items()}
    weights = {name: weight for name, weight in numbers.items() if weight is not None}
    unknown = [name for name in weights if name not in EMOTIONS]
    if unknown:
        shown = ", ".join(map(quoted, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise ValueError(f"{shown} is not one of {', '.join(EMOTIONS)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= sys.float_info.max:
            raise ValueError(f"the weight {quoted(weight)} of {name} is not a number of 0 or more")
    if not weights:
        return {}
    largest = max(weights.values())
    if largest == 0:
        raise ValueError(ALL_ZERO)
    shares = {name: weight / largest for name, weight in weights.items()}  # a sum of weights may overflow
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def spans_of(value: Sequence[Any], e_cfg_scale: float) -> Emotions:
    """The spans of a clip. An entry without start and end says what holds outside of them.

    Raises ValueError, which names the span by its number in the list, from 1.
    """
    rest, spans = read_spans(value, KEYS, lambda given, number: _span(given, number, e_cfg_scale), _rest)
    return Emotions(rest, spans)


def _rest(given: Mapping[str, Any]) -> dict[str, float]:
    if "strength" in given:
        raise ValueError("start and end are missing; outside of the spans e_cfg_scale alone says the strength")
    return _emotion(given)


def _emotion(given: Mapping[str, Any]) -> dict[str, float]:
    weights = weights_of(of_text(given.get("emotion", {})))
    if not weights:
        raise ValueError(f"it has no emotion: give one of {', '.join(EMOTIONS)}, or weights of several")
    return weights


def _span(given: Mapping[str, Any], number: int, e_cfg_scale: float) -> EmotionSpan:
    start, end = times_of(given)
    weights = _emotion(given)
    strength = number_in(given, "strength", 0, STRONGEST, f"a number from 0 to {STRONGEST:g}")
    strength = 1.0 if strength is None else strength
    if strength * e_cfg_scale > STRONGEST:
        raise ValueError(
            f"strength {strength:g} times e_cfg_scale {e_cfg_scale:g} is {strength * e_cfg_scale:g}, but the guidance "
            f"may be at most {STRONGEST:g}"
        )
    return EmotionSpan(start, end, weights, strength, number)


# --- As text ---------------------------------------------------------------------------------------------------


def spans_text(spans: Sequence[EmotionSpan], rest: Mapping[str, float] | None) -> str:
    """Spans as JSON, as a manifest can have them, and the emotion outside of them as the last entry."""
    return json.dumps(weights_or_spans(spans, rest))


def weights_or_spans(spans: Sequence[EmotionSpan], rest: Mapping[str, float] | None) -> Any:
    """What a cell of JSON can have: a list of spans, with what holds elsewhere as its last entry; without spans that
    alone, and None without either.
    """
    if not spans:
        return _short(rest) if rest else None
    written: list[dict[str, Any]] = []
    for span in spans:
        more = {} if span.strength == 1 else {"strength": span.strength}
        written.append({"start": span.start, "end": span.end, "emotion": _short(span.emotion), **more})
    if rest:
        written.append({"emotion": _short(rest)})
    return written


def _short(weights: Mapping[str, float]) -> Any:
    strongest_first = sorted(weights.items(), key=lambda item: -item[1])
    return strongest_first[0][0] if len(weights) == 1 else {name: round(weight, 4) for name, weight in strongest_first}


def in_words(weights: Mapping[str, float]) -> str:
    """`happy`, or `70% happy and 30% sad`."""
    if len(weights) == 1:
        return next(iter(weights))
    strongest_first = sorted(weights.items(), key=lambda item: -item[1])
    return " and ".join(f"{weight:.0%} {name}" for name, weight in strongest_first if weight >= LEAST_TOLD)


def text_in_words(text: str | None) -> str | None:
    """The column `emotion` of a row for a person to read, if it has spans; else as it is."""
    if not text or not text.startswith("["):
        return text
    try:
        weights, spans = spans_of(json.loads(text), 1.0)
    except ValueError:  # of another program
        return text
    elsewhere = "" if weights is None else f"; elsewhere {in_words(weights)}"
    return "; ".join(map(str, spans)) + elsewhere
