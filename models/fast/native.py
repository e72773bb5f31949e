"""Passes between convolutions and products of integers, as a C++ library (`passes.cpp`) for the CPU that runs it.

For the decoder, Inductor makes several passes of each, some of them not vectorised: they took more than half of the
time of a decoded frame, and now take a quarter. Speech encoders are not compiled at all. The library needs neither
PyTorch's headers nor its libraries, so it is compiled in a second or two, by each process for itself, and nothing is
kept.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from models.int8 import has_int8

SOURCE = Path(__file__).with_name("passes.cpp")
SECONDS = 120.0
"""Time limit of the compiler."""


class NativeError(RuntimeError):
    """The library cannot be made here; the message says why."""


def has_native() -> bool:
    """Whether this CPU has the instructions for the library, and there is a compiler to make it."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    wide = all(found.get(f"avx512_{name}", False) for name in ("f", "bw", "vl", "dq"))
    return has_int8() and wide and shutil.which(_compiler()) is not None


def _compiler() -> str:
    return os.environ.get("CXX") or "g++"


@functools.cache
def library() -> ctypes.CDLL:
    """The library, compiled for this CPU. Raises NativeError."""
    with tempfile.TemporaryDirectory(prefix="floatcast-passes-") as folder:
        made, linked = Path(folder) / "passes.o", Path(folder) / "passes.so"
        flags = ["-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp", "-w"]
        # Linked without OpenMP: the one that PyTorch has loaded is used, because a second one would have threads of its
        # own, which wait actively for work on the same cores.
        steps = ([*flags, "-c", str(SOURCE), "-o", str(made)], ["-shared", str(made), "-o", str(linked)])
        for arguments in steps:
            try:
                subprocess.run([_compiler(), *arguments], check=True, capture_output=True, text=True, timeout=SECONDS)
            except subprocess.CalledProcessError as error:
                raise NativeError(f"{SOURCE.name} could not be compiled: {error.stderr.strip()[-500:]}") from error
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NativeError(f"{_compiler()} could not be run, or took longer than {SECONDS:g} s") from error
        try:
            return ctypes.CDLL(str(linked))
        except OSError as error:
            raise NativeError(
                f"the compiled {SOURCE.name} could not be loaded from {folder}: allow programs in temporary folders, "
                "or set TMPDIR to one that does"
            ) from error


def _call(name: str, tensors: list[Tensor | None], *sizes: int) -> None:
    """Call a function with the addresses of contiguous tensors, sizes, and the number of threads."""
    for tensor in tensors:
        if tensor is not None and not (tensor.is_contiguous() and tensor.device.type == "cpu"):
            raise ValueError(f"{name} needs contiguous tensors in memory, got strides {tensor.stride()}")
    places = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    getattr(library(), name)(*places, *sizes, torch.get_num_threads())


def blur_activate(parts: list[Tensor], factor: Tensor, bias: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The blur after a transposed convolution, activation, and the next layer's gain.

    Args:
        parts: even and odd rows and columns of the convolution, bfloat16, in units of its integers, of m x m pixels
            with a rim: (N,m+1,m+1,C), (N,m+1,m+2,C), (N,m+2,m+1,C), (N,m+2,m+2,C). The first and the last one of the
            odd lie outside.
        factor: unit times demodulation (N,C).
        bias: (C).
        gain: (N,C).

    Returns: map (N,2m,2m,C) bfloat16, and the largest absolute value of each image (N).
    """
    n, m, channels = len(parts[0]), parts[0].shape[1] - 1, parts[0].shape[3]
    out, peak = parts[3].new_empty(n, 2 * m, 2 * m, channels), factor.new_zeros(n)
    _call("blur_activate", [*parts, factor, bias, gain, out, peak], n, m, channels)
    return out, peak


def quantise(maps: Tensor, peak: Tensor, *, rim: bool = False) -> tuple[Tensor, Tensor]:
    """Maps (N,H,W,C) bfloat16 and their largest absolute values (N) -> uint8 around `HALF`, and the units (N,1).

    With `rim`, there are zeros around each map: (N,H+2,W+2,C).
    """
    n, height, width, channels = maps.shape
    whole = torch.empty(n, height + 2 * rim, width + 2 * rim, channels, dtype=torch.uint8)
    unit = torch.empty_like(peak)
    _call("quantise", [maps, peak, whole, unit], n, height, width * channels, channels, int(rim))
    return whole, unit[:, None]


def quantise_rows(rows: Tensor, unit: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Tokens (N,I) float32 -> uint8 around `HALF` (N,I), and the unit of each token (N,1).

    With `unit` (N,1) and `bias` (I), the tokens are the GELU of rows * unit + bias; `rows` is overwritten then.
    """
    whole = torch.empty(rows.shape, dtype=torch.uint8)
    found = torch.empty(len(rows), 1)
    _call("quantise_rows", [rows, unit, bias, whole, found], *rows.shape)
    return whole, found


def finish(
    y: Tensor,
    factor: Tensor,
    bias: Tensor,
    head: tuple[Tensor, Tensor],
    coarse: tuple[Tensor, Tensor] | None,
    portrait: tuple[Tensor, Tensor],
    colour: tuple[Tensor, Tensor],
    line: Tensor,
    gain: Tensor | None,
) -> tuple[tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor]]:
    """The end of a stage: activation, flow head, warp and colours.

    Args:
        y: result of its last convolution (N,s,s,C) bfloat16, in units of its integers.
        factor, bias: as in `blur_activate`.
        head: weights of the flow head with the modulation (N,3,C), and its bias (3).
        coarse: flow and colours of the stage before (N,3,s/2,s/2).
        portrait: its map (s*s,C) bfloat16, and the colours of that (s*s,4), the fourth unused.
        colour: bias before the activation (3), and base (3).
        line: column of each pixel without flow (s), in pixels.
        gain: of the next stage (N,C); None at the last one.

    Returns: the map for the next stage (N,s,s,C) multiplied by `gain`, with its largest absolute values (N), unless
        this is the last one; flow and colours (N,3,s,s).
    """
    n, side, _, channels = y.shape
    x = None if gain is None else torch.empty_like(y)
    peak, flow, rgb = factor.new_zeros(n), factor.new_empty(n, 3, side, side), factor.new_empty(n, 3, side, side)
    coarser = [None, None] if coarse is None else list(coarse)
    tensors = [y, factor, bias, *head, *coarser, *portrait, *colour, line, gain, x, peak, flow, rgb]
    _call("finish", tensors, n, side, channels)
    return None if x is None else (x, peak), (flow, rgb)
