"""What a computation requires of a machine, and the maximum that the machine can do."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Work:
    """Arithmetic of products and convolutions, and memory traffic, of one call."""

    gflop: float
    gigabytes: float
    """Read and written by PyTorch's operators one by one; compiled code that fuses them moves less."""


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of the inputs and outputs of every operator that is not a view."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = (leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
            self.total += sum(tensor.nbytes for tensor in tensors)
        return result


@torch.no_grad()
def count(run: Callable[[], object]) -> Work:
    """The work of one call of eager code whose parameters need no gradient."""
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        run()
    return Work(flops.get_total_flops() / 1e9, traffic.total / 1e9)


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """Median wall-clock time of a call, after a warm-up call."""
    run()
    spent = []
    for _ in range(times):
        wait_for_gpu()
        start = time.perf_counter()
        run()
        wait_for_gpu()
        spent.append(time.perf_counter() - start)
    return sorted(spent)[len(spent) // 2]


def peak_megabytes() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def wait_for_gpu() -> None:
    """Wait for the GPU, which works asynchronously, before reading a clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_gflops(device: torch.device) -> float:
    """GFLOP/s of the best large float32 product: a 3x3 convolution or a matrix product."""
    matrix = torch.randn(2048, 2048, device=device)
    picture = torch.randn(1, 128, 128, 128, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    product = 2 * 2048**3 / seconds(lambda: matrix @ matrix)
    convolution = 2 * 9 * 128**4 / seconds(lambda: torch.conv2d(picture, kernel, padding=1))
    return max(product, convolution) / 1e9


def copy_gigabytes(device: torch.device) -> float:
    """GB/s of a large copy: bytes read and bytes written."""
    source = torch.zeros(64 << 20, device=device)  # 268 MB, beyond every cache
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e9
