"""Follows one face from picture to picture of a shot, and looks for others now and then."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from PIL import Image

from models import MOTION_FPS
from pipeline.face.crop import crop_square
from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import head_pose
from pipeline.measure.face_track import LOOK_AGAIN, mouth_opening
from pipeline.measure.ffmpeg_filters import connect
from pipeline.media.contact_sheet import jpeg
from pipeline.training_data.source_video import Picture

LOOK_EVERY = MOTION_FPS
"""Frames after which the whole picture is searched again: a second face stays unseen for less than a second."""
JUMP = 0.3
"""Of its size: a face that moves farther within 1/25 s, or changes its size by as much, is behind a cut."""
BLUR_SIDE = 256
"""px, of the picture of the face in which edges are measured."""
THUMBNAIL = 128
"""px."""

BOX, POSE, COMPONENTS, MOUTH = slice(0, 4), slice(4, 10), slice(10, 22), 22
WIDTH = 23
"""Columns of what is kept of a face, float32, in pixels of the source: its box; `head_pose` for a picture of one pixel;
boxes of the right eye, the left eye and the mouth; how far the mouth is open."""

RIGHT_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_LIDS = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""FaceMesh's landmarks of the outlines."""

EYE_SIDE, MOUTH_SIDE = 0.5, 0.8
"""Of the boxes, in distances of the eyes' outer corners as the head's pose has it, so that a lid or a lip that moves
changes no size. An eye is 0.32 wide, a closed mouth about 0.6, and a jaw opens by about as much."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a search of a whole picture has found."""

    frame: int
    others: bool
    """Whether a second face has at least `other_face` of the size of the one that is followed."""
    blur: float | None
    """Width of the face's edges, px of `BLUR_SIDE`; None without a face."""
    thumbnail: bytes
    """JPEG of the whole picture, at most `THUMBNAIL` px wide and high."""


class Tracker:
    """One face at a time; `frame` must get every picture in order."""

    def __init__(self, detector: FaceDetector, other_face: float) -> None:
        self._detector, self._other_face = detector, other_face
        self._blur = BlurMeter()
        self._face: Face | None = None
        self._seen: Picture | None = None
        self._row: np.ndarray | None = None
        self._looked = -LOOK_EVERY

    def frame(self, number: int, picture: Picture, begins_shot: bool) -> tuple[np.ndarray | None, bool, Look | None]:
        """(what is kept of the face (WIDTH,), or None without one; whether it is another track than before; a look)."""
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

    def _followed(self, picture: Picture) -> Face | None:
        if self._face is None:
            return None
        face = self._detector.follow(picture.rgb, self._face)
        return None if face is None or _is_jump(self._face, face) else face

    def _look(self, number: int, picture: Picture) -> Look:
        self._looked = number
        faces = self._detector.detect(picture.rgb)
        if self._face is None and faces:
            self._face = faces[0]  # the largest
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
    """Box (4,) around the middle of points (n,2); larger than `side` where they need it."""
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
    """FFmpeg's blurdetect (after Marziliano 2002): the mean width of edges. Pictures (BLUR_SIDE, BLUR_SIDE, 3).

    Measured on the demo's photograph, its face 320 px high: 8.4; behind a Gaussian of 1, 2, 3 and 4 px 9.2, 11.2, 12.8
    and 14.2; made 160 px high 8.4, 100 px 8.5.
    """

    def __init__(self) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        step = Fraction(1, MOTION_FPS)
        like = av.VideoFrame(BLUR_SIDE, BLUR_SIDE, "yuv420p")
        source = self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=step)
        connect(self._graph, source, ("blurdetect", ""), ("buffersink", ""))
        self._number = 0

    def __call__(self, rgb: np.ndarray) -> float | None:
        """px; None for a picture without edges."""
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, MOTION_FPS)
        self._number += 1
        self._graph.push(frame)
        found = float(dict(self._graph.pull().metadata).get("lavfi.blur", "nan"))
        return found if np.isfinite(found) else None
