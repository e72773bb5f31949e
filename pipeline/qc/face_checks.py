"""All checks of one face of a delivered file, in one pass over its frames."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.face.detector import FaceDetector
from pipeline.measure.dlib_face import DlibFace, FaceDistance
from pipeline.measure.emotion_span import EmotionSpans
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.head_motion import Motion
from pipeline.measure.identity import Identity
from pipeline.measure.image_quality import ImageQuality
from pipeline.measure.lip_correlation import Speech
from pipeline.measure.lip_sync import LipSync
from pipeline.measure.loudness import levels, measure
from pipeline.measure.metric import Measured
from pipeline.measure.rim import Rim
from pipeline.measure.rim_motion import RimMotion
from pipeline.measure.seams import Seams
from pipeline.measure.video_pass import Delivery, Frame, FrameCheck
from pipeline.media.voice_activity import pauses

if TYPE_CHECKING:
    from pipeline.measure.embedder import Embedder
    from pipeline.measure.syncnet import SyncNet


@dataclass(frozen=True, eq=False)
class Spoken:
    """What one face says."""

    level: np.ndarray
    """(frames,) dBFS, as `Sound.envelope`."""
    wave: np.ndarray
    """(samples at 16 kHz,) int16."""


def spoken(face: Delivery) -> Spoken | None:
    """What one of several faces says, from its own sound; None if it is idle, or if its sound cannot be read again."""
    if face.source is None:
        return None
    try:
        wave = measure(face.source, face.language, wanted=face.audio_stream).wave
    except ClipError:  # of a file that has changed; the mix is not compared either, and says why
        return None
    return Spoken(levels(wave, float(face.fps), face.frames), wave)


class FaceChecks:
    """Measures one face: the only one, or one of several in a full frame."""

    def __init__(
        self,
        delivery: Delivery,
        detector: FaceDetector,
        embed: "Embedder | None" = None,
        dlib: DlibFace | None = None,
        syncnet: "SyncNet | None" = None,
    ) -> None:
        """`delivery` has the portrait and the square of this face."""
        self._delivery, self._detector = delivery, detector
        self.track, self.seams = FaceTrack(delivery, detector), Seams(delivery)
        self.felt = EmotionSpans(delivery, self.track)
        own = ImageQuality(delivery), self.track, self.felt, self.seams
        self.rim = Rim(delivery)
        self._checks: list[FrameCheck] = [*own, self.rim, RimMotion(delivery)]
        if embed is not None:
            self._checks.append(Identity(delivery, detector, embed, self.track))
        if dlib is not None:
            self._checks.append(FaceDistance(delivery, detector, dlib, self.track))
        self._lips = None if syncnet is None else LipSync(delivery, syncnet, self.track)

    def frame(self, frame: Frame) -> None:
        """Take the next frame of the file; of a full frame the animated square is looked at."""
        if self._delivery.full is not None:
            frame = frame.cut(self._delivery.full.square)
        for check in self._checks:
            check.frame(frame)
        if self._lips is not None:
            self._lips.frame(frame)

    def metrics(self, said: "Spoken | None") -> Measured:
        """The metrics, given what it says; with None it says nothing, and its lips are not compared with sound."""
        metrics: Measured = {}
        for check in self._checks:
            metrics |= check.metrics()
        speech = Speech(self._delivery)
        if said is None:
            metrics |= {metric.column: None for metric in speech.METRICS}
        else:
            metrics |= speech.metrics(self.track.mouth, said.level, pauses(said.wave))
        metrics |= Motion(self._delivery, self._detector).metrics(self.track.poses)
        if self._lips is not None:
            silent: Measured = {metric.column: None for metric in self._lips.METRICS}
            metrics |= silent if said is None else self._lips.metrics(said.wave)
        return metrics
