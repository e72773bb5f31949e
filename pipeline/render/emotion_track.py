"""The emotion of every frame of a clip whose row gives emotions by span (`pipeline.manifest.emotion_spans`).

At each border the emotion and the strength of the guidance pass from one side to the other within `fade` seconds, in a
straight line around the border: a frame has the mean of what holds from fade/2 before its middle to fade/2 after it.
The clip's own start and end are no borders, so a span over the whole clip is the same as one emotion for the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import MOTION_FPS
from pipeline.manifest.emotion_spans import EmotionSpan, vector_of

SHORTEST_FADE = 1e-3
"""Below this a fade is a hard border: no frame is that short, s."""


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
    middles = (np.arange(frames) + 0.5) / MOTION_FPS
    reach = fade / 2 if fade >= SHORTEST_FADE else 0.0
    low, high = middles - reach, middles + reach
    rest = np.ones(frames)
    emotion, strength = np.zeros((frames, len(otherwise))), np.zeros(frames)
    for span in spans:
        # What holds at the ends of the clip holds beyond them too: there is no fade. Audio may end within a frame.
        start = -np.inf if span.start < middles[0] else span.start
        end = np.inf if span is spans[-1] and span.end > (frames - 1) / MOTION_FPS else span.end
        first, last = np.searchsorted(high, start), np.searchsorted(low, end)
        near = slice(int(first), int(last))
        if reach:
            # The same difference in both, so that a frame inside of the span has exactly 1.
            share = np.minimum(high[near], end) - np.maximum(low[near], start)
            share = (share / (high[near] - low[near])).clip(0, 1)
        else:
            share = np.ones(last - first)
        emotion[near] += share[:, None] * vector_of(span.emotion)
        strength[near] += share * span.strength
        rest[near] -= share
    rest = rest.clip(0)  # two neighbours may add up to a little more than 1
    emotion += rest[:, None] * otherwise
    strength += rest
    return EmotionTrack(emotion.astype(np.float32), strength.astype(np.float32))
