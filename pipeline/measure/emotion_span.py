"""Whether an emotion that a row gives to a part of the clip is seen there.

The face of each span is compared with the face in the frames around it. Clips whose row has no spans have no such
value.
"""

from typing import ClassVar

import numpy as np

from pipeline.manifest.emotion_spans import in_words
from pipeline.measure.expression import FEATURES, expression, known_expressions
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.metric import Measured, Metric, below
from pipeline.measure.video_pass import Delivery, Feelings, Frame

NEAR_SECONDS = 2.0
"""The neighbouring frames of a span end this far from it."""
SETTLING_SECONDS = 0.1
"""A face needs this long to follow: so many seconds beside a cross-fade belong to neither side."""
LEAST_SECONDS = 0.4
"""Least time with a face within a span, and beside it."""
CLEAR = 1.5
"""Standard deviations of a frame between two emotions from which on they are compared. Fear and no emotion have 1.0,
sadness and no emotion 1.9, fear and surprise 2.0, disgust and anger 2.1, all others 2.2 and more.
"""

SpanShare = tuple[float, float, str, float | None]
"""Start and end of a span, its emotion in words, and its value; None if it could not be measured."""


class EmotionSpans:
    """Compares the landmarks of spans with those of the frames around them."""

    METRICS: ClassVar = (
        Metric(
            "qc_emotion_span",
            "share",
            "Rows with spans of emotions: how far the face in a span differs from its neighbouring frames (2 s on each "
            "side) in the direction of its emotion, by mouth corners, brows and lids; 1 is the difference of the "
            "generated corpus, 0 none (the smallest of the spans).",
            below(review=0.3),
            "measured on 36 generated people (2880 pairs of emotions at 256 and 64 px), each judged by the others: of "
            "faces that show their emotion 1.1 % are below 0.3, of those that do not 4.7 % are above",
            "watch the span; raise its strength or e_cfg_scale, or make it longer",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery, track: FaceTrack) -> None:
        self._feelings, self._fps, self._track = delivery.feelings, float(delivery.fps), track
        self._features: list[np.ndarray] = []

    def frame(self, frame: Frame) -> None:
        """Take the next frame, after `track` has."""
        if self._feelings is not None:
            face = self._track.face
            self._features.append(np.full(len(FEATURES), np.nan) if face is None else expression(face.landmarks))

    def shares(self) -> list[SpanShare]:
        """The value of each span, after the last frame."""
        if self._feelings is None or not self._features:
            return []
        return span_shares(np.stack(self._features), self._feelings, self._fps)

    def metrics(self) -> Measured:
        """Compute the metric after the last frame; None without spans that can be compared."""
        known = [share for *_, share in self.shares() if share is not None]
        return {"qc_emotion_span": min(known) if known else None}


def places_of(feelings: Feelings, frames: int, fps: float) -> np.ndarray:
    """(frames,) number of the span that each frame shows, from 0; -1: what holds elsewhere; -2: neither clearly."""
    times = (np.arange(frames) + 0.5) / fps
    reach = feelings.fade / 2 + SETTLING_SECONDS
    places = np.full(frames, -1)
    for number, span in enumerate(feelings.spans):
        # With no strength nothing asks for the emotion, and nobody knows which one is shown.
        places[(times >= span.start) & (times < span.end)] = number if span.strength else -2
    for span in feelings.spans:
        for border in (span.start, span.end):
            if 0 < border < frames / fps:  # the clip's own ends are none
                places[np.abs(times - border) < reach] = -2
    return places


def span_shares(features: np.ndarray, feelings: Feelings, fps: float) -> list[SpanShare]:
    """Features (frames,8) of a clip, NaN without a face -> the value of each of its spans."""
    times = (np.arange(len(features)) + 0.5) / fps
    places = np.where(np.isfinite(features).all(1), places_of(feelings, len(features), fps), -2)
    weights = [*(span.emotion for span in feelings.spans), feelings.elsewhere]  # -1 is the last
    far = NEAR_SECONDS + feelings.fade / 2 + SETTLING_SECONDS
    found: list[SpanShare] = []
    for number, span in enumerate(feelings.spans):
        inside = places == number
        beside = (places != number) & (places > -2) & (times > span.start - far) & (times < span.end + far)
        share = None
        if min(inside.sum(), beside.sum()) >= LEAST_SECONDS * fps:
            other: dict[str, float] = {}
            for place, count in zip(*np.unique(places[beside], return_counts=True), strict=True):
                for name, weight in weights[place].items():
                    other[name] = other.get(name, 0.0) + weight * float(count / beside.sum())
            direction, clear = known_expressions().towards(span.emotion, other)
            if clear >= CLEAR:
                share = round(float(direction @ (features[inside].mean(0) - features[beside].mean(0))), 3)
        found.append((span.start, span.end, in_words(span.emotion), share))
    return found
