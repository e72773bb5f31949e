"""The ways in which the decoder and the vector field can be computed; all give the same frames, up to rounding.

mode       reference    the plain modules of `models.FLOAT`, with which the others are compared
           eager        the fast decoder and vector field
           native       the fast decoder in int8, with what is between its convolutions in C++ of our own; CPUs only
           compiled     the same, compiled ahead of time with fixed shapes, so that one package serves every clip
           inductor     the same through `torch.compile`, compiled again by every process
precision  float32      nothing is reduced: TF32 is off, in matrix products and in convolutions
           tf32         float32, whose products round their factors to 10 bits on GPUs from Ampere on
           bfloat16, float16    feature maps and linear layers have this type; flow, mask, demodulation and sums do not
           int8         products of integers in convolutions and linear layers, and otherwise bfloat16; CPUs only
layout     channels_last, contiguous    memory format of the decoder's feature maps
graph      whether the sampling of a window is recorded once as a CUDA graph and replayed
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

TUNE_SECONDS = 300.0
"""Audio per CPU actor from which trying other variants, and compiling them for a minute or two, pays off."""

MODES = ("reference", "eager", "native", "compiled", "inductor")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "int8")
LAYOUTS = ("channels_last", "contiguous")


def choose_mode(mode: str, *, gpu: bool, seconds: float) -> str:
    """The mode that `auto` means for an actor that renders this many seconds of audio, on a GPU or a CPU.

    A GPU is always measured, because float32 without compiling is slow there, and trying the rest takes seconds.
    """
    if mode != "auto":
        return mode
    return "tuned" if gpu or seconds >= TUNE_SECONDS else "eager"


@dataclass(frozen=True)
class Variant:
    """One way to compute the decoder or the vector field."""

    mode: str
    precision: str = "float32"
    layout: str = "channels_last"
    graph: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, MODES),
            ("precision", self.precision, PRECISIONS),
            ("layout", self.layout, LAYOUTS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.mode == "native" and self.precision != "int8":
            raise ValueError(f"mode=native computes in int8, not in {self.precision}")

    def __str__(self) -> str:
        more = [self.layout] if self.layout != "channels_last" else []
        return " ".join([self.mode, self.precision, *more, *(["graph"] if self.graph else [])])

    @property
    def dtype(self) -> torch.dtype:
        """Type of what may be reduced."""
        reduced = {"bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.bfloat16}
        return reduced.get(self.precision, torch.float32)

    @property
    def int8(self) -> bool:
        """Whether products are those of integers."""
        return self.precision == "int8"

    @property
    def fixed_shape(self) -> bool:
        """Whether it only takes batches of the size for which it was made."""
        return self.mode in ("compiled", "inductor")


@dataclass(frozen=True)
class Choice:
    """How an engine computes: decoder, vector field, and the number of frames that are decoded together."""

    decoder: Variant
    field: Variant
    frame_batch: int

    def __str__(self) -> str:
        return f"decoder {self.decoder} x{self.frame_batch}, field {self.field}"

    def values(self) -> dict[str, Any]:
        """For JSON; `from_values` reads it."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Choice":
        """What `values` gave. Raises KeyError, TypeError or ValueError for anything else."""
        batch = values["frame_batch"]
        if type(batch) is not int or batch < 1:
            raise ValueError(f"frame_batch must be 1 or more, got {batch!r}")
        return cls(Variant(**values["decoder"]), Variant(**values["field"]), batch)


def use_precision(precision: str) -> None:
    """Set PyTorch's flags for what this thread computes next; they belong to the process.

    PyTorch's own defaults are TF32 for convolutions (cuDNN) and partial sums in half precision (cuBLAS).
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
