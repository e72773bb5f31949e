"""What a row asks for: a clip as a row of a manifest again, and rows of our own tables, which say what was made.

`clips.parquet` and its kin have most columns of a manifest, with the value that was used. A few of them say something
else there than in a manifest: how many frames the video has, which audio stream was heard, which emotion was predicted,
in which preset the file is, which time code follows the row before. Whoever makes a manifest of such a table does not
ask for these.
"""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import faces_text
from pipeline.manifest.emotion_spans import spans_text
from pipeline.manifest.noticed import Noticed
from pipeline.manifest.silence import Silence, silence_text
from pipeline.manifest.values import is_blank

WANTED = {
    "frames": "frames_wanted",
    "audio_stream": "audio_stream_wanted",
    "preset": "preset_wanted",
    "timecode": "timecode_wanted",
}
"""Columns that say in our tables what was made -> those that say there what was asked for."""

COUNTED = ("timecode",)
"""Columns of these that also follow from other rows, so that a row that failed may have a value that nobody asked for.
Tables of earlier versions have no other column for them.
"""

STATUSES = ("done", "failed", "rejected", "quarantined")

PLAIN = (
    *("image", "seconds", "audio_stream", "pose", "language", "speaker", "title", "seed", "nfe", "a_cfg_scale"),
    *("e_cfg_scale", "r_cfg_scale", "crop", "frame", "preset", "timecode", "consent_ref", "tags"),
)
"""Columns that are in a clip as the manifest has them."""

NOTICED = Noticed(
    "rows that a run wrote are read as what they asked for, because their frames, audio_stream, emotion, preset and "
    "timecode say what was made",
    of_row=True,
)


def row_of(clip: Clip) -> dict[str, Any]:
    """The columns of a manifest from which the same clip can be made again, without those that have no value."""
    given = {name: getattr(clip, name) for name in PLAIN}
    given["emotion"] = json.loads(spans_text(clip.spans, clip.emotion)) if clip.spans else clip.emotion
    if clip.spans:
        given["emotion_fade"] = clip.emotion_fade
    given["audio"] = clip.audio or None
    if clip.silence != Silence():
        given["silence"] = silence_text(clip.silence)
    if clip.pose_spans:
        given |= {"pose": clip.pose_text, "pose_fade": clip.pose_fade}
    if clip.faces:
        given |= {"audio": None, "faces": json.loads(faces_text(clip.faces) or "[]")}
    elif clip.crop == "auto":  # a row without a crop may not name a face
        given["face"] = clip.face
    if clip.slot is not None:
        given |= {"frames": clip.slot.frames, "on_length": clip.slot.on_length}
    if clip.programme is not None:
        given |= {"programme": clip.programme.name, "order": clip.programme.order}
    if clip.audio_tracks:
        given["audio_tracks"] = [track.given for track in clip.audio_tracks]
    return {name: value for name, value in given.items() if value is not None} | clip.extra


def as_asked(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Noticed, ...]]:
    """A row of a manifest with what it asks for, if a run has written it; any other row as it is.

    `failed.jsonl` is a manifest already: it has no column that tells what was made.
    """
    status, asked = values.get("status"), dict(values)
    if status not in STATUSES or "fingerprint" not in values or (status == "done" and is_blank(values["fingerprint"])):
        return asked, ()
    for name, wanted in WANTED.items():
        if name in COUNTED:
            asked[name] = values.get(wanted, asked.get(name))
        elif status == "done" or (is_blank(asked.get(name)) and wanted in values):
            asked[name] = values.get(wanted)
    if status != "done":
        return asked, ()
    asked["emotion"] = given_emotion(values)
    return asked, (NOTICED,)


def given_emotion(row: Mapping[str, Any]) -> Any:
    """What the manifest said about the emotion of a row of ours, as it can be read again: not what was predicted."""
    emotion = row.get("emotion")
    if isinstance(emotion, str):
        try:
            emotion = json.loads(emotion)
        except ValueError:  # somebody has replaced it
            return emotion
    if row.get("emotion_source") == "manifest":
        return emotion
    return [entry for entry in emotion if "start" in entry] if isinstance(emotion, list) else None
