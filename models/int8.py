"""Products of 8-bit integers, which CPUs with AVX512-VNNI compute twice as fast as those of bfloat16.

The scale of the inputs is computed at each call, for each token of a linear layer and for each image of a convolution:
what else is in the batch changes nothing. Each output channel's weights have a scale of their own. Sums are exact.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

HALF = 128
"""What stands for 0 in unsigned integers, which is what oneDNN's convolutions take."""


MIXED = 64
"""At most so many channels are mixed with each other."""


@functools.cache
def has_int8() -> bool:
    """Whether this CPU sums products of 8-bit integers in 32 bits, and oneDNN is there; without, sums may overflow."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    known = hasattr(torch.ops.onednn, "qconv_prepack") and hasattr(torch.ops.onednn, "qconv_pointwise")
    return known and any(found.get(name, False) for name in ("avx512_vnni", "amx_int8"))


def units(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The step between neighbouring integers that represent `values` along `dims` (kept, of size 1), float32."""
    # The largest value is a factor of the result, so infinity and NaN stay visible.
    largest = torch.maximum(values.amax(dims, keepdim=True), -values.amin(dims, keepdim=True))
    return largest.float().clamp(min=1e-12) / 127


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N,C,H,W) as uint8 around `HALF`, and the unit of each image (N,1,1,1) float32."""
    unit = units(x, (1, 2, 3))
    return (x * (1 / unit)).round().add(HALF).to(torch.uint8), unit


def hadamard(channels: int) -> Tensor:
    """Orthogonal matrix (n,n) of entries +-1/sqrt(n), n = the largest power of two up to 64 that divides `channels`."""
    size = min(channels & -channels, MIXED)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix / size**0.5


def mixed(x: Tensor, matrix: Tensor) -> Tensor:
    """(...,I) with each block of n neighbours multiplied by `matrix` (n,n)."""
    return (x.unflatten(-1, (-1, len(matrix))) @ matrix).flatten(-2)


class Integers(NamedTuple):
    """Tokens as integers."""

    values: Tensor
    """(N,I) uint8 around `HALF` where the CPU has instructions for it (`has_int8`), otherwise int8."""
    unit: Tensor
    """(N,1) float32: what 1 stands for."""


class Int8Linear(nn.Module):
    """Frozen linear layer whose products are those of integers, with a scale per token and one per output.

    y = (Q_x Q_w') s_x s_w + b, where Q = round(values / s) and s = max |values| / 127; float32 from the sums on.
    With `mix`, x H and w H stand for x and w, where H is orthogonal (`hadamard`): the product is the same, and a
    channel that is much larger than the others, which would make s large, is spread over its neighbours (QuaRot, arXiv
    2404.00456).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    matrix: Tensor

    def __init__(self, source: nn.Linear, dtype: torch.dtype | None = None, *, mix: bool = False) -> None:
        """`dtype` is that of the result; None takes the input's."""
        super().__init__()
        _declare_packing()
        self.dtype, self.mix = dtype, mix
        self._packed: Tensor | None = None
        weight = source.weight.detach().float()
        if mix:
            self.register_buffer("matrix", hadamard(source.in_features))
            weight = mixed(weight, self.matrix)
        scale = units(weight, (1,))
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("bias", scale.flatten() * 0 if source.bias is None else source.bias.detach().float())

    def integers(self, x: Tensor) -> Integers:
        """The tokens (...,I) in its own representation; layers with as many inputs and the same `mix` share it."""
        rows = x.flatten(0, -2).float()
        rows = mixed(rows, self.matrix) if self.mix else rows
        unit = units(rows, (1,))
        whole = (rows * (1 / unit)).round_()
        return Integers(whole.add_(HALF).to(torch.uint8) if has_int8() else whole.to(torch.int8), unit)

    def product(self, x: Integers) -> Tensor:
        """(N,O) float32."""
        if not has_int8():
            return torch.addcmul(self.bias, torch._int_mm(x.values, self.weight.T) * x.unit, self.scale)
        return torch.addcmul(self.bias, self.raw(x.values).float(), x.unit)

    def raw(self, values: Tensor) -> Tensor:
        """The product (N,O) without the tokens' units and without the bias, where there are `has_int8`."""
        dtype, zeros = self.dtype or torch.float32, torch.zeros_like(self.scale, dtype=torch.int64)
        return torch.ops.onednn.qlinear_pointwise(
            *(values, 1.0, HALF, self._weight(), self.scale, zeros, None, 1.0, 0, dtype, "none", [], "")
        )

    def _weight(self) -> Tensor:
        """Packed for this CPU, which ignores strides: once, also by a compiler that freezes weights."""
        if torch.compiler.is_exporting():
            return torch.ops.onednn.qlinear_prepack(self.weight, None)
        if self._packed is None:
            self._packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
        return self._packed

    def forward(self, x: Tensor) -> Tensor:
        """(...,I) -> (...,O)."""
        return self.product(self.integers(x)).to(self.dtype or x.dtype).unflatten(0, x.shape[:-1])


class Int8Conv(nn.Module):
    """Frozen convolution, stride 1, of images as `quantised` gives them: (N,I,H,W) uint8 -> (N,O,h,w) of `dtype`.

    The result is in units of the images. Channels last.
    """

    weight: Tensor
    scale: Tensor
    zeros: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, padding: tuple[int, int], dtype: torch.dtype) -> None:
        """`weight` (O,I,h,w); `dtype` float32 or bfloat16."""
        super().__init__()
        _declare_packing()
        weight = weight.detach().float()
        scale = units(weight, (1, 2, 3))
        self.padding, self.dtype = list(padding), dtype
        self._packed: Tensor | None = None
        self.zero, self.bias = HALF, None
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("zeros", torch.zeros_like(scale.flatten(), dtype=torch.int64))

    def expect_rim(self) -> None:
        """From now on, images have a rim of zeros in place of padding; every kernel is convolved with all of it.

        What `HALF` adds is then the same everywhere, and is subtracted as a bias. oneDNN computes it for each pixel,
        which makes kernels of 1 and 2 taps 1.6 times as slow where there are few channels.
        """
        self.padding, self.zero = [0, 0], 0
        self.bias = -HALF * self.weight.sum((1, 2, 3)) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        once = [1, 1]
        return torch.ops.onednn.qconv_pointwise(
            *(x, 1.0, self.zero, self._weight(x), self.scale, self.zeros, self.bias, once, self.padding, once, 1),
            *(1.0, 0, self.dtype, "none", [], ""),
        )

    def _weight(self, x: Tensor) -> Tensor:
        """Packed for this CPU: once, also by a compiler that freezes weights. `x` is what will be convolved first."""
        if self._packed is None or torch.compiler.is_exporting():
            given = self.weight, self.scale, 1.0, self.zero, [1, 1], self.padding, [1, 1], 1
            packed = torch.ops.onednn.qconv_prepack(*given, None if torch.compiler.is_exporting() else list(x.shape))
            if torch.compiler.is_exporting():
                return packed
            self._packed = packed
        return self._packed


@functools.cache
def _declare_packing() -> None:
    """Tell `torch.export` the shapes of packed weights, which PyTorch 2.13 does not know."""
    if not has_int8():
        return

    def of_convolution(weight: Tensor, *_: object) -> Tensor:
        return torch.empty_like(weight)

    def of_linear(weight: Tensor, *_: object) -> Tensor:
        return torch.empty_like(weight.T)

    torch.library.register_fake("onednn::qconv_prepack", of_convolution)
    torch.library.register_fake("onednn::qlinear_prepack", of_linear)
