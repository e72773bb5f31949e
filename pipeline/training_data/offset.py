"""How far lips and sound are apart: by SyncNet where its weights are given, else by how the mouth follows the level.

The second is coarse. It needs a mouth that opens with the loudness, which holds for driven mouths (0.9) and less for
real speech, where it often stays below the bound from which it is believed; then nothing is known of the offset.

Chance correlates too, the more the shorter a sample is. Measured with the mouth of one voice and the sound of another,
six voices: the best of 31 lags is 0.55 or more in 6 % of 538 pairs of 3 s, in none of 126 of 5 s. So `believable` asks
for more below 5 s, as chance falls with the root of the length: for 0.71 at 3 s, which 1 % of those pairs reach.
"""

import numpy as np

from models import MOTION_FPS
from pipeline.measure.lip_correlation import STILL, correlation, vertex
from pipeline.measure.syncnet import REACH, SyncNet, sync_error

ENOUGH_SECONDS = 5.0
QUIET_DB = 40.0
"""Levels are not told apart farther below the loudest."""


def lip_offset(mouth: np.ndarray, level: np.ndarray) -> tuple[float | None, float]:
    """(offset in ms, correlation) of a mouth's opening with the sound's level in dBFS, both (T,) at 25 a second.

    Positive where the picture is late. None where the mouth stands still, or where they correlate best at the end of
    what is searched, 0.6 s either way.
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
    """The correlation from which the offset of so many frames is believed, where `least` is that of a long sample."""
    return least * max(1.0, float(np.sqrt(ENOUGH_SECONDS * MOTION_FPS / frames)))


def syncnet_offset(network: SyncNet, pictures: list[np.ndarray], wave: np.ndarray) -> tuple[float | None, float]:
    """(offset in ms, LSE-C) of faces cut out by `syncnet.cut_face` and their sound (T*640,) int16; the same sign."""
    found = sync_error(network, pictures, wave)
    if found is None:
        return None, 0.0
    _, confidence, offset = found
    return 1000.0 * offset / MOTION_FPS, confidence
