"""Decoded frames on their way to the encoders, in a thread beside the rendering one.

A GPU decodes a batch while the batch before it is copied to the host and handed to its encoder. Two buffers on the host
bound how far rendering runs ahead of the encoders, on a CPU too.
"""

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

BUFFERS = 2


class HostBuffer:
    """Memory in which one batch of frames arrives."""

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        """`stream` is the one that copies; None on a CPU, where nothing is copied."""
        self.writing = self.between = 0.0
        """Seconds for which an encoder kept this batch waiting, and what came between it and the batch before."""
        self._stream = stream
        self._frames: Tensor | None = None
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._arrived = None if stream is None else torch.cuda.Event()

    def fetch(self, frames: Tensor) -> None:
        """Take planes (n,H,W), which a GPU may still be decoding; it copies them when they are there."""
        if self._stream is None or self._arrived is None:
            self._frames = frames
            return
        if len(self._memory) < frames.nbytes:  # clips may have frames of many sizes
            self._memory = torch.empty(frames.nbytes, dtype=torch.uint8, pin_memory=True)  # else the copy would block
        self._frames = self._memory[: frames.nbytes].view(frames.dtype).view(frames.shape)
        self._stream.wait_stream(torch.cuda.current_stream(frames.device))
        with torch.cuda.stream(self._stream):
            self._frames.copy_(frames, non_blocking=True)
            self._arrived.record(self._stream)
        frames.record_stream(self._stream)  # its memory is not used again before the copy is done

    def wait(self) -> np.ndarray:
        """The frames, in memory that belongs to the caller. Raises what the GPU raises that failed to decode them."""
        assert self._frames is not None
        if self._arrived is None:
            return self._frames.numpy()
        self._arrived.synchronize()
        return self._frames.numpy().copy()


class Handover:
    """Hands frames on, in the order in which they come. `pass_on` and `after` are for one thread."""

    def __init__(self, device: torch.device) -> None:
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._free: queue.SimpleQueue[HostBuffer] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(HostBuffer(stream))
        self._thread = ThreadPoolExecutor(1, "hand over")
        self._between = 0.0  # seconds of steps since the last batch; only the thread uses it

    def pass_on(
        self, frames: Tensor, write: Callable[[np.ndarray], None], fail: Callable[[Exception], None]
    ) -> tuple[float, float]:
        """Have `write` called with the frames (n,H,W) uint8 when they are on the host, and `fail` if that raises.

        Waits while both buffers are in use. Returns for how many of these seconds it was for the encoders' sake, and
        for that of steps in between (`after`).
        """
        start = time.perf_counter()
        buffer = self._free.get()
        spent = time.perf_counter() - start
        writing = min(spent, buffer.writing)
        waited = writing, min(spent - writing, buffer.between)
        try:
            buffer.fetch(frames)
        except BaseException:
            self._free.put(buffer)
            raise
        self._thread.submit(self._hand, buffer, write, fail)
        return waited

    def after(self, step: Callable[[], None]) -> None:
        """Do something after everything that was passed on has been written. `step` does not raise."""
        self._thread.submit(self._step, step)

    def close(self) -> None:
        """Wait until everything has been written."""
        self._thread.shutdown()

    def _hand(self, buffer: HostBuffer, write: Callable[[np.ndarray], None], fail: Callable[[Exception], None]) -> None:
        start = time.perf_counter()
        try:
            frames = buffer.wait()
            start = time.perf_counter()
            write(frames)
        except Exception as error:
            fail(error)
        finally:
            buffer.writing = time.perf_counter() - start
            buffer.between, self._between = self._between, 0.0
            self._free.put(buffer)

    def _step(self, step: Callable[[], None]) -> None:
        start = time.perf_counter()
        step()
        self._between += time.perf_counter() - start
