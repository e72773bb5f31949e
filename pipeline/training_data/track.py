"""Tracks one face through the frames of a shot, and looks for others at intervals."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from models import MOTION_FPS
from pipeline.face.crop import crop_square
from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import head_pose
from pipeline.measure.face_track import LOOK_AGAIN, mouth_opening
from pipeline.media.contact_sheet import jpeg
from pipeline.media.filters import video_chain
from pipeline.training_data.source_video import SourceFrame

LOOK_EVERY = MOTION_FPS
"""Number of frames after which the whole frame is searched again: a second face stays undetected for less than a
second.
"""
JUMP = 0.3
"""A face that moves farther than this share of its size within 1/25 s, or changes its size by as much, indicates
a cut.
"""
BLUR_SIDE = 256
"""Side of the face image in which edges are measured, px."""
THUMBNAIL = 128
"""Size of a thumbnail, px."""

BOX, POSE, COMPONENTS, MOUTH = slice(0, 4), slice(4, 10), slice(10, 22), 22
WIDTH = 23
"""Number of float32 columns that are kept for a face, in pixels of the source: its box; `head_pose` for a frame of one
pixel; the boxes of the right eye, the left eye and the mouth; and the mouth opening.
"""

RIGHT_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_LIDS = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""FaceMesh landmarks of the outlines."""

EYE_SIDE, MOUTH_SIDE = 0.5, 0.8
"""Sides of the boxes relative to the distance between the outer eye corners of the head pose, so that moving lids and
lips do not change them. An eye is 0.32 wide, a closed mouth about 0.6, and a jaw opens by about as much.
"""


@dataclass(frozen=True, eq=False)
class Look:
    """The result of searching a whole frame."""

    frame: int
    others: bool
    """Whether a second face has at least `other_face` of the size of the tracked face."""
    blur: float | None
    """Edge width of the face, px at `BLUR_SIDE`; None without a face."""
    thumbnail: bytes
    """JPEG of the whole frame, at most `THUMBNAIL` px wide and high."""


class Tracker:
    """Tracks one face at a time; `frame` must get every frame in order."""

    def __init__(self, detector: FaceDetector, other_face: float) -> None:
        self._detector, self._other_face = detector, other_face
        self._blur = BlurMeter()
        self._face: Face | None = None
        self._seen: SourceFrame | None = None
        self._row: np.ndarray | None = None
        self._looked = -LOOK_EVERY

    def frame(
        self, number: int, picture: SourceFrame, begins_shot: bool
    ) -> tuple[np.ndarray | None, bool, Look | None]:
        """(face row (WIDTH,), or None without a face; whether a new track begins; a look at the whole frame, or
        None).
        """
        if begins_shot:
            self._face, self._seen, self._looked = None, None, number - LOOK_EVERY
        elif picture is self._seen:
            return self._row, False, None
        before, self._face = self._face, self._followed(picture)
        since = number - self._looked
        look = None
        lost = before is not None and self._face is None
        if lost or since >= (LOOK_AGAIN if self._face is None else LOOK_EVERY):
            look = self._look(number, picture)
        new = begins_shot or (self._face is not None and (before is None or _is_jump(before, self._face)))
        self._seen, self._row = picture, None if self._face is None else measured(self._face)
        return self._row, new, look

    def _followed(self, picture: SourceFrame) -> Face | None:
        if self._face is None:
            return None
        face = self._detector.follow(picture.rgb, self._face)
        return None if face is None or _is_jump(self._face, face) else face

    def _look(self, number: int, picture: SourceFrame) -> Look:
        self._looked = number
        faces = self._detector.detect(picture.rgb)
        if self._face is None and faces:
            self._face = faces[0]  # the largest face
        face, others, blur = self._face, False, None
        if face is not None:
            rest = [one for one in faces if _distance(one, face) > 0.5 * min(one.size, face.size)]
            others = any(one.size >= self._other_face * face.size for one in rest)
            blur = self._blur(crop_square(picture.rgb, face.box, BLUR_SIDE, scale=1.0))
        return Look(number, others, blur, thumbnail(picture.rgb))


def _distance(one: Face, other: Face) -> float:
    return float(np.hypot(*np.subtract(one.centre, other.centre)))


def _is_jump(before: Face, face: Face) -> bool:
    return _distance(before, face) > JUMP * before.size or abs(face.size - before.size) > JUMP * before.size


def measured(face: Face) -> np.ndarray:
    """(WIDTH,) float32."""
    pose = head_pose(face.landmarks, 1.0)
    scale = float(pose[5])
    boxes = [
        _square(face.landmarks[list(outline), :2], share * scale)
        for outline, share in ((RIGHT_LIDS, EYE_SIDE), (LEFT_LIDS, EYE_SIDE), (LIPS, MOUTH_SIDE))
    ]
    return np.array([*face.box, *pose, *np.concatenate(boxes), mouth_opening(face.landmarks)], dtype=np.float32)


def _square(points: np.ndarray, side: float) -> np.ndarray:
    """Box (4,) around the centre of points (n,2), which is larger than `side` if they need it."""
    low, high = points.min(0), points.max(0)
    half = max(side, 1.1 * float((high - low).max())) / 2
    middle = (low + high) / 2
    return np.concatenate([middle - half, middle + half])


def thumbnail(rgb: np.ndarray) -> bytes:
    """(H,W,3) uint8 -> a small JPEG."""
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return jpeg(image, 80)


class BlurMeter:
    """FFmpeg's blurdetect (after Marziliano 2002): the mean width of edges in images (BLUR_SIDE, BLUR_SIDE, 3).

    Measured on the demo's photograph with a face 320 px high: 8.4, and after a Gaussian blur of 1, 2, 3 and 4 px 9.2,
    11.2, 12.8 and 14.2; scaled to 160 px 8.4, to 100 px 8.5.
    """

    def __init__(self) -> None:
        like = av.VideoFrame(BLUR_SIDE, BLUR_SIDE, "yuv420p")
        self._graph = video_chain(like, Fraction(1, MOTION_FPS), ("blurdetect", ""))
        self._number = 0

    def __call__(self, rgb: np.ndarray) -> float | None:
        """Edge width in px; None for an image without edges."""
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, MOTION_FPS)
        self._number += 1
        self._graph.push(frame)
        found = float(dict(self._graph.pull().metadata).get("lavfi.blur", "nan"))
        return found if np.isfinite(found) else None
