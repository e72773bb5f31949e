"""Which way up an image is, as its largest face tells: cameras and web sites lose the tag that says so.

The detectors find a face that lies on its side, and its landmarks tell its roll. A face that is upside down is found in
one of four images, and then its landmarks are those of an upright face that is not there. FaceMesh's presence gives it
away. It was 1 in float32 for all of 520 upright faces (photographs of three people and the demo's portraits, cropped,
tilted by up to 25 degrees, mirrored, scaled, blurred, darkened and made grey), and at most 0.999993 for the same ones
upside down, with detector scores of at most 0.86. So the other three ways up are tried only where the face is not
level, or where it is less certain than that: an ordinary portrait costs nothing more.

Another face of the image may lie while the largest is upright. `turn_of` looks at the surroundings of one face alone.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.face.detector import Face, FaceDetector, is_among
from pipeline.face.head_pose import pose_of
from pipeline.face.networks import Box

CERTAIN, CLEAR = 0.999999, 0.86
"""Presence and score of the detector above which a face is taken to be as upright as its landmarks say."""
SEARCH_SIDE = 768
"""The other ways up of a large image are tried on a copy whose short side has this many pixels or a little more."""
LONGEST = 8
"""Images whose sides have a larger ratio are looked at in one way: they are no portraits, and looking takes long."""
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


def upright_faces(image: np.ndarray, detector: FaceDetector, *, small: bool = False) -> Upright:
    """The faces in an image (H,W,3) uint8 RGB, turned by quarters until its largest face is upright.

    With `small`, small faces of a large image are looked for too (`FaceDetector.detect_small`).
    """
    found = _upright(image, detector)
    if not small:
        return found
    faces = detector.detect_small(found.image, found.faces)
    if found.faces or found.turn:
        return Upright(found.image, found.turn, faces)
    turn = turn_of(image, faces[0], detector) if faces else 0
    if faces and turn == 0:
        return Upright(image, 0, faces)
    for degrees in (turn,) if faces else (90, 180, 270):
        other = turned(image, degrees)
        faces_there = detector.detect_small(other, detector.detect(other))
        if faces_there and _is_level(faces_there[0]) and (faces or _is_certain(faces_there[0])):
            return Upright(other, degrees, faces_there)
    return Upright(image, 0, faces)


def turn_of(image: np.ndarray, face: Face, detector: FaceDetector) -> int:
    """Degrees by which `image` must be turned clockwise so that this face of it is upright: 0, 90, 180 or 270."""
    if _is_clear(face):
        return 0
    left, top, right, bottom = (round(edge) for edge in face.box)
    margin = round(face.size / 2)
    height, width, _ = image.shape
    part = image[
        max(0, top - margin) : min(height, bottom + margin), max(0, left - margin) : min(width, right + margin)
    ]
    turn = _best_turn(part, detector)
    return turn if turn or _is_level(face) else 180 if abs(pose_of(face.landmarks).roll) > 135 else 0


def lying_faces(image: np.ndarray, known: list[Face], detector: FaceDetector) -> list[tuple[Box, int]]:
    """Faces of `image` that are certain, but not upright in it, and none of the `known` ones: (box in pixels of
    `image`, degrees by which it must be turned clockwise so that the face is upright).
    """
    height, width, _ = image.shape
    found: list[tuple[Box, int]] = []
    for degrees in (90, 180, 270):
        for face in detector.detect(turned(image, degrees)):
            if _is_level(face) and _is_certain(face):
                x0, y0, x1, y1 = face.box
                box = {
                    90: (y0, height - x1, y1, height - x0),
                    180: (width - x1, height - y1, width - x0, height - y0),
                    270: (width - y1, x0, width - y0, x1),
                }[degrees]
                if not is_among(np.array(box), [other.box for other in known] + [other for other, _ in found]):
                    found.append((box, degrees))
    return found


def _upright(image: np.ndarray, detector: FaceDetector) -> Upright:
    """The same without small faces."""
    found = Upright(image, 0, detector.detect(image))
    if found.faces and _is_clear(found.faces[0]):
        return found
    height, width, _ = image.shape
    if max(height, width) > LONGEST * min(height, width):
        return found
    turn = _best_turn(_reduced(image), detector)
    if turn == 0:
        return found
    other = turned(image, turn)
    faces = detector.detect(other)
    return Upright(other, turn, faces) if faces and _is_level(faces[0]) else found


def _best_turn(image: np.ndarray, detector: FaceDetector) -> int:
    """Degrees by which to turn an image whose largest face is not clearly upright; 0 if no turn is better."""
    best, highest = 0, (False, 0.0)
    lies = False
    for degrees in (0, 90, 180, 270):
        faces = detector.detect(turned(image, degrees))
        if degrees == 0:
            lies = bool(faces) and not _is_level(faces[0])
        # Without a face at first, only a certain one is worth a turn: four looks find false faces more often than one.
        if not faces or not _is_level(faces[0]) or not (degrees == 0 or lies or _is_certain(faces[0])):
            continue
        rank = (_is_certain(faces[0]), faces[0].score)  # presence saturates, and then the score decides
        if rank > highest:
            best, highest = degrees, rank
    return best


def _reduced(image: np.ndarray) -> np.ndarray:
    """An image with a short side of less than twice SEARCH_SIDE."""
    factor = min(image.shape[:2]) // SEARCH_SIDE
    return np.asarray(Image.fromarray(image).reduce(factor)) if factor > 1 else image


def turned(image: np.ndarray, degrees: int) -> np.ndarray:
    """An image (H,W,C) turned clockwise by a multiple of 90 degrees; the image itself for 0."""
    return image if degrees % 360 == 0 else np.ascontiguousarray(np.rot90(image, -(degrees // 90)))


def _is_clear(face: Face) -> bool:
    """Whether a face is upright beyond doubt."""
    return _is_level(face) and _is_certain(face) and face.score > CLEAR


def _is_level(face: Face) -> bool:
    return abs(pose_of(face.landmarks).roll) <= LEVEL_DEGREES


def _is_certain(face: Face) -> bool:
    return face.presence > CERTAIN
