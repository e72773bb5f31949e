"""What a piece of code asks of a GPU and of the connection to its host."""

from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.fake_cuda.device import Event, layout_of_cudnn

NO_KERNEL = ("empty", "new_empty", "lift_fresh", "detach", "alias", "_unsafe_view", "sym_", "prim::", "record_stream")
"""Names of operators that launch nothing, besides views."""


@dataclass
class Work:
    """Counts of everything between the entry and the exit of `counted`."""

    kernels: int = 0
    bytes: int = 0
    """Read and written by these kernels, at least."""
    relaid: int = 0
    """Bytes that cuDNN reads and writes to bring inputs and weights of convolutions into one layout."""
    sent: int = 0
    """Copies to the GPU."""
    fetched: int = 0
    """Copies to the host."""
    waits: int = 0
    """How often the host waited for the GPU: by a copy that blocks, by reading a value, or for an event."""


class counted(TorchDispatchMode):
    """`with counted() as work:`; entered inside `fake_cuda`. What is only on the CPU is computed, and not fake."""

    def __enter__(self) -> Work:
        super().__enter__()
        self.work, self._events = Work(), Event.synchronised
        return self.work

    def __exit__(self, *error: Any) -> None:
        self.work.waits += Event.synchronised - self._events
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        inputs = _tensors((args, kwargs))
        if name == "_local_scalar_dense" and inputs[0].device.type == "cuda":
            self.work.waits += 1
            return True if inputs[0].dtype == torch.bool else 1.0  # there is no value to read
        kwargs = kwargs or {}
        target = torch.device(kwargs.get("device") or "cpu").type
        on_cpu = target == "cpu" and all(type(t) is torch.Tensor and t.device.type == "cpu" for t in inputs)
        if on_cpu and not kwargs.get("pin_memory"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        outputs = _tensors(out)
        devices = {t.device.type for t in inputs + outputs}
        if devices == {"cpu", "cuda"} and name in ("_to_copy", "copy_"):
            self._copied(func, args, kwargs, outputs[0])
        elif devices == {"cuda"} and not func.is_view and not name.startswith(NO_KERNEL):
            self.work.kernels += 1
            self.work.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in inputs + outputs)
            if name == "convolution" and inputs[0].dim() == 4:
                self.work.relaid += _relaid(inputs[0], inputs[1])
        return out

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any], copy: torch.Tensor) -> None:
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        to_host = copy.device.type == "cpu"
        self.work.fetched += to_host
        self.work.sent += not to_host
        # A copy to the host that does not block gives values that are not there yet, unless it is made into a tensor
        # that was there before, whose owner waits for an event.
        self.work.waits += not given.get("non_blocking") or (to_host and func._schema.name != "aten::copy_")


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _relaid(*operands: torch.Tensor) -> int:
    """Bytes that cuDNN reads and writes to give both operands of a convolution one layout."""
    layout = layout_of_cudnn(*operands)
    return sum(2 * t.nbytes for t in operands if not t.is_contiguous(memory_format=layout))
