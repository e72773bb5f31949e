"""A function of tensors as a CUDA graph: recorded once, then replayed with one launch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before recording, in which libraries choose their kernels and allocate their workspaces."""


class Recorded:
    """`function(*inputs) -> Tensor`, recorded for the shapes, types and values of Python variables of its first call.

    The function must not wait for the device, and must launch the same kernels at every call.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        """Raises RuntimeError for a function that cannot be recorded, and torch.OutOfMemoryError."""
        self._inputs = [tensor.clone() for tensor in inputs]
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                function(*self._inputs)
        current.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result for other values. The next call does not change it."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()
