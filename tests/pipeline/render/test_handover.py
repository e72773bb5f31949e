"""Frames between the rendering thread and the encoders: in order, a bounded number, and with their errors."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from pipeline.render.handover import BUFFERS, Handover, HostBuffer

CPU = torch.device("cpu")


def batch(value):
    return torch.full((2, 6, 4), value, dtype=torch.uint8)


def never(error):
    raise AssertionError(error)


def test_frames_of_several_clips_arrive_in_order_and_what_comes_after_them_later():
    handover, seen = Handover(CPU), []
    for value in range(20):
        handover.pass_on(batch(value), lambda frames: seen.append(int(frames[0, 0, 0])), never)
        if value == 9:
            handover.after(lambda: seen.append("end of the first clip"))
    handover.close()
    assert seen == [*range(10), "end of the first clip", *range(10, 20)]


@pytest.mark.parametrize("limit", ["encoder", "delivery"])
def test_rendering_runs_no_further_ahead_than_the_buffers_and_learns_what_it_waited_for(limit):
    handover, busy, goes_on = Handover(CPU), Event(), Event()

    def wait(frames=None):
        busy.set()
        goes_on.wait()

    write = wait if limit == "encoder" else lambda frames: None
    if limit == "delivery":
        handover.after(wait)
    for value in range(BUFFERS):
        handover.pass_on(batch(value), write, never)
    busy.wait()
    with ThreadPoolExecutor(1) as renderer:
        third = renderer.submit(handover.pass_on, batch(9), write, never)
        with pytest.raises(TimeoutError):
            third.result(timeout=0.05)
        goes_on.set()
        encoder, delivery = third.result()
    assert (encoder > delivery) == (limit == "encoder")
    handover.close()


def test_an_encoder_that_fails_fails_its_clip_and_leaves_the_buffer_to_others():
    handover, failed, seen = Handover(CPU), [], []

    def broken(frames):
        raise ValueError("the encoder stopped")

    for _ in range(3 * BUFFERS):
        handover.pass_on(batch(1), broken, failed.append)
        handover.pass_on(batch(2), lambda frames: seen.append(int(frames[0, 0, 0])), never)
    handover.close()
    assert [str(error) for error in failed] == ["the encoder stopped"] * 3 * BUFFERS
    assert seen == [2] * 3 * BUFFERS


def test_a_gpu_that_fails_while_it_decodes_fails_the_clip_whose_frames_it_owes(monkeypatch):
    handover, failed = Handover(CPU), []

    def broken(buffer):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(HostBuffer, "wait", broken)
    handover.pass_on(batch(1), never, failed.append)
    handover.close()
    assert [type(error) for error in failed] == [torch.AcceleratorError]
