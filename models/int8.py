"""Products of 8-bit integers, which CPUs with AVX512-VNNI compute twice as fast as those of bfloat16.

The scale of the inputs is computed at each call, for each token of a linear layer and for each image of a convolution:
what else is in the batch changes nothing. Each output channel's weights have a scale of their own. Sums are exact.
"""

import functools

import torch
from torch import Tensor, nn

HALF = 128
"""What stands for 0 in unsigned integers, which is what oneDNN's convolutions take."""


def has_int8() -> bool:
    """Whether this CPU sums products of 8-bit integers in 32 bits, and oneDNN is there; without, sums may overflow."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    known = hasattr(torch.ops.onednn, "qconv_prepack") and hasattr(torch.ops.onednn, "qconv_pointwise")
    return known and any(found.get(name, False) for name in ("avx512_vnni", "amx_int8"))


def units(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The step between neighbouring integers that represent `values` along `dims` (kept, of size 1), float32."""
    # The largest value is a factor of the result, so infinity and NaN stay visible.
    return values.abs().amax(dims, keepdim=True).float().clamp(min=1e-12) / 127


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N,C,H,W) as uint8 around `HALF`, and the unit of each image (N,1,1,1) float32."""
    unit = units(x, (1, 2, 3))
    return (x * (1 / unit)).round().add(HALF).to(torch.uint8), unit


class Int8Linear(nn.Module):
    """Frozen linear layer whose products are those of integers, with a scale per token and one per output.

    y = (Q_x Q_w') s_x s_w + b, where Q = round(values / s) and s = max |values| / 127; float32 from the sums on.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, source: nn.Linear, dtype: torch.dtype | None = None) -> None:
        """`dtype` is that of the result; None takes the input's."""
        super().__init__()
        self.dtype = dtype
        weight = source.weight.detach().float()
        scale = units(weight, (1,))
        self.register_buffer("weight", (weight / scale).round().to(torch.int8).T.contiguous())
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("bias", scale.flatten() * 0 if source.bias is None else source.bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """(...,I) -> (...,O)."""
        rows = x.flatten(0, -2).float()
        scale = units(rows, (1,))
        product = torch._int_mm((rows / scale).round().to(torch.int8), self.weight)
        return (
            torch.addcmul(self.bias, product * scale, self.scale).to(self.dtype or x.dtype).unflatten(0, x.shape[:-1])
        )


class Int8Conv(nn.Module):
    """Frozen convolution, stride 1, of images as `quantised` gives them: (N,I,H,W) uint8 -> (N,O,h,w) of `dtype`.

    The result is in units of the images. Channels last.
    """

    weight: Tensor
    scale: Tensor
    zeros: Tensor

    def __init__(self, weight: Tensor, padding: tuple[int, int], dtype: torch.dtype) -> None:
        """`weight` (O,I,h,w); `dtype` float32 or bfloat16."""
        super().__init__()
        _declare_packing()
        weight = weight.detach().float()
        scale = units(weight, (1, 2, 3))
        self.padding, self.dtype = list(padding), dtype
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.flatten())
        self.register_buffer("zeros", torch.zeros_like(scale.flatten(), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve. A compiler that freezes weights packs them once; uncompiled, they are packed at each call."""
        ops, once = torch.ops.onednn, [1, 1]
        packed = ops.qconv_prepack(self.weight, self.scale, 1.0, HALF, once, self.padding, once, 1, None)
        return ops.qconv_pointwise(
            *(x, 1.0, HALF, packed, self.scale, self.zeros, None, once, self.padding, once, 1),
            *(1.0, 0, self.dtype, "none", [], ""),
        )


@functools.cache
def _declare_packing() -> None:
    """Tell `torch.export` the shape of packed weights, which PyTorch 2.13 does not know."""

    def shape(weight: Tensor, *_: object) -> Tensor:
        return torch.empty_like(weight)

    torch.library.register_fake("onednn::qconv_prepack", shape)
