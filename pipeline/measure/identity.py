"""Identity drift: whether the face stays that of the portrait, if the user gives an embedding model (`embedder`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from pipeline.face.detector import FaceDetector
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.metric import Measured, Metric, below
from pipeline.measure.video_pass import Delivery, Frame

EVERY_SECONDS = 1.0


class AgainstPortrait(ABC):
    """Compares the face with that of the portrait once per second, by an embedding."""

    def __init__(
        self,
        delivery: Delivery,
        detector: FaceDetector,
        embed: Callable[[np.ndarray, np.ndarray], np.ndarray],
        track: FaceTrack,
    ) -> None:
        """`embed`: (image, landmarks) -> embedding (D,)."""
        self._embed, self._track = embed, track
        self._every = max(1, round(EVERY_SECONDS * float(delivery.fps)))
        faces = [] if delivery.portrait is None else detector.detect(delivery.portrait)
        self._portrait = (
            embed(delivery.portrait, faces[0].landmarks) if faces and delivery.portrait is not None else None
        )
        self.compared: list[float] = []

    @abstractmethod
    def compare(self, found: np.ndarray, portrait: np.ndarray) -> float:
        """Embeddings (D,) of a frame's face and of the portrait's -> how far, or how near, they are."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame, after `track` has taken it."""
        if frame.number % self._every == 0 and self._track.face is not None and self._portrait is not None:
            self.compared.append(self.compare(self._embed(frame.rgb, self._track.face.landmarks), self._portrait))


class Identity(AgainstPortrait):
    """Compares by the user's own embedding model."""

    METRICS: ClassVar = (
        Metric(
            "qc_identity",
            "cosine",
            "Smallest similarity between the face and the portrait, by the embedding model of qc.identity_model.",
            below(review=0.5, fail=0.3),
            "usual limits for ArcFace embeddings; another model may need others",
            "check the worst frame; try another seed",
            by_model=True,
        ),
    )

    def compare(self, found: np.ndarray, portrait: np.ndarray) -> float:
        """The cosine, as embeddings have length 1."""
        return float(found @ portrait)

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""
        return {"qc_identity": round(min(self.compared), 3) if self.compared else None}
