"""Values of the column `silence`: what the mouth does in pauses, and where these are if the person says it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from models import MOTION_FPS
from pipeline.common.errors import ClipError
from pipeline.common.quoted import kind, quoted
from pipeline.manifest.emotion_spans import LATEST, MOST_SPANS, of_text
from pipeline.manifest.values import is_absent, number_of

SILENCE = ("model", "closed", "idle")
"""model leaves the motion as it is; closed rests the mouth in pauses; idle also lets the model hear silence there."""

KEYS = ("start", "end", "silence")


@dataclass(frozen=True)
class Pause:
    """A part of a clip in which nobody speaks, as a row gives it."""

    start: float
    """Seconds of the clip."""
    end: float
    """Later than `start` by a frame (0.04 s) or more."""
    silence: str = "closed"
    """One of `SILENCE`."""


class Silence(NamedTuple):
    """What a row says about its pauses."""

    kind: str = "model"
    """One of `SILENCE`: in the pauses that are found in the audio, if there are no `spans`."""
    spans: tuple[Pause, ...] = ()
    """In the order of time. With them no pauses are looked for."""

    @property
    def changes(self) -> bool:
        """Whether any of it can differ from what the model makes."""
        return any(span.silence != "model" for span in self.spans) if self.spans else self.kind != "model"


def silence_of(value: Any, default: str) -> Silence:
    """What a cell says; one without a value has the default. Raises ValueError, which says what is wrong.

    A list holds pauses, of which each may have a `silence` of its own (closed).
    """
    value = of_text(value)
    if is_absent(value) or (isinstance(value, list) and not value):
        return Silence(default)
    if isinstance(value, list):
        return Silence("model", _spans(value))
    return Silence(_kind(value))


def _kind(value: Any) -> str:
    if value not in SILENCE:
        raise ValueError(f"{quoted(value)} is not one of {', '.join(SILENCE)}")
    return str(value)


def _spans(value: Sequence[Any]) -> tuple[Pause, ...]:
    if len(value) > MOST_SPANS:
        raise ValueError(f"{len(value)} spans are more than the {MOST_SPANS} that a clip may have")
    spans: list[Pause] = []
    for number, entry in enumerate(value, start=1):
        try:
            span = _span(entry)
            if spans and span.start < spans[-1].end:
                raise ValueError(
                    f"it starts at {span.start:g} s, before span {number - 1} ends ({spans[-1].end:g} s): spans must "
                    "follow one another in time and must not overlap"
                )
        except ValueError as error:
            raise ValueError(f"span {number}: {error}") from None
        spans.append(span)
    return tuple(spans)


def _span(entry: Any) -> Pause:
    if not isinstance(entry, Mapping):
        raise ValueError(f"it is {kind(entry)} and not an object with {', '.join(KEYS)}")
    given = {str(name): value for name, value in entry.items() if not is_absent(value)}
    unknown = [name for name in given if name not in KEYS]
    if unknown:
        raise ValueError(f"{quoted(unknown[0])} is not one of {', '.join(KEYS)}")
    start, end = (_seconds(given, name) for name in ("start", "end"))
    if end - start < 1 / MOTION_FPS - 1e-9:
        raise ValueError(
            f"it lasts from {start:g} to {end:g} s, but a span must last at least one frame, {1 / MOTION_FPS:g} s"
        )
    return Pause(start, end, _kind(given.get("silence", "closed")))


def _seconds(given: Mapping[str, Any], name: str) -> float:
    value = number_of(given.get(name))
    if value is None:
        raise ValueError(f"{name} is missing: give the seconds of the clip")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError(f"{name} {quoted(value)} is not a number of seconds, 0 or more")
    return float(value)


def check_pauses(spans: Sequence[Pause], seconds: float, frames: int) -> None:
    """Raise ClipError if a span ends after the audio by more than a frame, or begins after its last frame.

    The audio lasts so many seconds, or so many frames at 25 per second.
    """
    for number, span in enumerate(spans, start=1):
        if span.end > seconds + 1 / MOTION_FPS + 1e-9 or span.start > (frames - 0.5) / MOTION_FPS:
            raise ClipError(
                "silence_span_too_late",
                f"span {number} of the column silence lasts from {span.start:g} to {span.end:g} s, but the audio ends "
                f"after {seconds:.2f} s: end the span there, or leave it out",
            )


def silence_text(silence: Silence) -> str:
    """As a manifest can have it: a word, or the spans as JSON."""
    if not silence.spans:
        return silence.kind
    return json.dumps([{"start": s.start, "end": s.end, "silence": s.silence} for s in silence.spans])


def silence_in_words(text: str | None) -> str | None:
    """The column `silence` of a row for a person to read, if it has spans; else as it is."""
    if not text or not text.startswith("["):
        return text
    try:
        spans = silence_of(text, "model").spans
    except ValueError:  # of another program
        return text
    return "; ".join(f"{span.silence} from {span.start:g} to {span.end:g} s" for span in spans)
