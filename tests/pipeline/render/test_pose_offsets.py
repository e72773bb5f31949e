"""Head poses that spans turn further: exact inside, the file's elsewhere, smooth between them."""

import numpy as np
import pytest

from pipeline.manifest.pose_spans import PoseSpan
from pipeline.render.pose_offsets import turned_further

POSE = np.linspace(0, 1, 100 * 6, dtype=np.float32).reshape(100, 6)


def degrees(spans, fade, pose=POSE):
    turned = turned_further(pose, spans, fade)
    assert turned.dtype == np.float32
    assert np.array_equal(turned[:, 3:], pose[:, 3:])
    return np.degrees(turned[:, :3] - pose[:, :3])


def test_without_a_fade_the_frames_of_a_span_have_its_angles_and_no_others():
    offset = degrees([PoseSpan(1.0, 2.0, yaw=20.0, roll=-5.0), PoseSpan(2.0, 3.0, pitch=10.0)], 0.0)
    wanted = np.zeros((100, 3))
    wanted[25:50] = (20, 0, -5)
    wanted[50:75] = (0, 10, 0)
    np.testing.assert_allclose(offset, wanted, atol=1e-4)
    assert np.array_equal(turned_further(POSE, (), 0.5), POSE)


def test_a_head_starts_and_stops_smoothly_within_the_fade():
    yaw = degrees([PoseSpan(1.0, 3.0, yaw=30.0)], 0.8)[:, 0]
    assert np.abs(yaw[:15]).max() == 0
    assert np.abs(yaw[85:]).max() == 0
    np.testing.assert_allclose(yaw[35:65], 30, atol=1e-4)
    steps = np.diff(yaw[14:36])
    assert (steps > -1e-4).all()
    assert steps[:2].max() < steps.max() / 3
    assert steps[-2:].max() < steps.max() / 3


@pytest.mark.parametrize("fade", [0.0, 0.5])
def test_neighbours_with_the_same_angle_and_the_ends_of_the_clip_have_no_dip(fade):
    yaw = degrees([PoseSpan(0.0, 1.7, yaw=10.0), PoseSpan(1.7, 4.0, yaw=10.0)], fade)[:, 0]
    np.testing.assert_allclose(yaw, 10, atol=1e-4)
