"""What a computation requires of a machine, and the maximum that the machine can do."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.int8 import Int8Conv, Int8Linear


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
    """Shortest wall-clock time of a call, after a warm-up call: other work on the machine only makes it longer."""
    return min(spent for (spent,) in rounds([run], times))


PATIENCE = 12.0
"""Seconds after which calls are not repeated any more."""


def rounds(runs: Sequence[Callable[[], object]], times: int) -> list[tuple[float, ...]]:
    """Wall-clock times of calls that take turns, after a warm-up of each: a busy minute then hits all of them.

    At least one turn and at most `times`, as long as the patience lasts.
    """
    start = time.monotonic()
    for run in runs:
        run()
    turns: list[tuple[float, ...]] = []
    while not turns or (len(turns) < times and time.monotonic() - start < PATIENCE * len(runs)):
        turns.append(tuple(timed(run) for run in runs))
    return turns


def timed(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    wait_for_gpu()
    start = time.perf_counter()
    run()
    wait_for_gpu()
    return time.perf_counter() - start


def peak_megabytes() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def wait_for_gpu() -> None:
    """Wait for the GPU, which works asynchronously, before reading a clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """Whether float32 products on a GPU may round their factors to TF32; PyTorch's flags are put back."""
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    matrices.allow_tf32 = convolutions.allow_tf32 = tf32
    try:
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before


def product_gflops(device: torch.device, kind: str, size: int = 0) -> tuple[float, float]:
    """GFLOP/s of a large matrix product and of a large 3x3 convolution.

    Args:
        kind: float32, tf32, float16, bfloat16, or int8 on a CPU.
        size: rows of the matrices; 0 suits the device. The convolution grows with it.
    """
    gpu = device.type == "cuda"
    size = size or (8192 if gpu else 2048)
    if kind == "int8":
        return _integer_gflops(size)
    dtype = torch.float32 if kind == "tf32" else getattr(torch, kind)
    images = max(1, size**2 // 2048**2) if gpu else 1
    channels = max(8, min(128, size // 16))
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    layout = torch.channels_last
    picture = torch.randn(images, channels, 128, 128, device=device, dtype=dtype).contiguous(memory_format=layout)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
    with precision(kind == "tf32"), torch.no_grad():
        product = 2 * size**3 / seconds(lambda: matrix @ matrix)
        convolution = seconds(lambda: torch.conv2d(picture, kernel, padding=1))
    return product / 1e9, 2 * 9 * images * 128**2 * channels**2 / convolution / 1e9


@torch.no_grad()
def _integer_gflops(size: int) -> tuple[float, float]:
    """The same of products of 8-bit integers on a CPU, whose additions and multiplications count like the others."""
    channels = max(8, min(128, size // 16))
    layer = Int8Linear(nn.Linear(size, size, bias=False))
    given = layer.integers(torch.ones(size, size))
    picture = torch.ones(1, channels, 128, 128, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    convolve = Int8Conv(torch.ones(channels, channels, 3, 3), (1, 1), torch.bfloat16)
    product = 2 * size**3 / seconds(lambda: layer.product(given))
    return product / 1e9, 2 * 9 * 128**2 * channels**2 / seconds(lambda: convolve(picture)) / 1e9


def copy_gigabytes(device: torch.device, megabytes: int = 0) -> float:
    """GB/s of a large copy: bytes read and bytes written. By default it is beyond every cache."""
    megabytes = megabytes or (2048 if device.type == "cuda" else 256)
    source = torch.zeros(megabytes << 18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e9
