"""Why a part of a video, or all of it, is not a training sample: a stable code and its meaning."""

from pipeline.common.errors import CODES, ClipError
from pipeline.common.redaction import redacted
from pipeline.storage.explained import explained

_STORAGE = ("uri_not_allowed", "input_not_found", "input_empty", "input_too_large", "storage_error")

REASONS: dict[str, str] = {
    # The file
    **{code: CODES[code][1] for code in _STORAGE},
    "unreadable": "the file is not a video in a supported format, or is damaged",
    "too_many_pixels": "the frames have more pixels than limits.max_image_megapixels",
    "too_long": "the video is longer than limits.max_audio_minutes",
    "hdr": "the video is HDR (PQ or HLG), whose colours would be wrong; convert it to BT.709",
    "curves_unreadable": "the column curves names no .npy file of floats (T,K) with 25 rows per second of video",
    "worker_died": "the workers that processed this video died; retry_died=true tries it again",
    "internal_error": "this is a bug: please report it with the message",
    "interrupted": "the job was stopped before this video was done: run the same command again to resume",
    "timed_out": "reading the file took longer than its length allows, or than workers.video_minutes",
    "lost": "the video was planned, but no worker reported on it; run the same command again to retry it",
    # Audio
    "no_audio": "there is no audio: the file has none, or it starts later, ends earlier, or has a hole here",
    "silent": "the loudest moment is below clips.silence_db",
    "av_offset_too_large": "the offset between lips and audio is larger than clips.max_av_offset_ms",
    # Video
    "too_short": "the part is shorter than clips.min_seconds, between two cuts or while a face is visible and audible",
    "few_frames": "the source has fewer distinct frames per second than clips.min_fps, so frames would repeat",
    "no_face": "no face was found in this shot",
    "face_lost": "the face of this shot is not visible here: it has left the frame, or is turned away or covered",
    "several_faces": "a second face is at least clips.other_face of the size of the first",
    "face_too_small": "the face is smaller than clips.min_face",
    "face_cut_off": "the border of the frame cuts off the face",
    "moves_too_far": "the head moves so far that a single crop would show it too small",
    "yaw_too_large": "the head turns to the side by more than clips.max_yaw",
    "blurred": "the edges in the face are wider than clips.max_blur",
}
"""Code -> meaning. Codes are an interface: new ones may be added, but none is ever renamed."""

AGAIN = frozenset({"storage_error", "input_not_found", "internal_error", "timed_out", "lost", "interrupted"})
"""Reasons for which the same command tries a file again. The others are final until the file or a setting changes."""

FAILED = AGAIN | {*_STORAGE, "unreadable", "too_many_pixels", "too_long", "hdr", "worker_died", "curves_unreadable"}
"""Reasons for which a file could not be used at all, so that the job ends with exit code 1."""


class Dropped(Exception):
    """Ends a video with a code of `REASONS`; `message` says what was found and what to change."""

    def __init__(self, code: str, message: str) -> None:
        if code not in REASONS:
            raise KeyError(f"{code} is not a known reason")
        message = redacted(message)
        super().__init__(message)
        self.code, self.message = code, message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return Dropped, (self.code, self.message)  # exceptions pickle their args, which are not those of __init__

    @classmethod
    def of(cls, error: Exception) -> "Dropped":
        """Any error as a reason; unexpected errors are bugs in this program."""
        if isinstance(error, Dropped):
            return error
        if isinstance(error, ClipError) and error.code in REASONS:
            return cls(error.code, error.message)
        return cls("internal_error", explained(error))
