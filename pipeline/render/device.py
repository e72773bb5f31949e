"""The GPU of a worker: how it is taken, and how its time is measured."""

import time

import torch

from pipeline.common.malloc import keep_memory


def open_gpu(share: float, *, work: str, setting: str) -> torch.device:
    """The GPU for a worker that has this share of it, and no more of its memory than that.

    Raises RuntimeError if PyTorch finds none; the message names the `work` that needs it and the `setting` of the
    device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"this worker must {work} on a GPU, but PyTorch finds none: install a CUDA build of PyTorch on the GPU "
            f"nodes, or set {setting}=cpu"
        )
    if 0 < share < 1:  # what one worker takes, the others cannot have, and they would fail in its place
        torch.cuda.set_per_process_memory_fraction(share)
    return torch.device("cuda")


def open_render_device(device: str, num_gpus: float) -> torch.device:
    """The device of a worker that renders: `device` is auto, cpu or cuda. Raises RuntimeError as `open_gpu` does."""
    if device == "auto":
        device = "cuda" if num_gpus > 0 else "cpu"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes are few (`ModelRunner.decoded`)
        return open_gpu(num_gpus, work="render", setting="render.device")
    keep_memory()
    return torch.device(device)


class DeviceClock:
    """How long a device works at something: started before the work is ordered, and stopped after it.

    A GPU works in its own time, and this process only queues orders; on a CPU the work is done when it returns.
    """

    def __init__(self, device: torch.device) -> None:
        self._started = time.perf_counter()
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        if device.type == "cuda":
            self._events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._events[0].record()

    def stop(self) -> tuple[float, float]:
        """Wait until the work is done -> (seconds that it took, seconds that it waited for work ordered earlier)."""
        took: float | None = None
        if self._events is not None:
            begun, ended = self._events
            ended.record()
            ended.synchronize()
            took = begun.elapsed_time(ended) / 1000
        spent = time.perf_counter() - self._started
        return (spent, 0.0) if took is None else (min(took, spent), max(0.0, spent - took))


def choose_slots(slots: int, *, gpu: bool) -> int:
    """How many clips to sample at a time if `slots` is 0.

    On a CPU one clip is as fast as several (models/README.md). The number for GPUs is a guess, because nothing has been
    measured there.
    """
    return slots or (8 if gpu else 1)
