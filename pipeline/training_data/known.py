"""What somebody knows of a video's frames: the file that the source's column `curves` names.

Any K numbers a frame, 25 a second from the video's beginning: weights of action units from a motion capture or a rig,
the head's pose. Training may ask the motion code for them (`models.learning.losses.curve_loss`).
"""

import numpy as np

from models import MOTION_FPS
from pipeline.common.limits import Limits
from pipeline.media.npy import floats
from pipeline.storage.untrusted import input_file
from pipeline.training_data.reasons import Dropped

MISSING = MOTION_FPS // 5
"""Frames that may be without curves at the end of a video; they get those of the last row."""


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
    """Rows `first` to `last` (exclusive) of curves (T,K). Raises Dropped where they end before."""
    missing = max(0, last - len(curves))
    if missing > MISSING:
        raise Dropped(
            "curves_unreadable",
            f"{uri}: it has {len(curves)} rows, but the video has at least {last} frames: give 25 rows per second",
        )
    return np.pad(curves[first:last], ((0, missing), (0, 0)), mode="edge")
