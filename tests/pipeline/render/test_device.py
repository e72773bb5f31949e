"""How a GPU is taken and timed; there is none here, so PyTorch's side is played."""

import types

import pytest
import torch

from pipeline.render import device
from pipeline.render.device import DeviceClock, open_gpu


def test_a_worker_with_a_share_of_a_gpu_takes_no_more_than_that_of_its_memory(monkeypatch):
    limits = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    for share in (0.25, 1.0, 2.0):
        assert open_gpu(share, work="render", setting="render.device").type == "cuda"
    assert limits == [0.25]


def test_without_a_gpu_the_message_names_the_work_and_the_setting(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"must encode speech on a GPU, .* or set features\.device=cpu"):
        open_gpu(1.0, work="encode speech", setting="features.device")


@pytest.mark.parametrize(("took", "spent", "expected"), [(0.25, 0.4, (0.25, 0.15)), (0.5, 0.4, (0.4, 0.0))])
def test_what_a_gpu_did_before_is_not_counted_as_what_it_is_timed_for(took, spent, expected, monkeypatch):
    """It was given the work at 0 s and had done it at `spent`, of which it worked for `took`."""
    now, order = [0.0], []

    class PlayedEvent:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("synchronize")
            now[0] = spent

        def elapsed_time(self, end):
            assert order == ["record", "record", "synchronize"]
            return took * 1000

    monkeypatch.setattr(torch.cuda, "Event", PlayedEvent)
    monkeypatch.setattr(device, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert DeviceClock(torch.device("cuda")).stop() == pytest.approx(expected)


def test_on_a_cpu_the_work_is_done_when_it_returns(monkeypatch):
    now = iter([3.0, 5.0])
    monkeypatch.setattr(device, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    assert DeviceClock(torch.device("cpu")).stop() == (2.0, 0.0)
