"""What was noticed about a clip's inputs, as data: a stable code and a sentence for the user.

A clip with a note is rendered. A note of level `review` asks a person to look at the result, because the input allows
more than one reading. Codes are an interface, like those of `pipeline.common.errors`.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.common.redaction import redacted
from pipeline.common.terminal import one_line

Level = Literal["note", "review"]

NOTES: dict[str, tuple[Level, str]] = {
    "portrait_turned": ("note", "the portrait was lying on its side or upside down, and was turned upright"),
    "image_animated": ("note", "the image is an animation, and one of its frames was used"),
    "faces_alike": ("review", "two faces of the portrait are almost equally large, and the larger one speaks"),
    "audio_streams": ("note", "the file has several audio streams, and one of them was used"),
    "audio_streams_unchosen": (
        "review",
        "the file has several audio streams, and neither the row's audio_stream nor its language names a single one",
    ),
    "audio_channels_cancel": ("note", "the channels cancel each other when added, so one of them was used"),
    "mix_lowered": ("note", "where several people speak at once, their sum would clip, so the whole mix is quieter"),
    "faces_overlap": ("review", "the animated square of one face reaches far over another face of the clip"),
    "audio_gaps": ("note", "the time stamps have gaps or overlaps, so silence was inserted or audio left out"),
    "audio_changes": ("note", "the sample rate or the channels change inside the file, and were made the same"),
    "audio_end_unsure": ("note", "the file does not say how long it is, and its end looks cut"),
    "programme_broken": ("review", "the row does not go on from the row before it in its programme, which failed"),
    "length_padded": ("note", "the audio is shorter than the clip's frames, and silence was added"),
    "length_trimmed": ("note", "the audio is longer than the clip's frames, and its end was cut off"),
}
"""Code -> (level, meaning)."""


@dataclass(frozen=True)
class Note:
    """One thing that was noticed; `message` says what was found and what was done about it."""

    code: str
    message: str

    def __post_init__(self) -> None:
        if self.code not in NOTES:
            raise KeyError(f"{self.code} is not a known code of notes")
        object.__setattr__(
            self, "message", one_line(redacted(self.message))
        )  # it is shown in rows, in logs and on screens

    @property
    def level(self) -> Level:
        """The level of this note in `NOTES`."""
        return NOTES[self.code][0]
