"""Fake CUDA tensors: shapes, types, devices and strides without data, on a machine without a GPU.

PyTorch's FakeTensorMode refuses what a GPU would refuse, such as a CPU tensor among CUDA tensors. It does not see what
depends on values, what the kernels compute, alignment, and other threads than the one that enters it.
"""

import ctypes
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import cpp_extension

LAST = torch.channels_last


def load_guard(folder: Path) -> None:
    """Compile guard.cpp into `folder` and load it, unless this PyTorch has CUDA and therefore a guard of its own."""
    if torch.backends.cuda.is_built():
        return
    library = folder / "guard.so"
    headers = [f"-I{path}" for path in (*cpp_extension.include_paths(), sysconfig.get_path("include"))]
    source = Path(__file__).with_name("guard.cpp")
    libraries = [f"-L{cpp_extension.TORCH_LIB_PATH}", "-lc10"]
    command = ["g++", "-shared", "-fPIC", "-std=c++20", *headers, source, "-o", library, *libraries]
    subprocess.run(command, check=True)
    ctypes.CDLL(str(library))


class Stream:
    """In place of `torch.cuda.Stream`, whose order says nothing where nothing runs."""

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        """Nothing runs."""


class Event:
    """In place of `torch.cuda.Event`; reports through `synchronised` how often the host waited."""

    synchronised = 0

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def record(self, stream: object = None) -> None:
        """Nothing runs."""

    def synchronize(self) -> None:
        """Count it."""
        Event.synchronised += 1

    def elapsed_time(self, end: object) -> float:
        """No time passes, ms."""
        return 0.0


@contextmanager
def fake_cuda(mode: FakeTensorMode) -> Iterator[None]:
    """Inside, tensors on "cuda" are fake, and convolutions give the layouts that cuDNN gives.

    Real tensors on the CPU can be copied there. A module that was made outside is brought there by `on_cuda`. Tensors
    of one `new_mode` cannot be used in another.
    """
    with (
        mock.patch.object(torch._C, "_conv_determine_backend_memory_format", layout_of_cudnn),
        mock.patch.object(torch.cuda, "Stream", Stream),
        mock.patch.object(torch.cuda, "Event", Event),
        mock.patch.object(torch.cuda, "current_stream", Stream),
        mock.patch.object(torch.cuda, "stream", contextmanager(_one_stream)),
        mock.patch.object(torch.Tensor, "record_stream", Stream.wait_stream),
        mock.patch.object(FakeTensor, "numpy", _without_values),
        mode,
        torch.no_grad(),
    ):
        yield


def new_mode() -> FakeTensorMode:
    """For `fake_cuda`."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def _without_values(tensor: torch.Tensor) -> np.ndarray:
    """`Tensor.numpy`: zeros of this shape and type, of a tensor on the CPU alone."""
    assert tensor.device.type == "cpu", f"numpy() of a tensor on {tensor.device}"
    return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))


def on_cuda(module: nn.Module) -> nn.Module:
    """`module.to("cuda")`, which cannot exchange the data of a real parameter for that of a fake one."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(value.to("cuda"), requires_grad=False)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = value.to("cuda")
    return module.eval()


def layout_of_cudnn(x: torch.Tensor, weight: torch.Tensor, backend: object = None) -> torch.memory_format:
    """ATen's cudnn_conv_suggest_memory_format: channels last if the input or the weight is."""
    last = any(t.dim() == 4 and t.is_contiguous(memory_format=LAST) and not t.is_contiguous() for t in (x, weight))
    return LAST if last else torch.contiguous_format


def _one_stream(stream: Stream) -> Iterator[Stream]:
    yield stream
