"""Lists of spans of a clip in the cell of a manifest: what emotions and head poses by span have in common.

An entry of the list is an object with `start` and `end` in seconds of the clip and further values. One entry may have
neither: it says what holds outside of the spans.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from models import MOTION_FPS
from pipeline.common.errors import ClipError
from pipeline.common.quoted import kind, quoted
from pipeline.manifest.entries import Given, given_in
from pipeline.manifest.values import number_of

MOST_SPANS = 1000
"""Spans of one clip in one column."""

LATEST = 1e6
"""Latest second of a span."""


class Span(Protocol):
    """A part of a clip."""

    @property
    def start(self) -> float:
        """Seconds of the clip."""

    @property
    def end(self) -> float:
        """Seconds of the clip, later than `start` by a frame or more."""

    @property
    def number(self) -> int:
        """Its place in the list, from 1, for messages."""


S = TypeVar("S", bound=Span)
R = TypeVar("R")


def read_spans(
    value: Sequence[Any], keys: Sequence[str], span: Callable[[Given, int], S], rest: Callable[[Given], R]
) -> tuple[R | None, tuple[S, ...]]:
    """What holds outside of the spans, if an entry says it, and the spans in the order of time.

    `keys` are the names that an entry may have. `span` reads an entry with its number, from 1, and `rest` one without
    `start` and `end`; both raise ValueError. Raises ValueError, which names the entry by its number.
    """
    if len(value) > MOST_SPANS:
        raise ValueError(f"{len(value)} spans are more than the {MOST_SPANS} that a clip may have")
    spans: list[S] = []
    elsewhere: R | None = None
    for number, entry in enumerate(value, start=1):
        try:
            given = _given(entry, keys)
            if "start" in given or "end" in given:
                spans.append(_after(spans, span(given, number)))
            elif elsewhere is not None:
                raise ValueError("a second entry has neither start nor end: one can say what holds elsewhere")
            else:
                elsewhere = rest(given)
        except ValueError as error:
            raise ValueError(f"span {number}: {error}") from None
    return elsewhere, tuple(spans)


def _given(entry: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"it is {kind(entry)} and not an object with {', '.join(keys)}")
    return given_in(entry, keys)


def _after(spans: Sequence[S], span: S) -> S:
    if spans and span.start < spans[-1].end:
        raise ValueError(
            f"it starts at {span.start:g} s, before span {spans[-1].number} ends ({spans[-1].end:g} s): spans "
            "must follow one another in time and must not overlap"
        )
    return span


def times_of(given: Given) -> tuple[float, float]:
    """Start and end of a span, s. Raises ValueError."""
    start, end = (_second(given, name) for name in ("start", "end"))
    if end - start < 1 / MOTION_FPS - 1e-9:
        raise ValueError(
            f"it lasts from {start:g} to {end:g} s, but a span must last at least one frame, {1 / MOTION_FPS:g} s"
        )
    return start, end


def _second(given: Given, name: str) -> float:
    second = number_in(given, name, 0, LATEST, "a number of seconds, 0 or more")
    if second is None:
        raise ValueError(f"{name} is missing: give the seconds of the clip")
    return second


def number_in(given: Given, name: str, least: float, most: float, allowed: str) -> float | None:
    """A number of an entry; None if it is not given. `allowed` says in words what it may be. Raises ValueError."""
    value = number_of(given.get(name))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} {quoted(value)} is not {allowed}")
    return float(value)


def check_length(spans: Iterable[Span], seconds: float, frames: int, column: str = "emotion") -> None:
    """Raise ClipError if a span ends after the audio by more than a frame, or begins after its last frame.

    The audio lasts so many seconds, or so many frames at 25 per second.
    """
    for span in spans:
        if span.end > seconds + 1 / MOTION_FPS + 1e-9 or span.start > (frames - 0.5) / MOTION_FPS:
            raise ClipError(
                f"{column}_span_too_late",
                f"span {span.number} of the column {column} lasts from {span.start:g} to {span.end:g} s, but the audio "
                f"ends after {seconds:.2f} s: end the span there, or leave it out",
            )
