"""The metrics of SyncNet for one clip, if the user gives the authors' weights (`syncnet`)."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.measure.face_track import FaceTrack
from pipeline.measure.metric import Measured, Metric
from pipeline.measure.video_pass import Delivery, Frame

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds, and most processes read the columns alone
    from pipeline.measure.syncnet import SyncNet

FPS = 25
MAX_PICTURES = 60 * FPS
"""Only the first minute is measured: one minute of frames at SyncNet's size takes 226 MB."""


class LipSync:
    """LSE-C, LSE-D and offset of one clip."""

    METRICS: ClassVar = (
        Metric("qc_lse_c", "", "SyncNet's confidence (LSE-C); higher is better.", by_model=True),
        Metric("qc_lse_d", "", "SyncNet's distance (LSE-D); lower is better.", by_model=True),
        Metric("qc_lse_offset", "frames", "SyncNet's offset at 25 fps; positive if the audio is early.", by_model=True),
    )

    def __init__(self, delivery: Delivery, network: "SyncNet", track: FaceTrack) -> None:
        self._network, self._track = network, track
        self._fps = float(delivery.fps)
        self._pictures: list[np.ndarray] = []

    def frame(self, frame: Frame) -> None:
        """Take the next frame, after `track` has; keeps the frames nearest to 25 per second while there is a face."""
        face = self._track.face
        if face is None or len(self._pictures) >= MAX_PICTURES:
            return
        from pipeline.measure.syncnet import cut_face

        while round(len(self._pictures) * self._fps / FPS) <= frame.number and len(self._pictures) < MAX_PICTURES:
            self._pictures.append(cut_face(frame.rgb, face.centre, face.size / 2))

    def metrics(self, wave: np.ndarray) -> Measured:
        """`wave` (samples at 16 kHz,) int16 is from `Sound`. The metrics are None without one second with a face."""
        from pipeline.measure.syncnet import sync_error

        found = sync_error(self._network, self._pictures, wave)
        if found is None:
            return dict.fromkeys(("qc_lse_c", "qc_lse_d", "qc_lse_offset"))
        distance, confidence, offset = found
        return {"qc_lse_c": round(confidence, 3), "qc_lse_d": round(distance, 3), "qc_lse_offset": float(offset)}
