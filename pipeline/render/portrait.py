"""A clip's portrait: the frame of the image that shows a face, turned upright and cropped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.common.errors import ClipError, of_file
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.face.choice import ALIKE, LARGEST, FaceChoice, centre_text, choose, listed, numbered
from pipeline.face.crop import crop_square
from pipeline.face.detector import Face, FaceDetector
from pipeline.face.networks import Box
from pipeline.face.profile import yaw_of
from pipeline.face.upright import Upright, lying_faces, turn_of, turned, upright_faces
from pipeline.media.image import ImageFile, load_image

MAX_FRAMES = 60
"""Frames of an animation among which a face is looked for; all of them together have no more pixels than the largest
allowed image.
"""


@dataclass(frozen=True, eq=False)
class Portrait:
    """What is rendered, and where it was found."""

    pixels: np.ndarray
    """(S,S,3) uint8 RGB, cropped."""
    faces_found: int | None = None
    """None if crop is none, because no detector runs then."""
    face_box: Box | None = None
    """Left, top, right and bottom of the chosen face, in pixels of the upright image."""
    turn: int | None = None
    """Degrees by which the image was turned clockwise; None if crop is none."""
    frame: int | None = None
    """Number of the frame of an animation, from 1; None for a still image."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the image."""
    upright: np.ndarray | None = None
    """(H,W,3) uint8 RGB: the whole image after the turn."""
    faces: tuple[Face, ...] = ()
    """All its faces, the largest first, in pixels of the upright image."""


def load_portrait(
    read: Callable[[], bytes],
    name: str,
    crop: str,
    limits: Limits,
    detector: FaceDetector,
    size: int,
    face: FaceChoice = LARGEST,
) -> Portrait:
    """The portrait in the image file that `read` gives, with `size` pixels on each side.

    With `crop` auto the face that `face` names is cropped, after the image was turned by quarters until its largest
    face is upright; with none a square image is used as it is, and no face is detected. Of an animation the first frame
    with a face is used, or the first that is not blank if crop is none. Raises ClipError: those of `read` and
    `load_image`, image_not_square, face_not_found, face_not_there, several_faces, face_not_upright and face_in_profile;
    the messages call the file `name`.
    """
    try:
        return decoded_portrait(read(), name, crop, limits, detector, size, face)
    except ClipError as error:
        raise of_file("image", name, error) from error


def decoded_portrait(
    data: bytes,
    name: str,
    crop: str,
    limits: Limits,
    detector: FaceDetector,
    size: int,
    face: FaceChoice = LARGEST,
) -> Portrait:
    """The same for the contents of the file; the messages of errors do not name it."""
    file = ImageFile(data, limits, name)
    first = file.pixels()
    if file.frames == 1:
        return find_portrait(first, name, crop, limits, detector, size, face)
    return _of_frames(file, first, name, crop, limits, detector, size, face)


def find_portrait(
    image: np.ndarray,
    name: str,
    crop: str,
    limits: Limits,
    detector: FaceDetector,
    size: int,
    face: FaceChoice = LARGEST,
) -> Portrait:
    """The same for an image (H,W,3) uint8; the messages of errors do not name it."""
    if crop == "none":
        height, width, _ = image.shape
        if height != width:
            raise ClipError(
                "image_not_square", f"{width} x {height} pixels are not a square; crop the image, or set crop to auto"
            )
        return Portrait(recropped(image, None, size), upright=image)
    found = upright_faces(image, detector, small=True)
    if not found.faces:
        raise ClipError(
            "face_not_found",
            "no face found, whichever way up the image is; use an image with one clear face seen from the front, or "
            "crop it yourself and set crop to none",
        )
    portrait = portrait_in(found, limits, detector, size, face)
    notes = (*_turned(found, name), *([] if face.names_one else _alike(found.faces, name)))
    return replace(portrait, notes=notes)


def portrait_in(found: Upright, limits: Limits, detector: FaceDetector, size: int, face: FaceChoice) -> Portrait:
    """The portrait of one face of an image whose faces are known. Raises ClipError as `load_portrait` does."""
    chosen = _chosen(found, face, detector)
    _check_animates(found, chosen, limits, detector)
    pixels, faces = recropped(found.image, chosen.box, size), tuple(found.faces)
    return Portrait(pixels, len(found.faces), chosen.box, found.turn, upright=found.image, faces=faces)


def reload_upright(data: bytes, limits: Limits, turn: int | None, frame: int | None) -> np.ndarray:
    """The whole image (H,W,3) of a `Portrait` again, from the same file and from what was found then."""
    return turned(load_image(data, limits, frame=frame or 1), turn or 0)


def recropped(image: np.ndarray, box: Box | None, size: int) -> np.ndarray:
    """The square around a face, or the whole square image if there is no box -> (size,size,3)."""
    if box is None:
        height, width, _ = image.shape
        return crop_square(image, (0.0, 0.0, float(width), float(height)), size, scale=1.0)
    return crop_square(image, box, size)


def searched_frames(file: ImageFile, first: np.ndarray, limits: Limits) -> Iterator[tuple[int, np.ndarray]]:
    """(number from 1, pixels) of the frames of an image file, whose frame 1 is `first`, in which a face is looked
    for; up to one that is damaged.
    """
    yield 1, first
    for number in range(2, _searched(file, first, limits) + 1):
        try:
            pixels = file.pixels(number)
        except ClipError:  # the frames before are good
            return
        yield number, pixels


def _searched(file: ImageFile, first: np.ndarray, limits: Limits) -> int:
    return min(file.frames, MAX_FRAMES, max(1, int(limits.max_image_megapixels * 1e6) // (first.size // 3)))


def _of_frames(
    file: ImageFile,
    first: np.ndarray,
    name: str,
    crop: str,
    limits: Limits,
    detector: FaceDetector,
    size: int,
    face: FaceChoice,
) -> Portrait:
    """The portrait in an animation, whose frame 1 is `first`."""
    most = _searched(file, first, limits)
    for number, pixels in searched_frames(file, first, limits):
        if _is_blank(pixels) and (crop != "none" or number < most):
            continue
        try:
            found = find_portrait(pixels, name, crop, limits, detector, size, face)
        except ClipError as error:
            if error.code != "face_not_found":
                raise
            continue
        chosen = "that is not blank" if crop == "none" else "that shows a face"
        text = f"image {name}: it is an animation of {file.frames} frames; frame {number}, the first {chosen}, was used"
        return replace(found, frame=number, notes=(Note("image_animated", text), *found.notes))
    raise ClipError(
        "face_not_found",
        f"it is an animation of {file.frames} frames, and none of the first {most} shows a face; use a still image "
        "with one clear face seen from the front",
    )


def _chosen(found: Upright, face: FaceChoice, detector: FaceDetector) -> Face:
    """The face that is meant. Raises ClipError."""
    boxes = [one.box for one in found.faces]
    try:
        return found.faces[choose(face, boxes)]
    except ClipError as error:
        if error.code != "face_not_there":
            raise
        lying = lying_faces(found.image, found.faces, detector)
        try:
            place = choose(face, boxes + [box for box, _ in lying]) - len(boxes)
        except ClipError:
            raise error from None
        raise _not_upright(*lying[place]) if place >= 0 else error from None


def _not_upright(box: Box, turn: int) -> ClipError:
    return ClipError(
        "face_not_upright",
        f"the face at {centre_text(box)} is turned by {360 - turn} degrees clockwise against the largest one: crop the "
        "image to that face, and it will be turned upright",
    )


def _check_animates(found: Upright, face: Face, limits: Limits, detector: FaceDetector) -> None:
    """Raise ClipError if this face of the image lies, while the largest is upright, or is turned too far to a side."""
    turn = 0 if face is found.faces[0] else turn_of(found.image, face, detector)
    if turn:
        raise _not_upright(face.box, turn)
    yaw = yaw_of(found.image, face, detector)
    if abs(yaw) > limits.max_yaw:
        raise ClipError(
            "face_in_profile",
            f"the face looks {abs(yaw):.0f} degrees to the {'right' if yaw > 0 else 'left'} of the picture, and "
            f"limits.max_yaw = {limits.max_yaw:g} allows less: use a picture that is taken more from the front, or "
            "raise the limit",
        )


def _is_blank(image: np.ndarray) -> bool:
    """Whether all pixels have one colour."""
    return bool((image == image[0, 0]).all())


def _turned(found: Upright, name: str) -> list[Note]:
    if not found.turn:
        return []
    lay, way = ("upside down", "") if found.turn == 180 else ("on its side", " clockwise")
    text = f"image {name}: the face was {lay}, so the image was turned by {found.turn} degrees{way}"
    return [Note("portrait_turned", text)]


def _alike(faces: list[Face], name: str) -> list[Note]:
    """A note if the largest of `faces`, which comes first, is hardly larger than the next."""
    boxes = [face.box for face in faces]
    alike = [place for place, face in enumerate(faces) if face.size >= ALIKE * faces[0].size]
    if len(alike) == 1:
        return []
    text = (
        f"image {name}: {len(alike)} faces are almost equally large (numbered from the left, {listed(boxes, alike)}), "
        f"and face {numbered(boxes).index(0) + 1}, which is the largest by a little, speaks; if another should, write "
        "its number in column face"
    )
    return [Note("faces_alike", text)]
