"""Find the faces of an image and their 468 landmarks, on one CPU thread.

Two BlazeFace detectors propose faces, and FaceMesh confirms, aligns and measures each of them:

1. BlazeFace short range (128x128) and full range (192x192) see the whole image; the first is made for faces that fill
   it, the second for smaller ones. The second also slides along the long side in squares, so that the smallest
   detectable face depends only on the short side.
2. Proposals of the same face are averaged (weighted non-maximum suppression).
3. FaceMesh reads a square around each proposal, rotated so that the eyes are level, and returns the 468 landmarks and
   whether this is a face at all.

The box of a face is the extent of its landmarks, which should reach from ear to ear and from the hairline to the chin.
No correction is added, because none fits. On the photograph that it was calibrated on
(`jobs/demo/media/portrait_astronaut.png`) the box is 95 px wide and 106 px high; by eye the cheeks are 88 px apart, the
outer rims of the ears 110 px, and the chin is 97 px below a fringe that hides the top 12 px of the box. On four
portraits with a bare forehead the hairline was above the box, by 13 to 28 % of its height; on all of them the chin was
below it, by 3 to 5 %.

The limits were measured on photographs (not in this repository) pasted onto grey. The size is the longer side of the
box as a share of the short side of the image. Faces seen from the front (five photographs of three people): all are
found from 7 % on, 90 % at 6 %, 51 % at 5 %, 13 % at 4 %; with the head cut out, on random colours: 99 % at 10 %, 93 %
at 8 %, 69 % at 6 %. A face nearly in profile is always found from 10 % on, and in 60 % of the cases at 8 %. All six
were found at every tested roll up to 75 degrees, and in squares that crop them to 0.9 of their size (1.2 for the
profile). Faces that are upside down are not searched for: `pipeline.face.upright` turns the image. Of 300 images of
concentric rings 3 were taken for a face, and of 300 images of noise none; of 1440 images with one face, one yielded a
second face that does not exist. The bounds below were chosen on these same photographs and kinds of image, so expect
slightly worse results on others.

`detect_small` finds smaller ones. The heads of the demo's five portraits were pasted onto grey and onto coloured blobs
of 1920 x 1080 and onto grey of 4000 x 3000 and 5472 x 3648: all 60 of 48, 64 and 96 px were found, 31 of 40 of 36 and
40 px, 13 of 20 of 32 px. In 12 images each of rings, noise, blobs and pieces of a photograph without its face (1600 x
1200) it saw none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.face.networks import BlazeFace, Box, FaceMesh

# Concentric rings look most like a face to these networks: up to 0.63 in short range, 0.55 in full range and 0.9999
# in FaceMesh. Everything else without a face that was tried, including noise and textures, stayed below 0.04 in
# FaceMesh. Short range can afford the higher bound, because it is confident about the large faces that it is made
# for.
_MIN_SCORE_SHORT, _MIN_SCORE_FULL, _MIN_PRESENCE = 0.6, 0.5, 0.9
_SAME_FACE_IOU = 0.3
_MAX_FACES = 32
_MAX_TILES = 15  # beyond a side ratio of 8 the tiles overlap less, beyond 15 they leave gaps

SMALL = 0.15
"""`detect_small` looks for small faces if the largest that is known has less than this share of the short side."""
_TILE = 512  # px, side of the squares in which small faces are looked for
_TILE_STEP = 3.5  # the next larger squares are larger by this factor: a square shows faces of 7 to 50 % of its side
_MAX_SMALL_TILES = 280  # squares of one size; those of a larger image are larger
# Squares of a picture are many more looks than one, so proposals and faces have to be clearer.
_MIN_SCORE_SMALL, _MIN_PRESENCE_SMALL = 0.6, 0.99


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the image: x to the right, y down, and (0, 0) is the outer corner of the first pixel.

    Coordinates of a face that the border cuts off can lie outside the image.
    """

    box: Box
    """(left, top, right, bottom): from ear to ear and from the upper forehead to the chin, the extent of the
    landmarks.
    """
    score: float
    """Score of the detector, 0.5 to 1."""
    landmarks: np.ndarray
    """(468, 3) float32 in FaceMesh's order: x, y, and depth z in pixels too, negative towards the camera."""
    presence: float = 1.0
    """FaceMesh's probability that this is an upright face, 0.9 to 1."""

    @property
    def width(self) -> float:
        """Width of the box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box."""
        return self.box[3] - self.box[1]

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the centre of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class FaceDetector:
    """The three networks. They can neither be pickled nor shared between threads: create one in each worker."""

    def __init__(self) -> None:
        self._short_range = BlazeFace(
            "face_detection_short_range.tflite", size=128, grids=((8, 2), (16, 6)), min_score=_MIN_SCORE_SHORT
        )
        self._full_range = BlazeFace(
            "face_detection_full_range.tflite", size=192, grids=((4, 1),), min_score=_MIN_SCORE_FULL
        )
        self._mesh = FaceMesh("face_landmark.tflite")

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces in `image`, (H, W, 3) uint8 RGB, the largest first; at most 32."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        picture = Image.fromarray(image)
        whole = (0.0, 0.0, float(picture.width), float(picture.height))
        proposals = [self._short_range(picture, whole), self._full_range(picture, whole)]
        proposals += [self._full_range(picture, tile) for tile in _tiles(picture.width, picture.height)]
        return self._confirmed(picture, np.concatenate(proposals), [], _MIN_PRESENCE)

    def detect_small(self, image: np.ndarray, known: list[Face]) -> list[Face]:
        """The faces `known` from `detect` and small ones of a large image (H,W,3) uint8 RGB, the largest first.

        The image is seen in overlapping squares of 512 px and, where that is needed to leave no gap to what `detect`
        sees, larger ones. It costs nothing if one of the faces has 15 % of the short side or more (`SMALL`), and in
        images that are hardly larger than one square.
        """
        short = min(image.shape[:2])
        if known and known[0].size >= SMALL * short:
            return known
        tiles = list(_small_tiles(image.shape[1], image.shape[0]))
        if not tiles:
            return known
        picture = Image.fromarray(image)
        found = np.concatenate([self._full_range(picture, tile) for tile in tiles])
        return self._confirmed(picture, found[found[:, -1] >= _MIN_SCORE_SMALL], known, _MIN_PRESENCE_SMALL)

    def _confirmed(self, picture: Image.Image, proposals: np.ndarray, known: list[Face], least: float) -> list[Face]:
        """`known` and those of the proposals (n, 9) in which FaceMesh sees other faces, the largest first."""
        faces = list(known)
        for proposal in _merge(proposals)[: _MAX_FACES + len(known)]:
            if is_among(proposal[:4], [face.box for face in known]) or len(faces) == _MAX_FACES:
                continue
            landmarks, presence = self._mesh(picture, proposal)
            # A detector may also take the whole head for a face: such a box is too large to be merged, but contains
            # the same face.
            if presence >= least and not is_among(np.array(_extent(landmarks)), [face.box for face in faces]):
                faces.append(Face(_extent(landmarks), float(proposal[-1]), landmarks, presence))
        return sorted(faces, key=lambda face: face.size, reverse=True)

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """The face of the previous frame in the next frame (H, W, 3) uint8 RGB of a video; None if it is lost.

        It takes a tenth of the time of `detect`: only FaceMesh runs, around the previous landmarks.
        """
        landmarks, presence = self._mesh.again(Image.fromarray(image), face.landmarks)
        if presence < _MIN_PRESENCE:
            return None
        return Face(_extent(landmarks), face.score, landmarks, presence)


def _tiles(width: int, height: int) -> Iterator[Box]:
    """Squares that cover an oblong image, each of which overlaps the next by half (see _MAX_TILES)."""
    side, length = sorted((width, height))
    if side == length:
        return
    for start in np.linspace(0, length - side, min(-(-2 * length // side) - 1, _MAX_TILES)).tolist():
        if width > height:
            yield start, 0.0, start + side, float(side)
        else:
            yield 0.0, start, float(side), start + side


def _small_tiles(width: int, height: int) -> Iterator[Box]:
    """Squares of each size that cover an image and overlap by half; none for an image hardly larger than a square."""
    short = min(width, height)
    # The whole image shows faces from 7 % of its short side on.
    side, largest = float(_TILE), 0.0
    while short >= 1.5 * side and largest < 0.07 * short:
        side = min(short, max(side, 2 * (width * height / _MAX_SMALL_TILES) ** 0.5))
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield left, top, left + side, top + side
        side, largest = side * _TILE_STEP, side / 2


def _starts(length: int, side: float) -> list[float]:
    """Where squares begin along a side of an image, so that each overlaps the next by half or more."""
    count = max(1, math.ceil(2 * length / side) - 1)
    return np.linspace(0, max(0.0, length - side), count).tolist()


def is_among(box: np.ndarray, boxes: list[Box]) -> bool:
    """Whether a box (4,) covers half of one of the others, or the other way round."""
    others = np.array(boxes).reshape(-1, 4)
    return bool((_intersection(box, others) > 0.5 * np.minimum(_area(box), _area(others))).any())


def _area(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) to (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1)


def _intersection(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection area of `box`, (4,), with each of `boxes`, (n, 4); (n,)."""
    return _area(np.hstack([np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])]))


def _merge(proposals: np.ndarray) -> np.ndarray:
    """Weighted non-maximum suppression of (n, 9) proposals: one result per face, the best score first.

    The best proposal collects those that overlap it. Their coordinates are averaged, and the best score is kept.
    """
    rest = proposals[np.argsort(-proposals[:, -1], kind="stable")]
    merged = [proposals[:0]]
    while len(rest):
        best, boxes = rest[0, :4], rest[:, :4]
        common = _intersection(best, boxes)
        same = common > _SAME_FACE_IOU * (_area(best) + _area(boxes) - common)
        same[0] = True  # also if its box is empty
        mean = np.average(rest[same], axis=0, weights=rest[same, -1])
        mean[-1] = rest[0, -1]
        merged.append(mean[None])
        rest = rest[~same]
    return np.concatenate(merged)


def _extent(landmarks: np.ndarray) -> Box:
    (left, top), (right, bottom) = landmarks[:, :2].min(axis=0).tolist(), landmarks[:, :2].max(axis=0).tolist()
    return left, top, right, bottom
