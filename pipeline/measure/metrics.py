"""All metrics of a delivered file; `pipeline.qc` judges them."""

from pipeline.measure.container import Container
from pipeline.measure.dlib_face import FaceDistance
from pipeline.measure.emotion_span import EmotionSpans
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.head_motion import Motion
from pipeline.measure.identity import Identity
from pipeline.measure.image_quality import ImageQuality
from pipeline.measure.lip_correlation import Speech
from pipeline.measure.lip_sync import LipSync
from pipeline.measure.loudness import Sound
from pipeline.measure.metric import Metric
from pipeline.measure.rim import Rim
from pipeline.measure.rim_motion import RimMotion
from pipeline.measure.seams import Seams

METRICS: tuple[Metric, ...] = tuple(
    metric
    for check in (
        *(Container, ImageQuality, Sound, FaceTrack, EmotionSpans, Speech, Seams, Motion, Rim, RimMotion),
        *(Identity, FaceDistance, LipSync),
    )
    for metric in check.METRICS
)
"""All metrics in the order of their columns."""
