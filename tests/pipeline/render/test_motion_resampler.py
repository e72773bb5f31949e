"""Motion at another frame rate, window by window."""

from fractions import Fraction

import pytest
import torch

from pipeline.render.motion_resampler import MotionResampler


def resample(motion, frames, fps, sizes=(50,)):
    """All frames of a clip whose motion comes in windows of these sizes, again and again."""
    resampler = MotionResampler(len(motion), frames, Fraction(fps))
    done, start, turn = [], 0, 0
    while start < len(motion):
        size = sizes[turn % len(sizes)]
        done.append(resampler.push(motion[start : start + size]))
        start, turn = start + size, turn + 1
    return torch.cat(done)


def test_motion_is_linear_in_time():
    motion = torch.arange(50.0)[:, None]  # value = frame number at 25 fps
    torch.testing.assert_close(resample(motion, 99, 50)[:, 0], torch.arange(99) / 2)
    assert resample(motion, 48, 24)[24, 0] == 25  # one second in
    assert torch.equal(resample(motion, 50, 25), motion)


def test_the_last_frames_repeat_the_last_motion():
    motion = torch.arange(50.0)[:, None]
    assert resample(motion, 100, 50)[-1, 0] == 49  # its time, 1.98 s, is after the last motion's
    assert len(resample(motion, 49, 25)) == 49


@pytest.mark.parametrize("fps", ["25", "24", "50", "30000/1001", "60", "12", "120", "1"])
@pytest.mark.parametrize("sizes", [(50,), (1,), (3, 7, 50)])
def test_windows_give_what_the_whole_gives(fps, sizes):
    motion = torch.randn(173, 4, generator=torch.Generator().manual_seed(0))
    frames = -(-173 * Fraction(fps) // 25)  # ceil
    whole = resample(motion, frames, fps, sizes=(173,))
    assert whole.shape == (frames, 4)
    torch.testing.assert_close(resample(motion, frames, fps, sizes), whole, atol=0, rtol=0)
