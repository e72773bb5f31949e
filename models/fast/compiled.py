"""Ahead-of-time compilation with a cache on disk (AOTInductor): further workers of the same kind load in seconds.

`torch.compile` does not cache graphs with frozen weights (PyTorch 2.13), and on a CPU frozen weights allow oneDNN to
pack them once. Therefore a package is exported, compiled and stored instead. It is tied to the model's weights.

A package is code. It lies in a private folder, unpacked and sealed (`private_cache`), and PyTorch loads it from there:
given the archive, it would unpack 732 MB of a full-size model among the temporary files at each start of a worker, and
leave them there if the worker is killed.
"""

import hashlib
import inspect
import logging
import os
import platform
import shlex
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from filelock import FileLock
from torch import Tensor, nn

from models.fast.private_cache import (
    CONTENT,
    full,
    is_full,
    is_sealed,
    private_folder,
    remove_leftovers,
    remove_unpacked_packages,
    seal,
)

logger = logging.getLogger(__name__)

CompiledModule = Callable[..., Tensor]

LEAST_FREE = 16 << 20
"""A compiler that fails on a disk with fewer bytes fails because of them; it does not always say so."""


class NoCompilerError(RuntimeError):
    """The machine has no C++ compiler."""


def has_compiler() -> bool:
    """Whether the C++ compiler that PyTorch calls is available: $CXX, or g++."""
    return shutil.which(os.environ.get("CXX") or "g++") is not None


def compile_problem() -> str:
    """Why `torch.compile` cannot work on this machine's CPU, and what to change; empty if it can."""
    if not has_compiler():
        return "no C++ compiler found: install g++ (Debian: apt install g++) or set CXX"
    if " " in torch.__file__:  # PyTorch 2.13 does not quote the paths of its headers
        return (
            f"PyTorch is installed in a folder with a space in its path ({Path(torch.__file__).parent}): move the "
            "environment"
        )
    return ""


def compiled(module: nn.Module, inputs: tuple[Any, ...], *, weights: str, cache: Path) -> CompiledModule:
    """`module` compiled for the shapes of `inputs` and this kind of machine.

    Args:
        weights: identity of the module's weights, such as the model's hash; they become part of the package.
        cache: folder of packages. Workers of one node share it, and only the first of them compiles.

    Raises: NoCompilerError where it must be compiled and cannot be; CacheError if others can write the cache; and
        CacheFullError if its disk is full.
    """
    cache = private_folder(cache)
    path = cache / f"{type(module).__name__}-{_key(module, inputs, weights)[:24]}.pt2"
    remove_unpacked_packages()
    remove_leftovers(cache, "*.part-*")
    try:
        with FileLock(path.with_suffix(".lock")), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # warnings of PyTorch about itself
            if path.exists() and not is_sealed(path):
                logger.warning("%s is damaged, or not what this user has compiled: it is compiled again", path)
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            if not path.exists():
                _compile(module, inputs, path)
            package = _load(path / CONTENT)
    except Exception as error:
        if is_full(error) or shutil.disk_usage(cache).free < LEAST_FREE:
            raise full(cache) from error
        raise
    layouts = [(t.shape, t.stride()) for t in _tensors(inputs)]

    def run(*arguments: Any) -> Tensor:
        # A package reads its inputs in the layout for which it was compiled, and does not check it.
        tensors = iter(
            _laid_out(t, shape, stride) for t, (shape, stride) in zip(_tensors(arguments), layouts, strict=True)
        )
        return package(*([next(tensors) for _ in a] if isinstance(a, list) else next(tensors) for a in arguments))

    return run


def _compile(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> None:
    """Compile into a folder beside `path`, and rename it when it is complete and sealed."""
    if not has_compiler():
        raise NoCompilerError(
            "no C++ compiler found: install g++ (Debian: apt install g++) or set CXX, or set render.mode=eager"
        )
    # Both take a tenth of the time of importing torch, and are only needed to compile.
    from torch._inductor import codecache
    from torch._inductor.utils import fresh_cache
    from torch.utils import cpp_extension

    start = time.perf_counter()
    headers = path.parent / "headers"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.stem}.part-") as name, ExitStack() as context:
        part = Path(name)
        archive = part / "package.pt2"
        # What the compiler writes on its way is code too: it is kept out of the folders that everybody knows, and is
        # not kept. The precompiled headers are, because they take a minute.
        context.enter_context(fresh_cache(dir=name, delete=False))
        context.enter_context(mock.patch.object(codecache, "_HEADER_DIR", str(headers)))
        context.enter_context(mock.patch.object(codecache, "_HEADER_LOCK_DIR", str(headers / "locks")))
        # PyTorch 2.13 does not quote this path in the linker's command; quoting a plain path changes nothing.
        quoted = shlex.quote(cpp_extension.TORCH_LIB_PATH)
        context.enter_context(mock.patch.object(cpp_extension, "TORCH_LIB_PATH", quoted))
        with torch.no_grad():
            exported = torch.export.export(module, inputs)
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(archive), inductor_configs={"freezing": True}
            )
        made = part / "made"
        with zipfile.ZipFile(archive) as file:
            file.extractall(made / CONTENT)
        seal(made, path)
        made.rename(path)  # atomic
    logger.info("%s compiled in %.0f s", path.name, time.perf_counter() - start)


def _load(folder: Path) -> CompiledModule:
    """An unpacked package. `aoti_load_package` takes the archive alone, but its loader takes folders too."""
    from torch.export.pt2_archive._package import AOTICompiledModel

    loader = torch._C._aoti.AOTIModelPackageLoader(str(folder), "model", False, 1, -1)
    return AOTICompiledModel(loader)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [t for value in values for t in (value if isinstance(value, list) else [value])]


def _laid_out(tensor: Tensor, shape: torch.Size, stride: tuple[int, ...]) -> Tensor:
    if tensor.shape != shape:
        raise ValueError(f"compiled for an input of {tuple(shape)}, got {tuple(tensor.shape)}")
    if tensor.stride() == stride:
        return tensor
    return torch.empty_strided(shape, stride, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _key(module: nn.Module, inputs: tuple[Any, ...], weights: str) -> str:
    """SHA-256 of everything that a package depends on."""
    tensors = _tensors(inputs)
    digest = hashlib.sha256()
    for part in (
        weights,
        torch.__version__,
        machine_name(tensors[0].device),
        repr(module),
        # A package keeps the types and layouts of its weights, and whether products may use TF32.
        *(f"{name} {t.dtype} {t.stride()}" for name, t in (*module.named_parameters(), *module.named_buffers())),
        f"{torch.backends.cuda.matmul.allow_tf32} {torch.backends.cudnn.allow_tf32}",
        *(f"{tuple(t.shape)} {t.dtype} {t.stride()}" for t in tensors),
    ):
        digest.update(part.encode() + b"\0")
    # Code that the module may consist of.
    for folder in sorted({Path(__file__).parents[1], Path(inspect.getfile(type(module))).parent}):
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def machine_name(device: torch.device) -> str:
    """What tells kinds of devices apart: the name of a GPU, or instructions and threads of a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()


def _cpu() -> str:
    """The number of threads is compiled in, and so are the instructions of this specific CPU (-march=native)."""
    return f"{_instruction_sets()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"


def _instruction_sets() -> str:
    """Instruction sets of the CPU as listed by Linux, or what Python knows about it elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
