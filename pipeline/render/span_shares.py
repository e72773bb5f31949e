"""How much of each frame belongs to a span of the clip, with a cross-fade at its ends.

At each border one side passes into the other within `fade` seconds, in a straight line around the border: a frame has
the mean of what holds from fade/2 before its middle to fade/2 after it. The clip's own start and end are no borders, so
a span over the whole clip is the same as no spans.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from models import MOTION_FPS
from pipeline.manifest.spans import Span

SHORTEST_FADE = 1e-3
"""Below this a fade is a hard border: no frame is that short, s."""

S = TypeVar("S", bound=Span)


def span_shares(spans: Sequence[S], fade: float, frames: int) -> Iterator[tuple[S, slice, np.ndarray]]:
    """Each span with the frames (of so many at 25 per second) that it touches, and its share of each of them, 0 to 1.

    Spans follow one another in time.
    """
    middles = (np.arange(frames) + 0.5) / MOTION_FPS
    reach = fade / 2 if fade >= SHORTEST_FADE else 0.0
    low, high = middles - reach, middles + reach
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
        yield span, near, share
