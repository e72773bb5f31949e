"""The emotion of every frame of a clip whose row gives emotions by span (`pipeline.manifest.emotion_spans`).

Emotion and strength of the guidance pass from one span to the next as in `span_shares`, so a span over the whole clip
is the same as one emotion for the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.manifest.emotion_spans import EmotionSpan, vector_of
from pipeline.render.span_shares import span_shares


@dataclass(frozen=True, eq=False)
class EmotionTrack:
    """The emotion condition of T frames at 25 per second."""

    emotion: np.ndarray
    """w_e (T,7) float32."""
    strength: np.ndarray
    """Factor of the clip's guidance by emotion (T,) float32."""

    def __len__(self) -> int:
        return len(self.strength)

    def window(self, start: int, count: int) -> "EmotionTrack":
        """`count` frames from `start` on, which may lie before the clip or end after it: its first and last frame stand
        for those.
        """
        frames = np.arange(start, start + count).clip(0, len(self) - 1)
        return EmotionTrack(self.emotion[frames], self.strength[frames])


def emotion_track(spans: Sequence[EmotionSpan], fade: float, otherwise: np.ndarray, frames: int) -> EmotionTrack | None:
    """The track of a clip with so many frames, or None without spans.

    Args:
        spans: one after another in time.
        fade: length of a cross-fade, s.
        otherwise: w_e (7,) float32 outside of the spans, where the strength is 1.
    """
    if not spans:
        return None
    rest = np.ones(frames)
    emotion, strength = np.zeros((frames, len(otherwise))), np.zeros(frames)
    for span, near, share in span_shares(spans, fade, frames):
        emotion[near] += share[:, None] * vector_of(span.emotion)
        strength[near] += share * span.strength
        rest[near] -= share
    rest = rest.clip(0)  # two neighbours may add up to a little more than 1
    emotion += rest[:, None] * otherwise
    strength += rest
    return EmotionTrack(emotion.astype(np.float32), strength.astype(np.float32))
