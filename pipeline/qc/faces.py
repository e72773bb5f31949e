"""Clips with several faces (column `faces`): what is measured for each of them, and what the columns of the row have.

Each face is measured in its own square, with its own sound as the speech that its mouth has to follow. A metric's
column has the value of the worst face, so that the row's verdict is that of its worst face; `qc_faces` has them all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.common.child import in_child
from pipeline.common.limits import Limits
from pipeline.face.full_frame import FrameSize, FullFrame, full_frame
from pipeline.face.networks import Box
from pipeline.ledger.columns import ClipRow
from pipeline.manifest.emotion_spans import emotions_of
from pipeline.manifest.entries import is_list_of_entries, of_text
from pipeline.measure.metric import Measured, Metric
from pipeline.measure.metrics import METRICS
from pipeline.measure.video_pass import LARGEST_SQUARE, Feelings
from pipeline.media.mix import Voice
from pipeline.render.portrait import recropped, reload_upright

BY_COLUMN = {metric.column: metric for metric in METRICS}


def parts_to_measure(
    row: ClipRow,
    image: bytes | None,
    read: Callable[[str], bytes | None],
    limits: Limits,
    size: FrameSize,
) -> list[dict[str, Any]]:
    """For each face of a row what its `Delivery` has of its own: portrait, full, upscale, source, language, stream.

    `image` is the row's, and `read` gives the contents of a sound; both are None if they cannot be read again.
    """
    asked, made = json.loads(row["faces"] or "[]"), json.loads(row["faces_animated"] or "[]")
    portraits: Sequence[np.ndarray | None] = [None] * len(made)
    fulls: Sequence[FullFrame | None] = [None] * len(made)
    if image is not None:
        boxes = [(face["box"][0], face["box"][1], face["box"][2], face["box"][3]) for face in made]
        sides = [min(LARGEST_SQUARE, round(face["square"][2])) for face in made]
        turn, frame = row.get("portrait_turn"), row.get("image_frame")
        portraits, full = in_child(_reloaded, image, limits, boxes, sides, turn, frame, size)
        fulls = [_seen_by(full, place) for place in range(len(made))]
    return [
        {
            "portrait": portrait,
            "full": whole,
            "upscale": face["upscale"],
            "feelings": feelings_of({"emotion": face["emotion"], "emotion_fade": row.get("emotion_fade")}),
            "source": read(wanted["audio"]) if wanted.get("audio") else None,
            "language": wanted.get("language"),
            "audio_stream": wanted.get("audio_stream"),
        }
        for wanted, face, portrait, whole in zip(asked, made, portraits, fulls, strict=True)
    ]


def voices_of(row: ClipRow, parts: Sequence[Mapping[str, Any]]) -> tuple[Voice, ...]:
    """The sounds of which that of a row is a mix; none if one of them cannot be read again."""
    speaking = [part for face, part in zip(json.loads(row["faces"] or "[]"), parts, strict=True) if face.get("audio")]
    if any(part["source"] is None for part in speaking):
        return ()
    return tuple(Voice(part["source"], part["language"], part["audio_stream"]) for part in speaking)


def feelings_of(row: Mapping[str, Any]) -> Feelings | None:
    """The emotions of a delivered clip, or of one of its faces, if there are spans of them."""
    value, fade = of_text(row.get("emotion")), row.get("emotion_fade")
    if fade is None or not is_list_of_entries(value):
        return None
    elsewhere, spans = emotions_of(value, 0.0)
    return Feelings(spans, fade, elsewhere or {})


def _seen_by(full: FullFrame, place: int) -> FullFrame:
    """A full frame with the square of one face; those of the others move for reasons of their own."""
    others = tuple(square for i, square in enumerate(full.squares) if i != place)
    return FullFrame(full.picture, full.squares[place], others)


def _reloaded(
    data: bytes,
    limits: Limits,
    boxes: Sequence[Box],
    sides: Sequence[int],
    turn: int | None,
    frame: int | None,
    size: FrameSize,
) -> tuple[list[np.ndarray], FullFrame]:
    """In a child process: the portraits of a clip again, and its full frame in this size."""
    image = reload_upright(data, limits, turn, frame)
    portraits = [recropped(image, box, side) for box, side in zip(boxes, sides, strict=True)]
    return portraits, full_frame(image, boxes[0], size, boxes[1:])


# --- The worst face --------------------------------------------------------------------------------------------


def worst_of(by_face: Sequence[Measured]) -> Measured:
    """The metrics of all faces -> for each metric that of the face that is worst by its limits.

    A metric that is None for some faces is that of the others.
    """
    found: Measured = {}
    for column in by_face[0]:
        values = [value for measured in by_face if (value := measured[column]) is not None]
        metric = BY_COLUMN[column]
        found[column] = max(values, key=lambda value: _badness(metric, value)) if values else None
    return found


def _badness(metric: Metric, value: float) -> float:
    """How bad a value is: how far beyond its limit or, within the limits, how near to one; by the nearer limit."""
    beyond = [
        rule.limit - value if rule.operator == "<" else value - rule.limit
        for rule in metric.rules
        if rule.verdict == metric.rules[0].verdict
    ]
    return max(beyond, default=0.0)
