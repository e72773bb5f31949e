"""Head poses of a clip whose row turns the head further in some spans (`pipeline.manifest.pose_spans`)."""

from collections.abc import Sequence

import numpy as np

from pipeline.manifest.pose_spans import PoseSpan
from pipeline.render.span_shares import span_shares


def turned_further(pose: np.ndarray, spans: Sequence[PoseSpan], fade: float) -> np.ndarray:
    """Poses (T,6) float32 of the file -> the same with the angles of the spans added.

    Within `fade` seconds around each border the head goes from one angle to the other, and starts and stops smoothly;
    frames further away are the file's.
    """
    turned = pose.copy()
    for span, frames, share in span_shares(spans, fade, len(pose)):
        # The smooth shares of two neighbours add up to 1 as the straight ones do: s(x) + s(1 - x) = 1.
        smooth = share * share * (3 - 2 * share)
        turned[frames, :3] += smooth[:, None] * np.radians([span.yaw, span.pitch, span.roll])
    return turned
