"""Values of the column `pose`: a file of head poses, or a list with that file and spans that turn the head further."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.common.quoted import quoted
from pipeline.manifest.entries import Given, is_list_of_entries, of_text, with_changed
from pipeline.manifest.spans import number_in, read_spans, times_of

ANGLES = ("yaw", "pitch", "roll")

FURTHEST = 60.0
"""Largest angle of a span in either direction, degrees: beyond about 50 the far eye is hidden."""

KEYS = ("start", "end", *ANGLES, "pose")


@dataclass(frozen=True)
class PoseSpan:
    """A part of a clip in which the head is turned further than the file says, in degrees with the signs of
    `pipeline.face.head_pose.Pose`.
    """

    start: float
    """Seconds of the clip."""
    end: float
    """Later than `start` by a frame (0.04 s) or more."""
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    number: int = field(default=0, compare=False)
    """Its place in the list of the row, from 1, for messages."""

    @property
    def angles(self) -> dict[str, float]:
        """The angles that are not 0."""
        return {name: angle for name in ANGLES if (angle := getattr(self, name))}

    def __str__(self) -> str:
        turned = ", ".join(f"{name} {angle:+g}" for name, angle in self.angles.items()) or "as it is"
        return f"{turned} from {self.start:g} to {self.end:g} s"


class Poses(NamedTuple):
    """What a cell says about the head poses of a clip."""

    file: Any
    """As it was given; None: the cell does not say it."""
    spans: tuple[PoseSpan, ...] = ()
    """In the order of time."""


def poses_of(value: Any) -> Poses:
    """The head poses of a cell. Raises ValueError, which says what is wrong."""
    value = _of_text(value)
    return Poses(*read_spans(value, KEYS, _span, _file)) if is_list_of_entries(value) else Poses(value)


def _of_text(value: Any) -> Any:
    """A list of a CSV cell. A file may have a name that begins as one does. Raises ValueError."""
    return of_text(value) if isinstance(value, str) and value.endswith("]") else value


def _span(given: Given, number: int) -> PoseSpan:
    start, end = times_of(given)
    if "pose" in given:
        raise ValueError("pose is the file for the whole clip: give it in an entry of its own, without start and end")
    allowed = f"a number of degrees from {-FURTHEST:g} to {FURTHEST:g}"
    angles = {name: number_in(given, name, -FURTHEST, FURTHEST, allowed) for name in ANGLES}
    if all(angle is None for angle in angles.values()):
        raise ValueError(f"it turns nothing: give {', '.join(ANGLES)}, or some of them, in degrees")
    return PoseSpan(start, end, number=number, **{name: angle or 0.0 for name, angle in angles.items()})


def _file(given: Given) -> Any:
    if "pose" not in given:
        raise ValueError("start and end are missing; an entry without them gives the file, as pose")
    if len(given) > 1:
        raise ValueError(f"{quoted(next(name for name in given if name != 'pose'))} needs start and end")
    return given["pose"]


def poses_text(file: str | None, spans: Sequence[PoseSpan]) -> str | None:
    """The cell again: the file, or a JSON list with it and the spans."""
    if not spans:
        return file
    entries = [{"start": span.start, "end": span.end, **(span.angles or {"yaw": 0.0})} for span in spans]
    return json.dumps([*entries, {"pose": file}])


def with_file(value: Any, changed: Callable[[Any], Any]) -> Any:
    """The cell with another name for its file: `changed` gets the name as it was given. A cell that cannot be read is
    returned as it is.
    """
    try:
        entries = _of_text(value)
    except ValueError:
        return value
    return with_changed(entries, "pose", changed) if is_list_of_entries(entries) else changed(value)


def text_in_words(text: str | None) -> str | None:
    """The column `pose` of a row for a person to read, if it has spans; else as it is."""
    if not text or not text.startswith("["):
        return text
    try:
        file, spans = poses_of(text)
    except ValueError:  # of another program, or a file whose name begins like that
        return text
    return "; ".join([str(file), *map(str, spans)])
