"""A clip's files: fetched, decoded, checked and cropped."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from models import MOTION_FPS
from models.config import SAMPLES_PER_FRAME
from pipeline.common.errors import ClipError, of_file
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.face.detector import FaceDetector
from pipeline.face.pose_input import load_pose
from pipeline.manifest.clip import Clip
from pipeline.media.audio import AudioTrack, load_audio
from pipeline.render.portrait import Portrait, load_portrait
from pipeline.storage.untrusted import RecentInputs, read_input


@dataclass(frozen=True, eq=False)
class ClipInputs:
    """The decoded and checked files of a clip."""

    portrait: Portrait
    track: AudioTrack
    pose: np.ndarray | None = None
    """(T,6) float32 at 25 per second, as long as the audio; None if the clip has no poses."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the files."""


def load_inputs(
    clip: Clip,
    limits: Limits,
    detector: FaceDetector,
    image_size: int,
    audio_kbps: int,
    portraits: RecentInputs | None = None,
) -> ClipInputs:
    """Fetch, decode, check and crop the inputs. Raises ClipError. `jobs.render --check` calls this for every clip.

    Portraits are taken from `portraits` if they are there.
    """
    portraits = portraits or RecentInputs(limits)
    portrait = load_portrait(lambda: portraits.read(clip.image), clip.image, clip.crop, limits, detector, image_size)
    try:
        track = load_audio(read_input(clip.audio, limits), limits, kbps=audio_kbps, language=clip.language)
    except ClipError as error:
        raise of_file("audio", clip.audio, error) from error
    pose = None
    if clip.pose is not None:
        try:
            data = read_input(clip.pose, limits)
            pose = load_pose(data, clip.pose, track.frames(Fraction(MOTION_FPS)), limits, detector)
        except ClipError as error:
            raise of_file("pose", clip.pose, error) from error
    return ClipInputs(portrait, track, pose, (*portrait.notes, *track.notes))


def fit_to_frames(wave: np.ndarray, frames: int) -> np.ndarray:
    """Cut or extend audio (samples,) at 16 kHz by a few samples, so that it lasts exactly `frames`.

    A resampler can be a few samples off, which near a frame border would mean a frame too many or too few. The length
    of the source is exact.
    """
    fewest, most = (frames - 1) * SAMPLES_PER_FRAME + 1, frames * SAMPLES_PER_FRAME
    return np.pad(wave[:most], (0, max(0, fewest - len(wave))), mode="edge")
