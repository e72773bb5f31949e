"""Ahead-of-time compilation with a cache on disk (AOTInductor): the next worker of the same kind loads in seconds.

`torch.compile` keeps no graph with frozen weights in its cache (PyTorch 2.13), and on a CPU frozen weights are what
lets oneDNN pack them once; so a package is exported, compiled and stored instead. It is tied to the model's weights.
"""

import hashlib
import inspect
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

logger = logging.getLogger(__name__)

CompiledModule = Callable[..., Tensor]


class NoCompilerError(RuntimeError):
    """The machine has no C++ compiler."""


def check_compiler() -> None:
    """Raise NoCompilerError where nothing can be compiled."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise NoCompilerError("no C++ compiler found: install g++ (Debian: apt install g++), or set CXX")


def compiled(module: nn.Module, inputs: tuple[Any, ...], *, weights: str, cache: Path) -> CompiledModule:
    """`module` compiled for the shapes of `inputs` and this kind of machine.

    Args:
        weights: identity of the module's weights, such as the model's hash; they become part of the package.
        cache: folder of packages. Workers of one node share it, and only the first of them compiles.

    Raises: NoCompilerError where it must be compiled and cannot be.
    """
    path = cache / f"{type(module).__name__}-{_key(module, inputs, weights)[:24]}.pt2"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about itself
        if not path.exists():
            check_compiler()
            start = time.perf_counter()
            part = path.with_suffix(f".{os.getpid()}.pt2")
            with torch.no_grad():
                exported = torch.export.export(module, inputs)
                torch._inductor.aoti_compile_and_package(
                    exported, package_path=str(part), inductor_configs={"freezing": True}
                )
            part.replace(path)  # all or nothing
            logger.info("%s compiled in %.0f s", path.name, time.perf_counter() - start)
        return torch._inductor.aoti_load_package(str(path))


def _key(module: nn.Module, inputs: tuple[Any, ...], weights: str) -> str:
    """SHA-256 of all that a package depends on."""
    tensors = [t for value in inputs for t in (value if isinstance(value, list) else [value])]
    device = tensors[0].device
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    digest = hashlib.sha256()
    for part in (
        weights,
        torch.__version__,
        machine,
        repr(module),
        *(f"{tuple(t.shape)} {t.dtype} {t.stride()}" for t in tensors),
    ):
        digest.update(part.encode() + b"\0")
    for folder in sorted(
        {Path(__file__).parent, Path(inspect.getfile(type(module))).parent}
    ):  # code that it may be made of
        for source in sorted(folder.glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _cpu() -> str:
    """The number of threads is compiled in, as is the instruction set."""
    return f"{torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
