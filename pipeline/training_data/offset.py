"""The offset between lips and audio, by SyncNet or by how the mouth follows the level.

SyncNet is used if its weights are given. The other method is coarse. It needs a mouth that opens with loudness, which
is true of driven mouths (0.9) and less so of real speech. There the correlation often stays below the bound from which
it is trusted, and nothing is known about the offset.

Chance also correlates, and the more so the shorter a sample is. Measured for the mouth of one voice with the audio of
another, with six voices: the best of 31 lags is 0.55 or more in 6 % of 538 pairs of 3 s, and in none of 126 pairs of 5
s. `believable` therefore requires more below 5 s, because chance falls with the square root of the length: 0.71 at 3 s,
which 1 % of those pairs reach.
"""

import numpy as np

from models import MOTION_FPS
from pipeline.measure.lip_correlation import STILL, correlation, vertex
from pipeline.measure.syncnet import REACH, SyncNet, sync_error

ENOUGH_SECONDS = 5.0
QUIET_DB = 40.0
"""Levels that are this much below the loudest are not distinguished."""


def lip_offset(mouth: np.ndarray, level: np.ndarray) -> tuple[float | None, float]:
    """(offset in ms, correlation) of a mouth opening and an audio level in dBFS, both (T,) at 25 per second.

    Positive if the video is late. None if the mouth does not move, or if the correlation is highest at the end of the
    search range, which is 0.6 s in either direction.
    """
    level = np.maximum(level, level.max() - QUIET_DB)
    lags = np.arange(-REACH, REACH + 1)
    found = np.array([correlation(mouth, level, lag) for lag in lags.tolist()])
    best = int(found.argmax())
    confidence = float(found[best])
    if float(np.std(mouth)) < STILL or best in (0, len(lags) - 1):
        return None, confidence
    return 1000 * (float(lags[best]) + vertex(found, best)) / MOTION_FPS, confidence


def believable(least: float, frames: int) -> float:
    """The correlation from which an offset over this many frames is trusted; `least` is that for long samples."""
    return least * max(1.0, float(np.sqrt(ENOUGH_SECONDS * MOTION_FPS / frames)))


def syncnet_offset(network: SyncNet, pictures: list[np.ndarray], wave: np.ndarray) -> tuple[float | None, float]:
    """(offset in ms, LSE-C) of faces from `syncnet.cut_face` and their audio (T*640,) int16; the sign is the same."""
    found = sync_error(network, pictures, wave)
    if found is None:
        return None, 0.0
    _, confidence, offset = found
    return 1000.0 * offset / MOTION_FPS, confidence
