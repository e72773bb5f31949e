"""The picture of the numbered faces of an image file, for `--check` and for the report."""

import contextlib
from collections.abc import Sequence
from functools import cache

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.choice import FaceChoice, choose
from pipeline.face.detector import FaceDetector
from pipeline.face.numbered import numbered_picture
from pipeline.face.upright import Upright, upright_faces
from pipeline.media.contact_sheet import jpeg
from pipeline.media.image import ImageFile
from pipeline.render.portrait import searched_frames

LARGE, SMALL = (1280, 85), (320, 60)
"""Longer side in pixels and JPEG quality: of a picture to choose from, and of one in the report, of about 10 kB."""

_detector = cache(FaceDetector)


def face_picture(
    data: bytes, name: str, limits: Limits, faces: Sequence[FaceChoice], form: tuple[int, int]
) -> bytes | None:
    """The contents of an image file -> JPEG of all its faces with their numbers; None if it shows none.

    It is upright as `pipeline.render.portrait` turns it; of an animation it is the frame that is used. The faces that
    `faces` name are marked, if they are there. `form` is `LARGE` or `SMALL`. Runs in a child process. Raises ClipError
    for a file that cannot be read.
    """
    file = ImageFile(data, limits, name)
    found = _with_faces(file, limits)
    if found is None:
        return None
    boxes = [one.box for one in found.faces]
    chosen = []
    for face in faces:
        with contextlib.suppress(ClipError):  # the picture is made to correct that
            chosen.append(boxes[choose(face, boxes)])
    side, quality = form
    return jpeg(numbered_picture(found.image, boxes, chosen, side), quality)


def _with_faces(file: ImageFile, limits: Limits) -> Upright | None:
    first: np.ndarray = file.pixels()
    for _, pixels in searched_frames(file, first, limits):
        found = upright_faces(pixels, _detector(), small=True)
        if found.faces:
            return found
    return None
