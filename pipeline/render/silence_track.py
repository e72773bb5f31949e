"""How far the mouth rests in each frame of a clip (`pipeline.manifest.silence`), from 0 to 1.

It comes to rest in half a cosine from the start of a pause on, and is back in motion at its end; no frame whose middle
lies outside of the pause is touched.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from models import MOTION_FPS, SAMPLE_RATE
from pipeline.manifest.silence import Silence
from pipeline.media.voice_activity import pauses

REST_SECONDS = 0.12
"""In this time the mouth comes to rest, and leaves it; the margin that quality control leaves at a pause is as long."""
MUTE_SECONDS = 0.005
"""Length of the fades of muted sound, s."""

Span = tuple[float, float]
"""Start and end, s."""


def pauses_of(silence: Silence, wave: np.ndarray) -> tuple[list[Span], list[Span]]:
    """The pauses in which the mouth rests, and those of them in which the model hears silence.

    `wave` (samples at 16 kHz,) is searched for pauses if the row gives none.
    """
    if not silence.changes:
        return [], []
    if not silence.spans:
        found = pauses(wave)
        return found, found if silence.kind == "idle" else []
    resting = [span for span in silence.spans if span.silence != "model"]
    quiet = [span for span in resting if span.silence == "idle"]
    return [(s.start, s.end) for s in resting], [(s.start, s.end) for s in quiet]


def rest_track(spans: Iterable[Span], frames: int) -> np.ndarray | None:
    """The share of rest (T,) float32 at 25 frames per second; None where there is none.

    The clip's own start and end are no borders of a pause: the mouth is at rest there.
    """
    middles = (np.arange(frames) + 0.5) / MOTION_FPS
    share = np.zeros(frames)
    for start, end in spans:
        start = -np.inf if start < middles[0] else start
        end = np.inf if end > (frames - 1) / MOTION_FPS else end  # audio may end within a frame
        way = min(REST_SECONDS, (end - start) / 2)
        near = (np.minimum(middles - start, end - middles) / way).clip(0, 1)
        share = np.maximum(share, (1 - np.cos(np.pi * near)) / 2)
    return share.astype(np.float32) if share.any() else None


def muted(wave: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """The samples at 16 kHz with silence in these spans."""
    if not spans:
        return wave
    wave, fade = wave.copy(), round(MUTE_SECONDS * SAMPLE_RATE)
    for start, end in spans:
        part = wave[max(0, round(start * SAMPLE_RATE)) : round(end * SAMPLE_RATE)]
        place = np.arange(len(part))
        left = place if start > 0 else np.full(len(part), fade)
        right = place[::-1] if end < len(wave) / SAMPLE_RATE else np.full(len(part), fade)
        part *= 1 - (np.minimum(left, right) / fade).clip(0, 1)
    return wave
