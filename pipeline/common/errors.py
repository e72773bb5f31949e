"""What can go wrong with a clip, as data: a stable code, the resulting status, and a sentence for the user.

`rejected` means that the input must change. `failed` means that another try may help. `quarantined` means that workers
died with the clip, which is left alone until a user asks for it. Codes are an interface (people filter and alert on
them): new ones may be added, but none is ever renamed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pipeline.common.redaction import redacted
from pipeline.common.terminal import one_line

Status = Literal["done", "failed", "rejected", "quarantined"]

CODES: dict[str, tuple[Status, str]] = {
    # The manifest's row
    "row_unreadable": ("rejected", "the row cannot be read as values of the table's columns"),
    "value_missing": ("rejected", "a required value is empty"),
    "value_invalid": ("rejected", "a value has the wrong type or is outside the allowed values"),
    "clip_id_invalid": ("rejected", "the clip_id cannot be used as a file name"),
    "clip_id_duplicate": ("rejected", "several rows have this clip_id"),
    # Files
    "uri_not_allowed": ("rejected", "the URI's scheme is not on the allow-list"),
    "input_not_found": ("rejected", "the file does not exist"),
    "input_empty": ("rejected", "the file has 0 bytes"),
    "input_too_large": ("rejected", "the file is larger than limits.max_file_megabytes"),
    "storage_error": ("failed", "the storage answered with an error"),
    # Consent
    "consent_missing": ("rejected", "the clips of this speaker need a consent_ref, but this one has none"),
    "consent_unknown": ("rejected", "the consent_ref is not in the register, or belongs to another speaker"),
    "consent_unclear": ("rejected", "it cannot be told whether the clip's speaker is one who needs a consent"),
    "consent_expired": ("rejected", "the consent has expired or was revoked"),
    # Images
    "image_unreadable": ("rejected", "the file is not a PNG, JPEG or WebP image, or is damaged"),
    "image_too_small": ("rejected", "the image has too few pixels to show a face"),
    "image_too_large": ("rejected", "the image has more pixels than limits.max_image_megapixels"),
    "image_not_square": ("rejected", "crop is none, but the image is not square"),
    "frame_size_invalid": ("rejected", "the full frame has more or fewer pixels than a video may have"),
    "face_not_found": ("rejected", "no face was found in the image or video"),
    "face_not_there": ("rejected", "the image has no face with the number or at the place that the row gives"),
    "several_faces": (
        "rejected",
        "the row asks for the only face of the image, or for that in a box, which has several",
    ),
    "face_named_twice": ("rejected", "two entries of the column faces name the same face of the image"),
    "face_not_upright": (
        "rejected",
        "the face that the row names lies on its side or is upside down, unlike the largest",
    ),
    "face_in_profile": ("rejected", "the face is turned to the side by more than limits.max_yaw"),
    # Videos
    "video_unreadable": ("rejected", "the file is not a video in a supported format, or is damaged"),
    "video_too_long": ("rejected", "the video is longer than limits.max_audio_minutes"),
    # Audio
    "audio_unreadable": ("rejected", "the file is not audio in a supported format, or is damaged"),
    "audio_no_stream": ("rejected", "the file contains no audio stream"),
    "audio_stream_not_there": ("rejected", "the file has no audio stream with the row's number or language"),
    "audio_truncated": ("rejected", "the file contains less audio than its header declares"),
    "audio_empty": ("rejected", "the audio stream contains no samples"),
    "audio_too_short": ("rejected", "the audio is shorter than limits.min_audio_seconds"),
    "audio_too_long": ("rejected", "the audio is longer than limits.max_audio_minutes"),
    "audio_silent": ("rejected", "the audio is digital silence"),
    "audio_not_finite": ("rejected", "the audio contains NaN or infinite samples"),
    "audio_too_loud": ("rejected", "the audio has samples far beyond full scale"),
    "length_differs": (
        "rejected",
        "the audio needs more or fewer frames than the row gives, and on_length does not allow it",
    ),
    "track_length_differs": ("rejected", "a further audio track needs more or fewer frames than the clip has"),
    "audio_not_copied": ("rejected", "the audio cannot be passed through unchanged, as video.audio=copy asks"),
    # Head poses
    "pose_unreadable": (
        "rejected",
        "the file is neither a table with six numbers per pose nor a supported video, or it is damaged",
    ),
    "pose_too_large": ("rejected", "the pose file has more rows, minutes or pixels than the limits allow"),
    "pose_too_short": ("rejected", "the poses end more than half a second before the audio"),
    "pose_span_too_late": ("rejected", "a span of the column pose lies beyond the end of the audio"),
    # Rendering
    "preset_unavailable": ("rejected", "the row's delivery preset cannot be made: its encoder does not work here"),
    "emotion_span_too_late": ("rejected", "a span of the column emotion lies beyond the end of the audio"),
    "silence_span_too_late": ("rejected", "a span of the column silence lies beyond the end of the audio"),
    "mouth_not_found": ("rejected", "silence asks to rest the mouth, but the model shows none that could be measured"),
    "programme_overlaps": (
        "rejected",
        "the row needs more frames than there are until the next row of its programme, by their time codes",
    ),
    "programme_state_lost": ("failed", "how the row before it in the programme ended is not stored any more"),
    "nfe_exhausted": ("failed", "the adaptive solver needed more than nfe evaluations"),
    "encode_failed": ("failed", "the video could not be encoded"),
    "signing_failed": ("failed", "the encoded file could not be signed"),
    "verify_failed": ("failed", "the encoded file differs from what was rendered"),
    "timed_out": (
        "failed",
        "the clip took longer than render.clip_minutes, or reading its files than their length allows",
    ),
    "out_of_memory": ("failed", "the worker ran out of memory, even with this clip alone"),
    "worker_died": ("quarantined", "the clip's worker died each time the clip was tried"),
    "internal_error": ("failed", "this is a bug: please report it with the message"),
    "interrupted": ("failed", "the job was stopped before this clip was finished"),
    "stopped": ("failed", "the job stopped early because too many clips failed"),
    "video_lost": ("failed", "the clip was rendered, but at the end of the run its video was gone or cut off"),
    "lost": ("failed", "the clip was planned, but no worker reported a result"),
}
"""Code -> (status, meaning)."""


class ClipError(Exception):
    """Ends one clip with a code of `CODES`; `message` says what was found and what to change."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CODES:
            raise KeyError(f"{code} is not a known error code")
        message = one_line(redacted(message))  # it is shown in rows, in logs and on screens
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Exceptions pickle their args, which differ from the arguments of __init__.
        return ClipError, (self.code, self.message)

    @property
    def status(self) -> Status:
        """The status of this error in `CODES`."""
        return CODES[self.code][0]


def of_file(kind: str, uri: str, error: ClipError) -> ClipError:
    """The same error with the file, such as the `audio` of a clip, at the start of its message, if it is not there."""
    known = error.message.startswith(uri)
    return ClipError(error.code, f"{kind} {error.message}" if known else f"{kind} {uri}: {error.message}")


@contextmanager
def naming(kind: str, uri: str) -> Iterator[None]:
    """Errors of the block name this file, as `of_file` does."""
    try:
        yield
    except ClipError as error:
        raise of_file(kind, uri, error) from error


class RefusedError(ValueError):
    """What a job was given cannot be used: the user has to change it, and trying again is pointless.

    The message says what was found and what to change.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ManifestError(RefusedError):
    """A manifest that is refused as a whole, before any of its rows is checked."""


class StorageError(RuntimeError):
    """The storage could not be reached, or answered with an error: another try may succeed."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ClusterError(RuntimeError):
    """The cluster cannot run the job as configured; the message says what is missing."""


class WorkersLostError(ClusterError):
    """The work has begun, but no worker is left that can continue it; the message says why."""
