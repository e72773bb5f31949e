"""Values of the column `silence`: what the mouth does in pauses, and where these are if the person says it."""

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.common.quoted import quoted
from pipeline.manifest.entries import Given, of_text
from pipeline.manifest.spans import LATEST, read_spans, times_of
from pipeline.manifest.values import Values, is_absent

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
    number: int = field(default=0, compare=False)
    """Its place in the list of the row, from 1, for messages."""


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


def silence_in(row: Values, default: str) -> Silence:
    """What a row says about its pauses. Raises ClipError."""
    try:
        return silence_of(row.given.get("silence"), default)
    except ValueError as error:
        raise row.invalid("silence", str(error)) from None


def seconds_in(row: Values) -> float | None:
    """Length of a clip without speech; None for one with an audio. Raises ClipError for a row with both."""
    seconds = row.number("seconds", 0, LATEST, 0.0)
    if seconds and row.text("audio") is not None:
        raise row.invalid(
            "seconds", "the row has an audio, which says how long the clip is: leave one of the two empty"
        )
    if seconds and "audio_stream" in row.given:
        raise row.invalid("audio_stream", "a clip without speech has no audio file: leave this cell or seconds empty")
    return seconds or None


def silence_of(value: Any, default: str) -> Silence:
    """What a cell says; one without a value has the default. Raises ValueError, which says what is wrong.

    A list holds pauses, of which each may have a `silence` of its own (closed).
    """
    value = of_text(value)
    if is_absent(value) or (isinstance(value, list) and not value):
        return Silence(default)
    if isinstance(value, list):
        return Silence("model", read_spans(value, KEYS, _span, _nowhere)[1])
    return Silence(_kind(value))


def _kind(value: Any) -> str:
    if value not in SILENCE:
        raise ValueError(f"{quoted(value)} is not one of {', '.join(SILENCE)}")
    return str(value)


def _span(given: Given, number: int) -> Pause:
    return Pause(*times_of(given), _kind(given.get("silence", "closed")), number)


def _nowhere(given: Given) -> None:
    raise ValueError("start and end are missing: give the seconds of the clip")


def silence_text(silence: Silence) -> str:
    """As a manifest can have it: a word, or the spans as JSON."""
    if not silence.spans:
        return silence.kind
    return json.dumps([{"start": s.start, "end": s.end, "silence": s.silence} for s in silence.spans])


def text_in_words(text: str | None) -> str | None:
    """The column `silence` of a row for a person to read, if it has spans; else as it is."""
    if not text or not text.startswith("["):
        return text
    try:
        spans = silence_of(text, "model").spans
    except ValueError:  # of another program
        return text
    return "; ".join(f"{span.silence} from {span.start:g} to {span.end:g} s" for span in spans)
