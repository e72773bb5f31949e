"""The contact sheet of a full frame: whole pictures, and where to look for the edge of the mask."""

import av
import numpy as np
import pytest

from pipeline.face.full_frame import INNER, OUTER, distance
from pipeline.measure.video_pass import Frame
from pipeline.qc.contact_sheet import MARGIN, edge_of

SIDE = 200


@pytest.mark.parametrize("square", [(100.0, 40.0, 120.0), (-30.0, 90.0, 120.0)], ids=["inside", "beyond the border"])
def test_dashes_follow_the_masks_edge_and_leave_half_of_it_and_all_else_as_it_is(square):
    grey = np.full((240, 320, 3), 120, np.uint8)
    frame = Frame(0, av.VideoFrame.from_ndarray(grey, format="rgb24")).cut(square)
    seen = edge_of(frame, square, SIDE).astype(int)
    assert seen.shape == (SIDE, SIDE, 3)
    drawn = np.abs(seen - 120).max(axis=2) > 20
    inset = SIDE * MARGIN / (1 + 2 * MARGIN)
    at = np.arange(SIDE) + 0.5
    far = distance(at, at[:, None], (inset, inset, SIDE - 2 * inset))
    for level in (INNER, OUTER):
        assert 0.3 < drawn[np.abs(far - level) < 0.01].mean() < 0.7
    assert not drawn[(np.abs(far - INNER) > 0.03) & (np.abs(far - OUTER) > 0.03)].any()
