"""Which way up an image is, as its largest face tells: cameras and web sites lose the tag that says so.

The detectors find a face that lies on its side, and its landmarks tell its roll. A face that is upside down is found in
one of two images, and then the landmarks are those of an upright face that is not there. FaceMesh's presence gives it
away: on photographs of four people and on the demo's portraits, made smaller, blurred, darkened, grey and turned, it
was above 0.9999 for 115 of 116 faces that are upright, and at most 0.9995 for those that are upside down. So the other
three ways up are tried only where the face is not level, or less certain than that: an ordinary portrait costs nothing
more.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import pose_of

CERTAIN = 0.9999
"""Presence above which a face is taken to be as upright as its landmarks say."""
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
    if found.faces and _is_level(found.faces[0]) and _is_certain(found.faces[0]):
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
