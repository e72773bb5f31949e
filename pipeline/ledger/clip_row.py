"""The status row: what became of one planned clip. Every clip ends with exactly one row."""

import json
import logging
import socket
from collections.abc import Sequence
from typing import Any

from models import EMOTIONS
from pipeline.common.errors import ClipError
from pipeline.common.notes import Note
from pipeline.common.redaction import redacted, redacted_value
from pipeline.ledger.columns import OURS, ClipRow, extended
from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import faces_text, parts_of
from pipeline.manifest.emotion_spans import spans_text
from pipeline.manifest.reader import Rejected
from pipeline.manifest.requests import WANTED
from pipeline.manifest.silence import silence_text
from pipeline.media.slot import MOST_FRAMES
from pipeline.storage.explained import explained

logger = logging.getLogger(__name__)

RENDER_STEPS = ("portrait", "sample", "decode", "encoder_wait", "delivery_wait")
"""Steps that keep a render worker from taking the next clip; the rest of a clip's time runs in parallel."""

STEPS = ("load", "speech", *RENDER_STEPS, "finish")
"""Steps of a clip; each has a column `<step>_seconds`."""


def clip_row(clip: Clip) -> ClipRow:
    """A row with the clip's inputs and settings and the manifest's own columns, but no status yet."""
    own = {name: value for name, value in clip.extra.items() if name not in OURS}
    tags = {} if clip.tags is None else {"tags": clip.tags}
    row: ClipRow = {
        "clip_id": clip.clip_id,
        "row": clip.row,
        "fingerprint": clip.fingerprint,
        "image": clip.image,
        "audio": clip.audio or None,
        "seconds": clip.seconds,
        "language": clip.language,
        "speaker": clip.speaker,
        "emotion": emotion_text(clip, clip.emotion),
        "emotion_source": clip.emotion_from if clip.emotion is None else "manifest",
        "emotion_fade": clip.emotion_fade if any(part.spans for part in parts_of(clip)) else None,
        "silence": silence_text(clip.silence),
        "pose": clip.pose_text,
        "pose_source": clip.pose_source,
        "pose_fade": clip.pose_fade if clip.pose_spans else None,
        "take": take_of({"fingerprint": clip.fingerprint}),
        "seed": clip.seed,
        "nfe": clip.nfe,
        "a_cfg_scale": clip.a_cfg_scale,
        "e_cfg_scale": clip.e_cfg_scale,
        "r_cfg_scale": clip.r_cfg_scale,
        "crop": clip.crop,
        "frame": clip.frame,
        "face": clip.face if clip.crop == "auto" and not clip.faces else None,
        "faces": faces_text(clip.faces),
        "timecode": clip.timecode,
        **_programme_columns(clip),
        "gap_after": clip.gap_after,
        "title": clip.title,
        "audio_tracks": json.dumps([track.given for track in clip.audio_tracks]) if clip.audio_tracks else None,
        "preset_wanted": clip.preset,
        "frames_wanted": None if clip.slot is None else clip.slot.frames,
        "on_length": None if clip.slot is None else clip.slot.on_length,
        "audio_stream_wanted": clip.audio_stream,
        "consent_ref": clip.consent_ref,
        "worker": socket.gethostname(),
    }
    return extended(row, tags | own)


def _programme_columns(clip: Clip) -> ClipRow:
    if (place := clip.programme) is None:
        return {"programme": None, "continues": None, "timecode_wanted": clip.timecode}
    return {
        "programme": place.name,
        "continues": f"{place.after_clip}.{place.after}" if place.after else None,
        "timecode_wanted": None if place.timecode is None else str(place.timecode),
    }


def take_of(row: ClipRow) -> int:
    """Number of the take in a fingerprint: `0123456789ab-2` is the second take of `0123456789ab`."""
    number = str(row.get("fingerprint") or "").partition("-")[2]
    return int(number) if number else 1


def mark_of_take(mark: str, take: int) -> str:
    """Fingerprint of a take of the planned clip with the fingerprint `mark`."""
    return mark if take == 1 else f"{mark}-{take}"


def plan_mark(fingerprint: str) -> str:
    """Fingerprint of the planned clip to which a take belongs."""
    return fingerprint.partition("-")[0]


def error_row(clip: Clip, error: Exception, stage: str = "") -> ClipRow:
    """Row of a clip that ended with an error.

    Anything but a ClipError is a bug in this program. It is logged with its traceback and becomes `internal_error`,
    with the name of the `stage` in which it happened, so that the other clips continue.
    """
    if not isinstance(error, ClipError):
        logger.error("%s of clip %s", stage, clip.clip_id, exc_info=error)
        error = ClipError("internal_error", f"{stage}: {explained(error)}")
    return extended(clip_row(clip), _error_columns(error))


def rejected_row(rejected: Rejected) -> ClipRow:
    """Row of a manifest row that never became a clip; values of a wrong type appear only in the message."""
    texts = (
        *("image", "audio", "pose", "language", "speaker", "crop", "frame", "face"),
        *("timecode", "on_length", "silence", "title", "programme", "consent_ref"),
    )
    wanted = ((column, name) for name, column in WANTED.items() if name != "frames")
    given = {column: rejected.values.get(name) for column, name in (*zip(texts, texts, strict=True), *wanted)}
    inputs: dict[str, Any] = {name: redacted(value) for name, value in given.items() if isinstance(value, str)}
    frames, tracks = rejected.values.get("frames"), redacted_value(rejected.values.get("audio_tracks"))
    if isinstance(frames, int) and not isinstance(frames, bool) and 0 < frames <= MOST_FRAMES:
        inputs["frames_wanted"] = frames
    if tracks is not None:
        inputs["audio_tracks"] = tracks if isinstance(tracks, str) else json.dumps(tracks, default=str)
    if faces := redacted_value(rejected.values.get("faces")):
        inputs["faces"] = faces if isinstance(faces, str) else json.dumps(faces, default=str)
    own = {name: value for name, value in rejected.values.items() if name not in OURS}
    row: ClipRow = {"clip_id": rejected.clip_id, "row": rejected.row}
    return extended(row, inputs | _error_columns(rejected.error) | own)


def note_columns(notes: Sequence[Note]) -> dict[str, Any]:
    """The columns of what was noticed about a clip's inputs."""
    return {"input_notes": [note.code for note in notes], "input_messages": [note.message for note in notes]}


def emotion_text(clip: Clip, emotion: dict[str, float] | None) -> str | None:
    """{name: weight} as JSON, highest weight first; None if there are no weights. For a clip with spans it is their
    list, with those weights for the rest of the clip.
    """
    if clip.spans:
        return spans_text(clip.spans, emotion)
    if not emotion:
        return None
    strongest_first = sorted(emotion.items(), key=lambda item: -item[1])
    return json.dumps({name: round(float(weight), 4) for name, weight in strongest_first})


def emotion_weights(vector: Any) -> dict[str, float]:
    """w_e (7,) -> {name: weight}, without zeros."""
    return {name: float(weight) for name, weight in zip(EMOTIONS, vector, strict=True) if weight > 0}


def _error_columns(error: ClipError) -> dict[str, Any]:
    return {"status": error.status, "error_code": error.code, "error_message": error.message}
