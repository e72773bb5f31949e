"""Two videos in step: which frame of the reference is shown when a frame of the generated one is."""

import numpy as np


def in_step(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Times of both videos' frames in seconds, rising -> for each generated frame the number of the reference's.

    Both begin at their first frame; the nearest in time is taken. Cut where the shorter video ends: a frame of the
    generated one that is more than half a frame behind the reference's last has no partner any more.
    """
    if not len(generated) or not len(reference):
        return np.zeros(0, np.int64)
    ours, theirs = generated - generated[0], reference - reference[0]
    interval = (theirs[-1] / (len(theirs) - 1)) if len(theirs) > 1 else 0.0
    kept = ours[ours <= theirs[-1] + interval / 2 + 1e-6]
    if len(theirs) == 1:
        return np.zeros(len(kept), np.int64)
    after = np.searchsorted(theirs, kept).clip(1, len(theirs) - 1)
    nearer = kept - theirs[after - 1] <= theirs[after] - kept
    return np.where(nearer, after - 1, after)
