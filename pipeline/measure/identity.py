"""Identity drift: whether the face stays that of the portrait, if the user gives an embedding model (`embedder`)."""

from typing import TYPE_CHECKING, ClassVar

from pipeline.face.detector import FaceDetector
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.metric import Measured, Metric, below
from pipeline.measure.video_pass import Delivery, Frame

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds, and most processes read the columns alone
    from pipeline.measure.embedder import Embedder

EVERY_SECONDS = 1.0


class Identity:
    """Compares the face with that of the portrait once per second."""

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

    def __init__(self, delivery: Delivery, detector: FaceDetector, embed: "Embedder", track: FaceTrack) -> None:
        self._embed, self._track = embed, track
        self._every = max(1, round(EVERY_SECONDS * float(delivery.fps)))
        faces = [] if delivery.portrait is None else detector.detect(delivery.portrait)
        self._portrait = (
            embed(delivery.portrait, faces[0].landmarks) if faces and delivery.portrait is not None else None
        )
        self._similar: list[float] = []

    def frame(self, frame: Frame) -> None:
        """Take the next frame, after `track` has taken it."""
        if frame.number % self._every == 0 and self._track.face is not None and self._portrait is not None:
            self._similar.append(float(self._embed(frame.rgb, self._track.face.landmarks) @ self._portrait))

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""
        return {"qc_identity": round(min(self._similar), 3) if self._similar else None}
