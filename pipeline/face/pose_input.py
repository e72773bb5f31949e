"""Head poses of a clip from a file: a table with six numbers per pose, or a video whose face is tracked.

The six numbers are those of `pipeline.face.head_pose.head_pose` in a square frame that is cropped around the face like
a portrait. There are 25 poses per second, from the start of the audio; a film begins with the first of its streams, so
that its sound and its poses stay together when both are taken from it. A table is one of

    .npy   (T,6) floats in NumPy's own format, without pickles
    .csv   six columns yaw, pitch, roll, x, y, size, with or without these names in the first line

A video uses one crop around the median position of the face for all frames, because a crop that follows the head would
remove its motion.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from models import MOTION_FPS
from models.config import POSE_DIM
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.crop import SCALE
from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import head_pose
from pipeline.face.networks import Box
from pipeline.face.upright import upright_faces
from pipeline.media.frame_orientation import upright, upright_size
from pipeline.media.npy import floats
from pipeline.media.video_reader import Problem, VideoError, open_video

NAMES = ("yaw", "pitch", "roll", "x", "y", "size")

MISSING_SECONDS = 0.5
"""Longest time without a pose that is filled in: by interpolation between two poses, and by the last pose at the
end.
"""

ROW_BYTES, HEADER_BYTES = 200, 10_000
"""Upper bounds for the size of a table row (six numbers of 24 characters) and of what precedes the first row."""

CODES: dict[Problem, str] = {
    "unreadable": "pose_unreadable",
    "cut_short": "pose_too_short",
    "too_many_pixels": "pose_too_large",
    "too_long": "pose_too_large",
}
SPACING = Fraction(1, 2 * MOTION_FPS)
"""Frames that follow each other faster than this, in seconds, are skipped."""


def load_pose(
    data: bytes, name: str, frames: int, limits: Limits, detector: FaceDetector, heard: int | None = None
) -> np.ndarray:
    """The file `name` -> poses (T,6) float32 for the T = `frames` of the audio; a longer file is cut.

    If only the first `heard` frames are of the audio, and silence follows, poses for these are enough, and the last one
    is held.
    Raises ClipError: pose_unreadable, pose_too_large, pose_too_short, face_not_found.
    """
    suffix = name.lower().rpartition(".")[2]
    if suffix in ("npy", "csv"):
        rows = int(limits.max_audio_minutes * 60 * MOTION_FPS)
        if len(data) > rows * ROW_BYTES + HEADER_BYTES:
            raise _too_long(f"{len(data) / 1e6:.1f} MB", limits)
        poses = _checked(_npy(data) if suffix == "npy" else _csv(data, rows))
        if len(poses) > rows:
            raise _too_long(f"{len(poses)} poses at 25 per second", limits)
    else:
        poses = _followed(_pictures(data, limits), frames, detector)
    heard = frames if heard is None else min(heard, frames)
    if heard - len(poses) > MISSING_SECONDS * MOTION_FPS:
        raise ClipError(
            "pose_too_short",
            f"it has poses for {len(poses) / MOTION_FPS:.2f} s, but the audio lasts {heard / MOTION_FPS:.2f} s: give "
            f"25 poses per second of audio, or a longer video (up to {MISSING_SECONDS:g} s may be missing)",
        )
    return np.pad(poses[:frames], ((0, max(0, frames - len(poses))), (0, 0)), mode="edge").astype(np.float32)


def _too_long(found: str, limits: Limits) -> ClipError:
    return ClipError(
        "pose_too_large",
        f"{found} exceed what limits.max_audio_minutes = {limits.max_audio_minutes:g} allows: cut the file",
    )


# --- Tables ----------------------------------------------------------------------------------------------------


def _npy(data: bytes) -> np.ndarray:
    try:
        return floats(data)
    except ValueError as error:
        raise ClipError(
            "pose_unreadable", f"the file is not an .npy file of poses ({error}): write it with numpy.save"
        ) from error


def _csv(data: bytes, rows: int) -> np.ndarray:
    """The first `rows` + 1 poses of a table whose columns are divided by commas, semicolons or tabs."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _no_table(f"byte {error.start} is not UTF-8 text") from error
    poses: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in _cells(line)]
        if not line.strip() or (not poses and tuple(cells) == NAMES):
            continue
        if len(cells) != POSE_DIM:
            raise _no_table(f"line {number} has {len(cells)} columns instead of {POSE_DIM}")
        try:
            poses.append([float(cell) for cell in cells])
        except ValueError as error:
            wrong = next(cell for cell in cells if not _is_number(cell))
            raise _no_table(f"line {number}: {wrong[:20]!r} is not a number") from error
        if len(poses) > rows:
            break
    if not poses:
        raise _no_table("it contains no numbers")
    return np.array(poses)


def _cells(line: str) -> list[str]:
    if ";" in line:  # where a comma stands before the decimals
        return line.replace(",", ".").split(";")
    return line.split("\t" if "\t" in line else ",")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _no_table(found: str) -> ClipError:
    return ClipError(
        "pose_unreadable",
        f"the file is not a table of poses ({found}): write one line with six numbers per pose, {', '.join(NAMES)}, "
        "with or without these names in the first line",
    )


def _checked(poses: np.ndarray) -> np.ndarray:
    """Poses (T,6) with plausible values; T is 1 or more."""
    problem = ""
    if poses.ndim != 2 or poses.shape[1] != POSE_DIM or not len(poses):
        problem = f"its shape is {poses.shape} instead of (T, {POSE_DIM})"
    elif not np.isfinite(poses).all():
        problem = f"pose {np.flatnonzero(~np.isfinite(poses).all(1))[0]} contains NaN or infinite numbers"
    elif np.abs(poses[:, :3]).max() > np.pi:
        problem = (
            f"{', '.join(NAMES[:3])} must be in radians, but some values are beyond pi: convert degrees to radians"
        )
    elif (poses[:, 5] <= 0).any():
        problem = "size, the distance between the outer eye corners as a share of the frame, must be above 0"
    elif np.abs(poses[:, 3:]).max() > 2:
        problem = "x, y and size must be shares of the frame's side, but some are above 2: convert pixels to shares"
    if problem:
        raise ClipError(
            "pose_unreadable", f"these are not head poses as pipeline.face.head_pose.head_pose defines them: {problem}"
        )
    return poses


# --- Videos ----------------------------------------------------------------------------------------------------


def _followed(pictures: Iterator[tuple[float, np.ndarray]], frames: int, detector: FaceDetector) -> np.ndarray:
    """Frames and their times in seconds -> poses (T,6) at 25 per second, up to the last face or for `frames`."""
    end = (frames - 1) / MOTION_FPS
    times: list[float] = []
    poses: list[np.ndarray] = []
    boxes: list[Box] = []
    face: Face | None = None
    last: Face | None = None
    before = 0.0
    for time, picture in pictures:
        reached = min(time, end)
        if reached - before > MISSING_SECONDS:
            raise ClipError(
                "pose_unreadable",
                f"there is no frame between {before:.2f} s and {time:.2f} s: give a video with 25 frames per second, "
                "or at least 2",
            )
        before = time
        face = None if face is None else detector.follow(picture, face)
        if face is None:
            face = _found(detector.detect(picture) if last else _upright(picture, detector), last)
        lost = reached - (times[-1] if times else 0.0)
        if lost > MISSING_SECONDS + (face is not None) / MOTION_FPS:
            since = f"the face is lost at {times[-1]:.2f} s" if times else "it starts without a face"
            raise ClipError(
                "face_not_found",
                f"{since}, for more than {MISSING_SECONDS:g} s: give a video that shows one face throughout, without "
                "cuts",
            )
        if face is not None:
            last = face
            times.append(time)
            poses.append(head_pose(face.landmarks, 1.0))  # in pixels, until the crop is known
            boxes.append(face.box)
        if time >= end:
            break
    if not times:
        raise ClipError("face_not_found", "it shows no face: give a video of a head seen from the front")
    left, top, right, bottom = np.median(boxes, axis=0)
    side = SCALE * max(right - left, bottom - top)
    values = np.array(poses, dtype=np.float64)
    values[:, 3] = (values[:, 3] + 0.5 - (left + right) / 2) / side
    values[:, 4] = (values[:, 4] + 0.5 - (top + bottom) / 2) / side
    values[:, 5] /= side
    # Angles cannot wrap around: a head that is turned that far does not show its face.
    grid = np.arange(min(frames, int(times[-1] * MOTION_FPS + 1e-6) + 1)) / MOTION_FPS
    return np.stack([np.interp(grid, times, column) for column in values.T], axis=1)


def _upright(picture: np.ndarray, detector: FaceDetector) -> list[Face]:
    """The faces in a picture in which the largest is upright."""
    found = upright_faces(picture, detector)
    if found.turn:
        raise ClipError(
            "pose_unreadable",
            f"the head lies on its side or is upside down: turn the video by {found.turn} degrees clockwise",
        )
    return found.faces


def _found(faces: list[Face], last: Face | None) -> Face | None:
    """The face to track: the largest one, or the one that was lost.

    A face that is farther away than its own size belongs to another person.
    """
    if last is None:
        return faces[0] if faces else None
    near = [(np.hypot(*np.subtract(face.centre, last.centre)), number) for number, face in enumerate(faces)]
    distance, number = min(near, default=(np.inf, 0))
    return faces[number] if distance < last.size else None


def _pictures(data: bytes, limits: Limits) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds since the film begins, (H,W,3) uint8 RGB, upright, with square pixels); one frame is in memory at a
    time.
    """
    last: Fraction | None = None
    try:
        with open_video(data, limits) as film:
            for time, frame in film.timed():
                if last is None or time - last >= SPACING:
                    last = time
                    size = upright_size(frame, film.stream.sample_aspect_ratio)
                    yield float(time - film.zero), upright(frame, size)
    except VideoError as error:
        raise ClipError(CODES[error.problem], str(error)) from error
