"""A clip's files: fetched, decoded, checked and cropped."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from models import MOTION_FPS
from models.config import SAMPLES_PER_FRAME
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.face.crop import crop_square
from pipeline.face.detector import FaceDetector
from pipeline.face.pose_input import load_pose
from pipeline.manifest.clip import Clip
from pipeline.media.audio import AudioTrack, load_audio
from pipeline.media.image import load_image
from pipeline.storage.untrusted import RecentInputs, read_input


@dataclass(frozen=True, eq=False)
class ClipInputs:
    """The decoded and checked files of a clip."""

    portrait: np.ndarray
    """(S,S,3) uint8 RGB, cropped."""
    faces_found: int | None
    """None if crop is none, because no detector runs then."""
    face_box: tuple[float, float, float, float] | None
    """Left, top, right and bottom of the chosen face, in pixels of the upright image."""
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
    try:
        image = load_image(portraits.read(clip.image), limits)
    except ClipError as error:
        raise ClipError(error.code, f"image {clip.image}: {error.message}") from error
    portrait, found, box = crop_portrait(image, clip.image, clip.crop, detector, image_size)
    try:
        track = load_audio(read_input(clip.audio, limits), limits, kbps=audio_kbps, language=clip.language)
    except ClipError as error:
        raise ClipError(error.code, f"audio {clip.audio}: {error.message}") from error
    pose = None
    if clip.pose is not None:
        try:
            data = read_input(clip.pose, limits)
            pose = load_pose(data, clip.pose, track.frames(Fraction(MOTION_FPS)), limits, detector)
        except ClipError as error:
            raise ClipError(error.code, f"pose {clip.pose}: {error.message}") from error
    return ClipInputs(portrait, found, box, track, pose, track.notes)


def crop_portrait(
    image: np.ndarray, name: str, crop: str, detector: FaceDetector, size: int
) -> tuple[np.ndarray, int | None, tuple[float, float, float, float] | None]:
    """Crop an image (H,W,3) uint8 -> (portrait (size,size,3), number of faces found, box of the chosen face in px).

    With `crop` auto the face is detected; with none a square image is used as it is, and no face is detected. Raises
    ClipError image_not_square or face_not_found, whose message calls the image `name`.
    """
    height, width, _ = image.shape
    if crop == "none":
        if height != width:
            raise ClipError(
                "image_not_square",
                f"image {name}: {width} x {height} pixels is not square; crop the image, or set crop to auto",
            )
        return crop_square(image, (0.0, 0.0, float(width), float(height)), size, scale=1.0), None, None
    faces = detector.detect(image)
    if not faces:
        raise ClipError(
            "face_not_found",
            f"image {name}: no face found; use an image with one clear face seen from the front, or crop it yourself "
            "and set crop to none",
        )
    return crop_square(image, faces[0].box, size), len(faces), faces[0].box  # the largest face comes first


def fit_to_frames(wave: np.ndarray, frames: int) -> np.ndarray:
    """Cut or extend audio (samples,) at 16 kHz by a few samples, so that it lasts exactly `frames`.

    A resampler can be a few samples off, which near a frame border would mean a frame too many or too few. The length
    of the source is exact.
    """
    fewest, most = (frames - 1) * SAMPLES_PER_FRAME + 1, frames * SAMPLES_PER_FRAME
    return np.pad(wave[:most], (0, max(0, fewest - len(wave))), mode="edge")
