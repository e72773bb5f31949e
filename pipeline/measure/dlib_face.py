"""How far faces are apart by dlib's embedding (King 2017), which anybody can install: the extra `identity` brings the
library (`dlib-bin`, Boost Software License) and the weights (`face-recognition-models`, CC0).

The distance is Euclidean, between embeddings (128,) that are not normalised. By their author it is below 0.6 for two
photographs of a person (accuracy 99.38 % on Labeled Faces in the Wild). It is not CSIM, which is a cosine by ArcFace,
and neither follows from the other.

The package of the weights also has a predictor of 68 landmarks, whose training pictures (iBUG 300-W) exclude commercial
use. Nothing opens it: faces are aligned by our own landmarks. Between this alignment and that of dlib's own 5-point
predictor lies a distance of 0.12 (median of 15 faces, 10 of them photographs; largest 0.29, a face turned aside);
between dlib's own two predictors it is 0.12 (0.40).
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from pipeline.common.extras import check_extra
from pipeline.common.options import SettingError
from pipeline.measure.identity import AgainstPortrait
from pipeline.measure.metric import Measured, Metric, above

WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
"""Of the weights. No other file is read: the limits were measured with these, and dlib's reader of files is not made
for hostile ones.
"""

POINTS = (263, 362, 33, 133, 2)
"""Our landmarks at dlib's five: outer and inner corner of the left eye, of the right eye, and the base of the nose."""
FACE_SIDE = 300
"""Faces are scaled to this size first, px: dlib takes whole pixels for landmarks, too coarse for a face of 40 px."""
PADDING = 0.25
"""What the embedding was trained with: the aligned square is wider than the face by this share on each side."""

SIZE = 128
"""Of an embedding."""


def weights_file() -> Path:
    """The weights in the installed package, found without importing it: it needs `pkg_resources`, which setuptools no
    longer has.

    Raises RefusedError if the extra is not installed, and SettingError if the file is another one.
    """
    check_extra("identity", "distances between faces")
    spec = find_spec("face_recognition_models")
    places = list(spec.submodule_search_locations or ()) if spec else []
    file = next((f for place in places if (f := Path(place) / "models" / WEIGHTS).is_file()), None)
    if file is None or hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise SettingError(
            "dlib_distance",
            f"the installed face_recognition_models has not the {WEIGHTS} that limits were measured with: run "
            "python -m pip install --force-reinstall face-recognition-models==0.3.0, or set it to never",
        )
    return file


class DlibFace:
    """dlib's network; one per worker. About 0.08 s of one CPU core per face."""

    def __init__(self) -> None:
        """Raises RefusedError and SettingError as `weights_file` does."""
        file = weights_file()
        import dlib

        self._dlib = dlib
        self._network = dlib.face_recognition_model_v1(str(file))

    def __call__(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(H,W,3) uint8 RGB and landmarks (468,3) in its pixels -> an embedding (SIZE,) float32."""
        points = landmarks[:, :2].astype(np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        size, centre = float((high - low).max()), (low + high) / 2
        start = np.maximum(centre - size, 0)  # twice the face is more than the aligned square needs, however rotated
        end = np.minimum(centre + size, image.shape[1::-1])
        width, height = np.maximum(np.round((end - start) * FACE_SIDE / size), 1).astype(int).tolist()
        part = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BICUBIC, (*start.tolist(), *end.tolist())
        )
        # (0, 0) is a pixel's corner here, and its centre there.
        placed = np.round((points[list(POINTS)] - start) * ((width, height) / (end - start)) - 0.5).astype(int).tolist()
        parts = self._dlib.points([self._dlib.point(x, y) for x, y in placed])
        face = self._dlib.full_object_detection(self._dlib.rectangle(0, 0, width, height), parts)
        return np.array(self._network.compute_face_descriptor(np.asarray(part), face, 0, PADDING), np.float32)


class FaceDistance(AgainstPortrait):
    """Compares by dlib's embedding.

    At these limits 0 of 17 films of the right generated person were flagged (95 % interval: 0 to 18 %), and 5 % of
    single pictures of other generated people were not (1 to 25 %): pipeline/qc/README.md.
    """

    METRICS: ClassVar = (
        Metric(
            "qc_dlib_distance",
            "",
            "Largest distance between the face and the portrait by dlib's embedding, once per second; not CSIM.",
            above(review=0.4, fail=0.6),
            "measured: up to 0.35 in films of generated people, 0.32 and more between generated people (0.65 between "
            "people in photographs); 0.6 is the author's limit",
            "check the worst frame; try another seed",
            by_model=True,
        ),
    )

    def compare(self, found: np.ndarray, portrait: np.ndarray) -> float:
        """The Euclidean distance."""
        return float(np.linalg.norm(found - portrait))

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""
        return {"qc_dlib_distance": round(max(self.compared), 3) if self.compared else None}
