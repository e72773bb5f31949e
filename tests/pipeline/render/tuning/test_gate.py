"""What the gate lets through, with answers known in advance."""

import math

import numpy as np
import pytest
import torch

from pipeline.render.tuning.gate import (
    EXACT,
    frames_problem,
    memory_problem,
    motion_error,
    motion_problem,
    worst_psnr,
)

FRAMES = np.full((3, 6, 4), 100, np.uint8)
MOTION = torch.arange(1.0, 13.0).view(3, 4)


def changed(by, frame=1):
    frames = FRAMES.copy()
    frames[frame] += np.uint8(by)
    return frames


@pytest.mark.parametrize("by", [1, 2, 10])
def test_psnr_is_that_of_the_worst_frame(by):
    assert worst_psnr(changed(by), FRAMES) == pytest.approx(20 * math.log10(255 / by))


def test_psnr_without_a_difference_is_a_number():
    assert worst_psnr(FRAMES, FRAMES) == EXACT


def test_differences_do_not_wrap_around():
    assert worst_psnr(np.zeros((1, 6, 4), np.uint8), np.full((1, 6, 4), 255, np.uint8)) == 0


@pytest.mark.parametrize(
    ("frames", "again", "problem"),
    [
        (FRAMES, FRAMES, ""),
        (changed(1), changed(1), ""),  # 48 dB
        (changed(2), changed(2), "42.1 dB"),
        (changed(1, 0), changed(1, 2), ""),  # within rounding of each other
        (FRAMES, changed(2), "from run to run"),
        (FRAMES[:2], FRAMES, "shape"),
        (FRAMES, FRAMES[:, :3], "shape"),
    ],
)
def test_frames_are_judged_by_their_worst_one_and_by_a_second_run(frames, again, problem):
    found = frames_problem(frames, again, FRAMES)
    assert problem in found
    assert bool(found) == bool(problem)


def test_frames_of_ten_bits_are_judged_on_their_own_scale():
    frames = FRAMES.astype(np.uint16) * 4
    near, far = frames + np.uint16(4), frames + np.uint16(8)
    assert worst_psnr(near, frames, bits=10) == pytest.approx(20 * math.log10(255))
    assert frames_problem(near, near, frames, bits=10) == ""
    assert "42.1 dB" in frames_problem(far, far, frames, bits=10)
    assert "from run to run" in frames_problem(frames, far, frames, bits=10)


@pytest.mark.parametrize(
    ("motion", "again", "problem"),
    [
        (MOTION, MOTION, ""),
        (1.019 * MOTION, 1.019 * MOTION, ""),
        (1.021 * MOTION, 1.021 * MOTION, "error of 2.1%"),
        (MOTION, 1.003 * MOTION, "from run to run"),
        (MOTION * math.nan, MOTION, "not finite"),
        (MOTION, MOTION * math.inf, "not finite"),
        (MOTION[:2], MOTION, "shape"),
    ],
)
def test_motion_is_judged_by_its_relative_error_and_by_a_second_run(motion, again, problem):
    found = motion_problem(motion, again, MOTION)
    assert problem in found
    assert bool(found) == bool(problem)


def test_motion_at_rest_has_no_endless_error():
    assert motion_error(torch.zeros(2, 2), torch.zeros(2, 2)) == 0


@pytest.mark.parametrize(("peak", "problem"), [(70, ""), (71, "it took 71% of the memory"), (0, "")])
def test_memory_is_judged_by_the_share_of_the_actor(peak, problem):
    assert memory_problem(peak, 100).startswith(problem)
    assert bool(memory_problem(peak, 100)) == bool(problem)
    assert memory_problem(peak, 0) == ""  # not known, as on a CPU
