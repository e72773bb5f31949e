"""A clip's files: fetched, decoded, checked and cropped."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from models import MOTION_FPS
from models.config import SAMPLES_PER_FRAME
from pipeline.common.child import MOST_MINUTES, in_child
from pipeline.common.errors import ClipError, naming
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.face.choice import FaceChoice, parse_choice
from pipeline.face.full_frame import FrameSize, FullFrame, full_frame
from pipeline.face.pose_input import load_pose
from pipeline.manifest.dialogue import of_face
from pipeline.manifest.spans import check_length
from pipeline.media.audio import AudioTrack, load_audio, load_track
from pipeline.media.budget import Budget
from pipeline.media.presets import COPY, MP4, PCM_RATE, FileFormat, size_problem
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.slot import ClipLength, Slot
from pipeline.media.sound_copy import not_copied
from pipeline.media.sound_output import SoundTrack, silence
from pipeline.render.dialogue_inputs import detector, dialogue_portraits, dialogue_sound
from pipeline.render.face_features import FaceInputs
from pipeline.render.portrait import Portrait, decoded_portrait
from pipeline.render.pose_offsets import turned_further
from pipeline.storage.untrusted import RecentInputs, read_input

if TYPE_CHECKING:
    from pipeline.manifest.clip import Clip  # it imports what a child process does not need


@dataclass(frozen=True, eq=False)
class ClipInputs:
    """The decoded and checked files of a clip."""

    portrait: Portrait
    track: AudioTrack
    pose: np.ndarray | None = None
    """(T,6) float32 at 25 per second, as long as the track; None if the clip has no poses."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the files."""
    full: FullFrame | None = None
    """The whole picture, if that is delivered."""
    image_sha256: str | None = None
    """SHA-256 of the image file, in that case."""
    tracks: tuple[SoundTrack, ...] = ()
    """Further audio tracks."""
    faces: tuple[FaceInputs, ...] = ()
    """For a clip with several faces: the portrait and sound of each. `portrait` is then the first of them, and `track`
    the mix.
    """


@dataclass(frozen=True)
class SoundForm:
    """How sounds are kept for delivery."""

    file: FileFormat
    kbps: int
    """Of AAC."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of `load_audio` and `load_track`."""
        return {"sound": self.file.sound, "container": self.file.container, "kbps": self.kbps}


def load_inputs(
    clip: "Clip",
    limits: Limits,
    image_size: int,
    video: VideoSettings,
    portraits: RecentInputs | None = None,
    minutes: float = MOST_MINUTES,
    budget: Budget | None = None,
) -> ClipInputs:
    """Fetch, decode, check and crop the inputs. Raises ClipError. `jobs.render --check` calls this for every clip.

    Each file is decoded in a child process, for at most so many `minutes` (`pipeline.common.child`). Portraits are
    taken from `portraits` if they are there. `video` has the settings of the job, of which the row may name another
    preset. A `budget` gives a clip of a programme its number of frames, if its row does not.
    """
    video = video.with_preset(clip.preset)
    if clip.preset is not None and clip.frame == "crop" and (problem := size_problem(video.format, *[image_size] * 2)):
        raise ClipError("frame_size_invalid", f"preset {problem}")
    size = frame_size(video) if clip.frame == "full" else None
    kept = SoundForm(video.format, video.audio_kbps)
    portraits = portraits or RecentInputs(limits)
    if clip.faces:
        return _dialogue(clip, limits, image_size, video, portraits, minutes)
    with naming("image", clip.image):
        image = portraits.read(clip.image)
        wanted = (clip.crop, parse_choice(clip.face))
        portrait, full = in_child(_portrait, image, clip.image, *wanted, limits, image_size, size, minutes=minutes)
        sha256 = None if full is None else hashlib.sha256(image).hexdigest()
    with naming("audio", clip.audio) if clip.seconds is None else nullcontext():
        data, spoken = _sound(clip, limits, video.format), (clip.language, clip.audio_stream)
        limits = limits if clip.seconds is None else replace(limits, allow_silence=True)
        limits = limits if clip.gap_after is None else replace(limits, min_audio_seconds=0.0)
        track = in_child(_track, data, limits, kept, spoken, clip.slot or budget, minutes=minutes)
    frames = track.frames(Fraction(MOTION_FPS))
    check_length(clip.spans, track.seconds, frames)
    check_length(clip.pose_spans, track.seconds, frames, "pose")
    check_length(clip.silence.spans, track.seconds, frames, "silence")
    pose = None
    if clip.pose is not None:
        with naming("pose", clip.pose):
            table = read_input(clip.pose, limits)
            heard = track.source.frames(Fraction(MOTION_FPS))
            pose = in_child(_pose, table, clip.pose, frames, heard, limits, minutes=minutes)
        pose = turned_further(pose, clip.pose_spans, clip.pose_fade)
    fps = parse_fps(video.fps)
    tracks, notes = _further_tracks(clip, limits, kept, track.frames(fps), fps, minutes)
    return ClipInputs(portrait, track, pose, (*portrait.notes, *track.notes, *notes), full, sha256, tracks)


def _further_tracks(
    clip: "Clip", limits: Limits, kept: SoundForm, frames: int, fps: Fraction, minutes: float
) -> tuple[tuple[SoundTrack, ...], list[Note]]:
    """The further audio tracks of a clip of so many frames, and what was noticed about their files."""
    fills = clip.programme is not None and clip.programme.fills
    length = ClipLength(frames, fps, clip.slot.on_length if clip.slot is not None else "pad" if fills else "refuse")
    tracks, notes = [], []
    for number, track in enumerate(clip.audio_tracks, 1):
        with naming(f"audio track {number}", track.uri):
            data, spoken = read_input(track.uri, limits), (track.language, track.audio_stream)
            sound, noticed = in_child(_further, data, limits, kept, spoken, length, minutes=minutes)
        tracks.append(SoundTrack(sound, track.tags))
        notes += [Note(note.code, f"audio track {number}: {note.message}") for note in noticed]
    return tuple(tracks), notes


def _dialogue(
    clip: "Clip", limits: Limits, image_size: int, video: VideoSettings, portraits: RecentInputs, minutes: float
) -> ClipInputs:
    """`load_inputs` for a clip with several faces, which is a full frame."""
    with naming("image", clip.image):
        image = portraits.read(clip.image)
        choices, size = [parse_choice(face.face) for face in clip.faces], frame_size(video)
        found, full, notes = in_child(
            dialogue_portraits, image, clip.image, choices, limits, image_size, size, minutes=minutes
        )
    track, waves, heard = dialogue_sound(clip, limits, video, minutes)
    frames = track.frames(Fraction(MOTION_FPS))
    check_length(clip.silence.spans, track.seconds, frames, "silence")
    for face in clip.faces:
        with of_face(face.number):
            check_length(face.spans, track.seconds, frames)
    kept, fps = SoundForm(video.format, video.audio_kbps), parse_fps(video.fps)
    tracks, noticed = _further_tracks(clip, limits, kept, track.frames(fps), fps, minutes)
    noted = (*found[0].notes, *notes, *heard, *noticed)
    sha256 = hashlib.sha256(image).hexdigest()
    return ClipInputs(found[0], track, None, noted, full, sha256, tracks, tuple(map(FaceInputs, found, waves)))


def frame_size(video: VideoSettings) -> FrameSize:
    """What the settings say about the size of full frames."""
    return FrameSize(video.width, video.height, video.fit == "pad", parse_fps(video.fps), video.format.preset.least)


def _sound(clip: "Clip", limits: Limits, form: FileFormat) -> bytes:
    """The file of a clip's sound: digital silence for one without speech. Raises ClipError."""
    if clip.seconds is None:
        return read_input(clip.audio, limits)
    if clip.seconds > limits.max_audio_minutes * 60:
        raise ClipError(
            "audio_too_long",
            f"the row's seconds are {clip.seconds:g}, more than limits.max_audio_minutes = "
            f"{limits.max_audio_minutes:g}: give fewer, or raise the limit",
        )
    if form.sound == COPY and form.container != MP4:
        raise not_copied("a clip without speech has no audio file, and its silence can be copied into mp4 alone")
    return silence(round(clip.seconds * PCM_RATE), "pcm")


# --- In a child process ----------------------------------------------------------------------------------------


def _portrait(
    data: bytes, name: str, crop: str, face: FaceChoice, limits: Limits, size: int, frame: FrameSize | None
) -> tuple[Portrait, FullFrame | None]:
    found = decoded_portrait(data, name, crop, limits, detector(), size, face)
    assert found.upright is not None
    full = None if frame is None else full_frame(found.upright, found.face_box, frame)
    return replace(found, upright=None, faces=()), full  # the whole image is not sent for nothing


Spoken = tuple[str | None, str | None]
"""The language of a sound, and the stream of its file that the row names."""


def _track(data: bytes, limits: Limits, kept: SoundForm, spoken: Spoken, slot: Slot | Budget | None) -> AudioTrack:
    if isinstance(slot, Budget):
        slot = slot.slot(data, limits, *spoken)
    return load_audio(data, limits, language=spoken[0], wanted=spoken[1], slot=slot, **kept.arguments)


def _further(
    data: bytes, limits: Limits, kept: SoundForm, spoken: Spoken, length: ClipLength
) -> tuple[bytes, tuple[Note, ...]]:
    return load_track(data, limits, length, language=spoken[0], wanted=spoken[1], **kept.arguments)


def _pose(data: bytes, name: str, frames: int, heard: int, limits: Limits) -> np.ndarray:
    return load_pose(data, name, frames, limits, detector(), heard)


def fit_to_frames(wave: np.ndarray, frames: int) -> np.ndarray:
    """Cut or extend audio (samples,) at 16 kHz by a few samples, so that it lasts exactly `frames`.

    A resampler can be a few samples off, which near a frame border would mean a frame too many or too few. The length
    of the source is exact.
    """
    fewest, most = (frames - 1) * SAMPLES_PER_FRAME + 1, frames * SAMPLES_PER_FRAME
    return np.pad(wave[:most], (0, max(0, fewest - len(wave))), mode="edge")
