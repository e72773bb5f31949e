"""Values of a clip's row that are more than a number or a text: checked, and as the clip has them."""

from dataclasses import replace
from typing import Any

from models import FloatConfig
from pipeline.common.quoted import quoted
from pipeline.manifest.emotion_spans import ALL_ZERO, UNNAMED, Emotions, emotions_of
from pipeline.manifest.pose_spans import PoseSpan, poses_of
from pipeline.manifest.values import Values, number_of, trimmed
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.slot import MOST_FRAMES, ON_LENGTH, Slot
from pipeline.media.sound_streams import TAG
from pipeline.media.timecode import parse_timecode
from pipeline.storage.uris import resolve

POSE_ARRAYS = (".npy", ".csv")
POSE_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Suffixes of videos from which head poses can be read (`pipeline.face.pose_input`)."""

MOST_STREAMS = 1000
"""Largest number of an audio stream."""


class RowReader(Values):
    """The values of a clip's row, or of an entry of one of its cells (a face, a track). Its methods raise ClipError."""

    def language(self) -> str | None:
        """A tag of BCP 47."""
        value = self.text("language")
        if value is not None and not TAG.fullmatch(value):
            raise self.invalid("language", f"{quoted(value)} is not a BCP-47 tag such as en, pt-BR or zh-Hant")
        return value

    def audio_stream(self) -> str | None:
        """As `stream_name` has it."""
        try:
            return stream_name(self.given.get("audio_stream"))
        except ValueError as error:
            raise self.invalid("audio_stream", str(error)) from None

    def timecode(self, video: VideoSettings) -> str | None:
        """A time code that the frame rate can have."""
        value = self.text("timecode")
        if value is None:
            return None
        try:
            return str(parse_timecode(value, parse_fps(video.fps)))
        except ValueError as error:
            raise self.invalid("timecode", f"{quoted(value)}: {error}") from None

    def slot(self, video: VideoSettings, default: str) -> Slot | None:
        """The slot, if the row gives its frames; `default` is what happens to audio of another length."""
        frames = self.integer("frames", 1, MOST_FRAMES, 0)
        on_length = self.choice("on_length", ON_LENGTH, default)
        return Slot(frames, parse_fps(video.fps), on_length) if frames else None

    def poses(self, base: str, model: FloatConfig) -> tuple[str | None, tuple[PoseSpan, ...]]:
        """The file of head poses, and the spans in which the head is turned further."""
        if model.pose == "none":
            if self.given.get("pose") is not None:
                raise self.invalid(
                    "pose", "this model has no head pose condition: leave the column empty or use another model"
                )
            return None, ()
        try:
            file, spans = poses_of(self.given.get("pose"))
        except ValueError as error:
            raise self.invalid("pose", str(error)) from None
        allowed = ", ".join(POSE_ARRAYS + POSE_VIDEOS)
        where = ' in an entry {"pose": FILE} of the list' if spans else ""
        value = replace(self, given={} if file is None else {"pose": file}).required(
            "pose",
            f"a value is required, because this model is conditioned on head poses; give a file ({allowed}){where}",
        )
        if not value.lower().endswith(POSE_ARRAYS + POSE_VIDEOS):
            raise self.invalid("pose", f"{quoted(value)} is not a file of head poses: its name must end in {allowed}")
        return resolve(base, self.file("pose", value)), spans

    def no_gaze(self) -> None:
        """Refuse a value in the column gaze."""
        if self.given.get("gaze") is not None:
            raise self.invalid(
                "gaze",
                "no model has a gaze condition: the eyes move as speech, emotion and seed make them; leave the column "
                "empty, or give it another name if it is one of your own",
            )

    def emotions(self, model: FloatConfig, e_cfg_scale: float) -> Emotions:
        """The emotions, which this model can have, with this guidance."""
        try:
            found = emotions_of(self.given.get("emotion"), e_cfg_scale)
        except ValueError as error:
            hint = f"; leave the column empty to {UNNAMED[model.emotion]}" if str(error) == ALL_ZERO else ""
            raise self.invalid("emotion", f"{error}{hint}") from None
        if model.emotion == "none" and found != Emotions(None):
            raise self.invalid(
                "emotion", "this model has no emotion condition: leave the column empty or use another model"
            )
        return found


def stream_name(value: Any) -> str | None:
    """Which audio stream of a file is meant: a number from 1 or a tag of BCP 47; None for an empty cell.

    Raises ValueError.
    """
    number = number_of(value)  # None for what a column of numbers has in empty cells, such as nan
    if number is None:
        return None
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MOST_STREAMS:
        return str(number)
    if isinstance(number, str) and TAG.fullmatch(trimmed(number)):
        return trimmed(number)
    raise ValueError(
        f"{quoted(value)} names no audio stream: write its number, from 1, among the file's audio streams, or its "
        "language, such as en, de-AT or eng"
    )
