"""Known values of a video's frames, from the file that the source's column `curves` names.

There can be any K numbers per frame, at 25 frames per second from the start of the video, such as blendshape weights
from motion capture or a rig, or the head pose. Training can ask the motion code to predict them
(`models.learning.losses.curve_loss`).
"""

import numpy as np

from models import MOTION_FPS
from pipeline.common.limits import Limits
from pipeline.media.npy import floats
from pipeline.storage.untrusted import input_file
from pipeline.training_data.reasons import Dropped

MISSING = MOTION_FPS // 5
"""Number of frames at the end of a video that may lack values; they get those of the last row."""


def read_curves(uri: str, limits: Limits) -> np.ndarray:
    """(T,K) float32. Raises Dropped, and ClipError for a file that may not be read."""
    with input_file(uri, limits) as path:
        data = path.read_bytes()
    try:
        values = floats(data).astype(np.float32)
    except ValueError as error:
        raise Dropped("curves_unreadable", f"{uri}: {error}; write it with numpy.save") from None
    if not values.size or not np.isfinite(values).all():
        raise Dropped("curves_unreadable", f"{uri}: it is empty, or contains NaN or infinite numbers")
    return values


def part_of(curves: np.ndarray, first: int, last: int, uri: str) -> np.ndarray:
    """Rows `first` to `last` (exclusive) of curves (T,K). Raises Dropped if they end before that."""
    missing = max(0, last - len(curves))
    if missing > MISSING:
        raise Dropped(
            "curves_unreadable",
            f"{uri}: it has {len(curves)} rows, but the video has at least {last} frames: give 25 rows per second",
        )
    return np.pad(curves[first:last], ((0, missing), (0, 0)), mode="edge")
