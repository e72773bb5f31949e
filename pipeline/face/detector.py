"""Find the faces of a picture and their 468 landmarks, on one CPU thread.

Two BlazeFace detectors propose faces and FaceMesh confirms, aligns and measures each of them:

1. BlazeFace short range (128x128) and full range (192x192) see the whole picture; the first is made for
   faces that fill it, the second for smaller ones. The second also slides along the long side in squares, so
   that the smallest face found depends on the short side only.
2. Proposals of the same face are averaged (weighted non-maximum suppression).
3. FaceMesh reads a square around each proposal, turned so that the eyes are level, and says where the 468
   landmarks are and whether this is a face at all.

The box of a face is the extent of its landmarks, meant to reach from ear to ear and from the hairline to
the chin. No correction is added, because none fits. On the photograph it was calibrated on
(`jobs/demo/media/portrait_astronaut.png`) the box is 95 px wide and 106 px high; by eye the cheeks are
88 px apart, the outer rims of the ears 110 px, and the chin is 97 px below a fringe that hides the top 12 px
of the box. On four portraits with a bare forehead the hairline was above the box, by 13 to 28 % of its
height; on all of them the chin was below it, by 3 to 5 %.

Limits, measured on photographs (not in this repository) pasted onto grey; size is the longer side of the box as
a share of the short side of the picture. Faces seen from the front (five photographs of three people): all
found from 7 % on, 90 % at 6 %, 51 % at 5 %, 13 % at 4 %; with the head cut out, on random colours: 99 % at 10
%, 93 % at 8 %, 69 % at 6 %. A face nearly in profile: always from 10 % on, 60 % at 8 %. All six were found at
every roll tried up to 75 degrees, and in squares that cut them down to 0.9 of their size, the profile to 1.2.
Faces that are upside down are not looked for. Of 300 pictures of concentric rings 3 were taken for a face, of
300 of noise none; of 1440 pictures with one face, one yielded a second that is not there. The bounds below were
chosen on these same photographs and kinds of picture, so expect somewhat less of others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

Box = tuple[float, float, float, float]

_MODELS = Path(__file__).parent / "face_models"

# Concentric rings look most like a face to these networks: up to 0.63 in short range, 0.55 in full range and
# 0.9999 in FaceMesh. Everything else tried that has no face, noise and textures among it, stayed below 0.04
# in FaceMesh. Short range can afford the higher bound: it is sure of the large faces that it is there for.
_MIN_SCORE_SHORT, _MIN_SCORE_FULL, _MIN_PRESENCE = 0.6, 0.5, 0.9
_SAME_FACE_IOU = 0.3
_MAX_FACES = 32
_MAX_TILES = 15  # beyond a side ratio of 8 they overlap less, beyond 15 they leave gaps

_MESH_SIZE = 192  # px, side of FaceMesh's input
_MESH_MARGIN = 1.5  # side of the square that FaceMesh reads, in sizes of the face in it
_MESH_PASSES = 2  # a second pass, around the landmarks of the first, halves the landmarks' jitter
_RIGHT_EYE, _LEFT_EYE = 33, 263  # outer corners; right and left are the person's own


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the picture: x to the right, y down, (0, 0) the outer corner of the first pixel.

    The coordinates of a face that the border cuts off lie outside the picture.
    """

    box: Box
    """(left, top, right, bottom): ear to ear and upper forehead to chin, the extent of the landmarks."""
    score: float
    """Of the detector, 0.5 to 1."""
    landmarks: np.ndarray
    """(468, 3) float32 in FaceMesh's order: x, y, and depth z in pixels too, negative towards the camera."""

    @property
    def width(self) -> float:
        """Of the box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Of the box."""
        return self.box[3] - self.box[1]

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class FaceDetector:
    """The three networks. They can neither be pickled nor shared by threads: build one in each worker."""

    def __init__(self) -> None:
        self._short_range = _BlazeFace(
            "face_detection_short_range.tflite", size=128, grids=((8, 2), (16, 6)), min_score=_MIN_SCORE_SHORT
        )
        self._full_range = _BlazeFace(
            "face_detection_full_range.tflite", size=192, grids=((4, 1),), min_score=_MIN_SCORE_FULL
        )
        self._mesh = _FaceMesh("face_landmark.tflite")

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces in `image`, (H, W, 3) uint8 RGB, the largest first; at most 32."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
        picture = Image.fromarray(image)
        whole = (0.0, 0.0, float(picture.width), float(picture.height))
        proposals = [self._short_range(picture, whole), self._full_range(picture, whole)]
        proposals += [self._full_range(picture, tile) for tile in _tiles(picture.width, picture.height)]
        faces: list[Face] = []
        for proposal in _merge(np.concatenate(proposals))[:_MAX_FACES]:
            landmarks, presence = self._mesh(picture, proposal)
            if presence < _MIN_PRESENCE:
                continue
            box = np.array(_extent(landmarks))
            # A detector may also take the whole head for a face: too large to be merged, but around the same.
            others = np.array([face.box for face in faces]).reshape(-1, 4)
            if (_intersection(box, others) > 0.5 * np.minimum(_area(box), _area(others))).any():
                continue
            faces.append(Face(_extent(landmarks), float(proposal[-1]), landmarks))
        return sorted(faces, key=lambda face: face.size, reverse=True)

    def follow(self, image: np.ndarray, face: Face) -> Face | None:
        """The face of the picture before in the next one (H, W, 3) uint8 RGB of a film; None where it is gone.

        A tenth of the time of `detect`: FaceMesh alone, around the landmarks of before.
        """
        landmarks, presence = self._mesh.again(Image.fromarray(image), face.landmarks)
        if presence < _MIN_PRESENCE:
            return None
        return Face(_extent(landmarks), face.score, landmarks)


def _tiles(width: int, height: int) -> Iterator[Box]:
    """Squares that cover an oblong picture, each half over the next (see _MAX_TILES)."""
    side, length = sorted((width, height))
    if side == length:
        return
    for start in np.linspace(0, length - side, min(-(-2 * length // side) - 1, _MAX_TILES)).tolist():
        if width > height:
            yield start, 0.0, start + side, float(side)
        else:
            yield 0.0, start, float(side), start + side


class _Network:
    """A TensorFlow Lite model of one float32 input whose outputs all differ in size."""

    def __init__(self, file: str) -> None:
        # One thread: the workers, not the interpreters, share out the cores.
        self._interpreter = Interpreter(str(_MODELS / file), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The outputs for `pixels`, (size, size, 3) float32, flattened and the largest first."""
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        outputs = [self._interpreter.get_tensor(index).ravel() for index in self._outputs]
        return sorted(outputs, key=len, reverse=True)


class _BlazeFace:
    """A single-shot detector: one proposal per anchor, as offsets from the anchor's centre."""

    def __init__(self, file: str, size: int, grids: tuple[tuple[int, int], ...], min_score: float) -> None:
        """`size`: side of the input in pixels; `grids`: (stride in pixels, anchors per cell) of each."""
        self._network = _Network(file)
        self._size = size
        self._min_score = min_score
        self._anchors = np.concatenate([_anchors(size, stride, count) for stride, count in grids])

    def __call__(self, picture: Image.Image, view: Box) -> np.ndarray:
        """Proposals in the part `view` of the picture, (n, 9) float32 in pixels of the picture.

        Columns: left, top, right, bottom of the box; x, y of the right and of the left eye; score.
        """
        left, top, right, bottom = view
        scale = self._size / max(right - left, bottom - top)
        width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
        pad_x, pad_y = (self._size - width) // 2, (self._size - height) // 2
        small = picture.resize((width, height), Image.Resampling.BILINEAR, box=view, reducing_gap=2.0)
        pixels = np.full((self._size, self._size, 3), -1.0, np.float32)  # black bars complete the square
        pixels[pad_y : pad_y + height, pad_x : pad_x + width] = np.asarray(small, np.float32) / 127.5 - 1.0

        offsets, logits = self._network(pixels)
        scores = _sigmoid(logits)
        keep = scores > self._min_score
        # Per anchor 8 pairs in pixels of the input: centre, (width, height), right eye, left eye and four
        # more points; all but the second are relative to the anchor.
        pairs = offsets.reshape(-1, 8, 2)[keep]
        centre, half, eyes = pairs[:, :1] + self._anchors[keep, None], pairs[:, 1:2] / 2, pairs[:, 2:4]
        points = np.concatenate([centre - half, centre + half, eyes + self._anchors[keep, None]], axis=1)
        stretch = np.array([(right - left) / width, (bottom - top) / height], np.float32)
        points = (points - np.array([pad_x, pad_y], np.float32)) * stretch + np.array([left, top], np.float32)
        return np.concatenate([points.reshape(-1, 8), scores[keep, None]], axis=1)


def _anchors(size: int, stride: int, count: int) -> np.ndarray:
    """Centres (x, y) of the cells of a grid, row by row, each repeated `count` times; (n, 2) float32."""
    middles = (np.arange(size // stride, dtype=np.float32) + 0.5) * stride
    x, y = np.meshgrid(middles, middles)
    return np.stack([x, y], axis=-1).reshape(-1, 2).repeat(count, axis=0)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits.clip(-80.0, 80.0)))  # beyond 88 the exponential overflows float32


def _area(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) to (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1)


def _intersection(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Area that `box`, (4,), has in common with each of `boxes`, (n, 4); (n,)."""
    return _area(np.hstack([np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])]))


def _merge(proposals: np.ndarray) -> np.ndarray:
    """Weighted non-maximum suppression of (n, 9) proposals: one for each face, the best score first.

    The best proposal collects those that overlap it; coordinates are averaged, the best score is kept.
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


class _FaceMesh:
    """468 landmarks of the one face in an upright square."""

    def __init__(self, file: str) -> None:
        self._network = _Network(file)

    def __call__(self, picture: Image.Image, proposal: np.ndarray) -> tuple[np.ndarray, float]:
        """Landmarks, (468, 3) float32 in pixels of the picture, and the probability that this is a face."""
        corners, eyes = proposal[:4].reshape(2, 2), proposal[4:8].reshape(2, 2)
        centre, size, roll = corners.mean(axis=0), np.ptp(corners, axis=0).max(), _roll(*eyes)
        landmarks, presence = self._read(picture, centre, _MESH_MARGIN * size, roll)
        for _ in range(_MESH_PASSES - 1):
            landmarks, presence = self.again(picture, landmarks)
        return landmarks, presence

    def again(self, picture: Image.Image, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
        """The same around landmarks of before."""
        roll = _roll(landmarks[_RIGHT_EYE, :2], landmarks[_LEFT_EYE, :2])
        upright = landmarks[:, :2] @ _rotation(roll)
        centre = _rotation(roll) @ (upright.min(axis=0) + upright.max(axis=0)) / 2
        return self._read(picture, centre, _MESH_MARGIN * np.ptp(upright, axis=0).max(), roll)

    def _read(
        self,
        picture: Image.Image,
        centre: np.ndarray,
        side: float,
        roll: float,
    ) -> tuple[np.ndarray, float]:
        """One pass over the square of `side` pixels that is turned by `roll` around `centre`."""
        # Bilinear sampling skips pixels when it shrinks more than twofold, so average blocks of them first.
        block = max(1, int(side / _MESH_SIZE))
        reach = 0.75 * side  # a little more than half of the diagonal
        left, top = (centre - reach).clip(0).astype(int)
        right, bottom = np.minimum(centre + reach + 1, picture.size).astype(int)
        if left >= right or top >= bottom:
            return np.zeros((468, 3), np.float32), 0.0
        patch = picture.reduce(block, box=(left, top, right, bottom))

        # landmark in the picture = to_picture @ landmark in the square + origin
        to_picture = _rotation(roll) * (side / _MESH_SIZE)
        origin = centre - to_picture @ np.full(2, _MESH_SIZE / 2)
        (a, b), (c, d) = to_picture / block
        x, y = (origin - (left, top)) / block
        square = patch.transform(
            (_MESH_SIZE, _MESH_SIZE),
            Image.Transform.AFFINE,
            (a, b, x, c, d, y),
            Image.Resampling.BILINEAR,  # what lies outside the picture is black
        )
        points, logit = self._network(np.asarray(square, np.float32) / 255.0)
        xyz = points.reshape(468, 3)
        landmarks = np.column_stack([xyz[:, :2] @ to_picture.T + origin, xyz[:, 2] * (side / _MESH_SIZE)])
        return landmarks.astype(np.float32), float(_sigmoid(logit)[0])


def _extent(landmarks: np.ndarray) -> Box:
    (left, top), (right, bottom) = landmarks[:, :2].min(axis=0).tolist(), landmarks[:, :2].max(axis=0).tolist()
    return left, top, right, bottom


def _roll(right_eye: np.ndarray, left_eye: np.ndarray) -> float:
    """Angle in radians by which the line of the eyes is turned, clockwise as seen."""
    x, y = left_eye - right_eye
    return float(np.arctan2(y, x))


def _rotation(angle: float) -> np.ndarray:
    """(2, 2): turns column vectors by `angle` radians, clockwise as seen since y points down."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
