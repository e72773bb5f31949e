"""The networks of the face detector: BlazeFace, which proposes faces, and FaceMesh, which confirms and measures a face.

Both are MediaPipe's, in TensorFlow Lite, with one CPU thread each; `pipeline.face.detector` combines them.
"""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from models.pixels import signed
from pipeline.common.native_stderr import native_stderr_without

Box = tuple[float, float, float, float]

_MODELS = Path(__file__).parent / "face_models"

_MESH_SIZE = 192  # px, side of FaceMesh's input
_MESH_MARGIN = 1.5  # side of the square that FaceMesh reads, as a multiple of the face size
_MESH_PASSES = 2  # a second pass, around the landmarks of the first, halves their jitter
_RIGHT_EYE, _LEFT_EYE = 33, 263  # outer corners; right and left are the person's own


class _Network:
    """A TensorFlow Lite model of one float32 input whose outputs all differ in size."""

    def __init__(self, file: str) -> None:
        # One thread: the workers, and not the interpreters, share the cores.
        with native_stderr_without("^INFO: Created TensorFlow Lite .* delegate"):  # it has no switch for its log
            self._interpreter = Interpreter(str(_MODELS / file), num_threads=1)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The flattened outputs for `pixels`, (size, size, 3) float32, the largest first."""
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        outputs = [self._interpreter.get_tensor(index).ravel() for index in self._outputs]
        return sorted(outputs, key=len, reverse=True)


class BlazeFace:
    """A single-shot detector: one proposal per anchor, as offsets from the anchor's centre."""

    def __init__(self, file: str, size: int, grids: tuple[tuple[int, int], ...], min_score: float) -> None:
        """`size` is the side of the input in pixels; `grids` are (stride in pixels, anchors per cell) of each grid."""
        self._network = _Network(file)
        self._size = size
        self._min_score = min_score
        self._anchors = np.concatenate([_anchors(size, stride, count) for stride, count in grids])

    def __call__(self, picture: Image.Image, view: Box) -> np.ndarray:
        """Proposals in the part `view` of the image, (n, 9) float32 in pixels of the image.

        Columns: left, top, right, bottom of the box; x, y of the right eye and of the left eye; score.
        """
        left, top, right, bottom = view
        scale = self._size / max(right - left, bottom - top)
        width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
        pad_x, pad_y = (self._size - width) // 2, (self._size - height) // 2
        small = picture.resize((width, height), Image.Resampling.BILINEAR, box=view, reducing_gap=2.0)
        pixels = np.full((self._size, self._size, 3), -1.0, np.float32)  # black bars make the input square
        pixels[pad_y : pad_y + height, pad_x : pad_x + width] = signed(np.asarray(small, np.float32))

        offsets, logits = self._network(pixels)
        scores = _sigmoid(logits)
        keep = scores > self._min_score
        # Each anchor has 8 pairs in pixels of the input: centre, (width, height), right eye, left eye and four more
        # points; all except the second are relative to the anchor.
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


class FaceMesh:
    """468 landmarks of the one face in an upright square."""

    def __init__(self, file: str) -> None:
        self._network = _Network(file)

    def __call__(self, picture: Image.Image, proposal: np.ndarray) -> tuple[np.ndarray, float]:
        """Landmarks, (468, 3) float32 in pixels of the image, and the probability that this is a face."""
        corners, eyes = proposal[:4].reshape(2, 2), proposal[4:8].reshape(2, 2)
        centre, size, roll = corners.mean(axis=0), np.ptp(corners, axis=0).max(), _roll(*eyes)
        landmarks, presence = self._read(picture, centre, _MESH_MARGIN * size, roll)
        for _ in range(_MESH_PASSES - 1):
            landmarks, presence = self.again(picture, landmarks)
        return landmarks, presence

    def again(self, picture: Image.Image, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
        """The same around earlier landmarks."""
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
        """One pass over the square of `side` pixels that is rotated by `roll` around `centre`."""
        # Bilinear sampling skips pixels when it shrinks more than twofold, so blocks of pixels are averaged first.
        block = max(1, int(side / _MESH_SIZE))
        reach = 0.75 * side  # slightly more than half of the diagonal
        left, top = (centre - reach).clip(0).astype(int)
        right, bottom = np.minimum(centre + reach + 1, picture.size).astype(int)
        if left >= right or top >= bottom:
            return np.zeros((468, 3), np.float32), 0.0
        patch = picture.reduce(block, box=(left, top, right, bottom))

        # landmark in the image = to_picture @ landmark in the square + origin
        to_picture = _rotation(roll) * (side / _MESH_SIZE)
        origin = centre - to_picture @ np.full(2, _MESH_SIZE / 2)
        (a, b), (c, d) = to_picture / block
        x, y = (origin - (left, top)) / block
        square = patch.transform(
            (_MESH_SIZE, _MESH_SIZE),
            Image.Transform.AFFINE,
            (a, b, x, c, d, y),
            Image.Resampling.BILINEAR,  # areas outside the image are black
        )
        points, logit = self._network(np.asarray(square, np.float32) / 255.0)
        xyz = points.reshape(468, 3)
        landmarks = np.column_stack([xyz[:, :2] @ to_picture.T + origin, xyz[:, 2] * (side / _MESH_SIZE)])
        return landmarks.astype(np.float32), float(_sigmoid(logit)[0])


def _roll(right_eye: np.ndarray, left_eye: np.ndarray) -> float:
    """Angle in radians by which the line between the eyes is rotated, clockwise as seen."""
    x, y = left_eye - right_eye
    return float(np.arctan2(y, x))


def _rotation(angle: float) -> np.ndarray:
    """(2, 2): turns column vectors by `angle` radians, clockwise as seen since y points down."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
