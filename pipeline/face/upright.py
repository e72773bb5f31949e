"""Which way up an image is, as its largest face tells: cameras and web sites lose the tag that says so.

The detectors find a face that lies on its side, and its landmarks tell its roll. A face that is upside down is found in
one of four images, and then its landmarks are those of an upright face that is not there. FaceMesh's presence gives it
away. It was 1 in float32 for all of 520 upright faces (photographs of three people and the demo's portraits, cropped,
tilted by up to 25 degrees, mirrored, scaled, blurred, darkened and made grey), and at most 0.999993 for the same ones
upside down, with detector scores of at most 0.86. So the other three ways up are tried only where the face is not
level, or where it is less certain than that: an ordinary portrait costs nothing more.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import pose_of

CERTAIN, CLEAR = 0.999999, 0.86
"""Presence and score of the detector above which a face is taken to be as upright as its landmarks say."""
LEVEL_DEGREES = 45.0
"""Largest roll of a face that is upright: beyond it another quarter turn is nearer."""


@dataclass(frozen=True, eq=False)
class Upright:
    """An image with its faces upright."""

    image: np.ndarray
    """(H,W,3) uint8 RGB, after the turn."""
    turn: int
    """Degrees by which the image was turned clockwise: 0, 90, 180 or 270."""
    faces: list[Face]
    """The largest first, in pixels of `image`; empty if there is none."""


def upright_faces(image: np.ndarray, detector: FaceDetector) -> Upright:
    """The faces in an image (H,W,3) uint8 RGB, turned by quarters until its largest face is upright."""
    found = Upright(image, 0, detector.detect(image))
    if found.faces and _is_level(found.faces[0]) and _is_certain(found.faces[0]) and found.faces[0].score > CLEAR:
        return found
    lies = bool(found.faces) and not _is_level(found.faces[0])
    best = None if lies or not found.faces else found
    for degrees in (90, 180, 270):
        other = turned(image, degrees)
        faces = detector.detect(other)
        # Without a face at first, only a certain one is worth a turn: four looks find false faces more often than one.
        if not faces or not _is_level(faces[0]) or not (lies or _is_certain(faces[0])):
            continue
        if best is None or _rank(faces[0]) > _rank(best.faces[0]):
            best = Upright(other, degrees, faces)
    return best or found


def turned(image: np.ndarray, degrees: int) -> np.ndarray:
    """An image (H,W,C) turned clockwise by a multiple of 90 degrees; the image itself for 0."""
    return image if degrees % 360 == 0 else np.ascontiguousarray(np.rot90(image, -(degrees // 90)))


def _is_level(face: Face) -> bool:
    return abs(pose_of(face.landmarks).roll) <= LEVEL_DEGREES


def _is_certain(face: Face) -> bool:
    return face.presence > CERTAIN


def _rank(face: Face) -> tuple[bool, float]:
    """Presence saturates, so that the detector's score decides between two certain faces."""
    return _is_certain(face), face.score
