"""Lips and speech: how well the mouth opening follows the audio, with which lag, and whether it rests in pauses.

This metric is our own. It is not LSE (`syncnet`), and not comparable with it: it measures how far the mouth opens, and
not which sound it forms.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipeline.measure.metric import Measured, Metric, above, below
from pipeline.measure.video_pass import Delivery

LAG_SECONDS = 0.2
"""The correlation is the highest one within this lag in either direction."""
SEARCH_SECONDS = 0.5
"""The lag itself is searched for over a wider range: a shift of 8 frames at 25 fps is 0.32 s."""
LEAD = 2.0
"""A lag of more than a frame counts if its correlation exceeds that without a lag by so many standard errors of a
correlation, 1 / sqrt(frames). In short clips, chance makes some lag fit best: of 2 s of speech with a true correlation
of 0.4 (0.6) at no lag, 37 % (10 %) had one of more than 100 ms, and 14 % (1 %) with this rule.
"""
PAUSE_SECONDS = 0.5
"""Shortest pause that is judged: 7 frames at 25 fps without its margins, where 0.3 s left 2."""
SPEECH_SECONDS = 0.5
"""With less speech than this outside of the pauses there is nothing that a mouth in a pause could be compared with."""
MARGIN_SECONDS = 0.12
"""Margin at both ends of a pause, because the mouth closes after the audio and opens before it."""
STILL = 0.01
"""A mouth whose opening varies less than this, relative to the distance between the eyes, does not move: this is
landmark noise.
"""
LEAST_SECONDS = 1.5
"""Minimum duration of speech with a face; a shorter clip is not conclusive."""


class Speech:
    """Metrics of the mouth opening and the audio level."""

    METRICS: ClassVar = (
        Metric(
            "qc_lip_correlation",
            "",
            f"Highest correlation between the mouth opening and the audio level within {LAG_SECONDS:g} s.",
            below(review=0.15),
            "measured: 0.9 for a mouth that is driven by the audio; below 0.25 in absolute value with the audio of "
            "another clip",
            "watch the clip; raise a_cfg_scale, or try another seed",
            by_model=True,
        ),
        Metric(
            "qc_lip_lag_ms",
            "ms",
            f"Lag of the mouth behind the audio at the highest correlation within {SEARCH_SECONDS:g} s; negative if "
            "the mouth is early. Only measured if that correlation is 0.3 or more; more than a frame only if it is "
            f"higher than without a lag by {LEAD:g} / sqrt(frames).",
            (*below(review=-100), *above(review=100)),
            "ITU-R BT.1359: 90 ms early to 185 ms late is acceptable; the estimate itself is accurate to one frame",
            "watch the clip; the source audio may have been edited",
            by_model=True,
        ),
        Metric(
            "qc_pause_motion",
            "share",
            f"Variation of the mouth opening in pauses of {PAUSE_SECONDS:g} s and more (the largest), relative to its "
            "variation in the whole clip; standard deviations. A voice activity detector finds the pauses.",
            above(review=0.4),
            "measured: 0.25 for a mouth at rest, 0.53 for one that keeps speaking",
            "watch the pauses; silence=closed rests the mouth there",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._fps = float(delivery.fps)

    def metrics(self, mouth: np.ndarray, level: np.ndarray, pauses: Sequence[tuple[float, float]] = ()) -> Measured:
        """`mouth` (frames,) is from `FaceTrack`, `level` (frames,) in dBFS from `Sound`; `pauses` in seconds."""
        frames = min(len(mouth), len(level))
        mouth, level = mouth[:frames], level[:frames]
        measured: Measured = {"qc_lip_correlation": None, "qc_lip_lag_ms": None}
        if np.isfinite(mouth).sum() >= LEAST_SECONDS * self._fps and np.ptp(level) > 0:  # silence goes with nothing
            reach = round(SEARCH_SECONDS * self._fps)
            lags = np.arange(-reach, reach + 1)
            found = np.array([correlation(mouth, level, lag) for lag in lags.tolist()])
            near = np.abs(lags) <= LAG_SECONDS * self._fps
            best = int(found.argmax())
            measured["qc_lip_correlation"] = round(float(found[near].max()), 3)
            if found[best] >= 0.3:
                if found[best] < found[reach] + LEAD / math.sqrt(frames):
                    best = reach - 1 + int(found[reach - 1 : reach + 2].argmax())
                measured["qc_lip_lag_ms"] = round(float(1000 * (lags[best] + vertex(found, best)) / self._fps), 1)
        return measured | {"qc_pause_motion": self._pause_motion(mouth, pauses)}

    def _pause_motion(self, mouth: np.ndarray, pauses: Sequence[tuple[float, float]]) -> float | None:
        if sum(end - start for start, end in pauses) > len(mouth) / self._fps - SPEECH_SECONDS:
            return None
        inner = [
            mouth[
                math.ceil((start + MARGIN_SECONDS) * self._fps - 1e-6) : int((end - MARGIN_SECONDS) * self._fps + 1e-6)
            ]
            for start, end in pauses
            if end - start >= PAUSE_SECONDS
        ]
        found = [float(pause.std()) for pause in inner if len(pause) > 1 and np.isfinite(pause).all()]
        return round(max(found) / max(STILL, float(np.nanstd(mouth))), 3) if found else None


def correlation(mouth: np.ndarray, level: np.ndarray, lag: int) -> float:
    """Pearson correlation of the mouth with the audio `lag` frames earlier; 0 if one of them does not vary."""
    one = mouth[max(0, lag) : len(mouth) + min(0, lag)]
    other = level[max(0, -lag) : len(level) - max(0, lag)]
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 3:
        return 0.0
    one, other = one[known] - one[known].mean(), other[known] - other[known].mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale if scale > 1e-9 else 0.0


def vertex(values: np.ndarray, top: int) -> float:
    """Position of the maximum between the samples, by a parabola through the sample `top` and its neighbours."""
    if not 0 < top < len(values) - 1:
        return 0.0
    before, here, after = values[top - 1 : top + 2]
    bend = before - 2 * here + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0
