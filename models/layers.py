"""StyleGAN2 building blocks (Karras et al., arXiv 1912.04958) in the conventions of FLOAT's auto-encoder.

Equalised learning rate: a weight is stored with unit variance and scaled by 1/sqrt(fan in) when it is used.
Activation: leaky ReLU of slope 0.2 after the bias, times sqrt(2), which keeps the variance.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def leaky(x: Tensor, bias: Tensor) -> Tensor:
    """sqrt(2) * leaky_relu(x + bias); x (B,C,H,W), bias (C)."""
    return F.leaky_relu(x + bias.view(1, -1, 1, 1), 0.2) * math.sqrt(2)


class Blur(nn.Module):
    """Separable low-pass filter [1,3,3,1] x [1,3,3,1] / 64, applied to each channel after zero padding.

    `gain` is 4 after an upsampling by zero insertion, where three of four samples are zeros.
    """

    kernel: Tensor

    def __init__(self, padding: tuple[int, int], gain: float = 1.0, stride: int = 1) -> None:
        super().__init__()
        before, after = padding
        self.padding = (before, after, before, after)
        self.stride = stride
        # A constant: not in checkpoints, and real even if the module is built on the meta device.
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8
        self.register_buffer("kernel", torch.outer(taps, taps) * gain, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H+before+after-3,W+before+after-3), subsampled by a stride."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(x, self.padding), kernel, groups=channels, stride=self.stride)


class Upsample(nn.Module):
    """Zero insertion x 2, then `Blur` with a gain of 4: (B,C,H,W) -> (B,C,2H,2W).

    Of the four taps in each direction, two meet inserted zeros and are left out.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Upsample by 2."""
        x = F.pad(x, (1, 1, 1, 1))
        rows = [(x[:, :, :-2] + 3 * x[:, :, 1:-1]) * 0.25, (3 * x[:, :, 1:-1] + x[:, :, 2:]) * 0.25]
        x = torch.stack(rows, dim=3).flatten(2, 3)
        columns = [(x[..., :-2] + 3 * x[..., 1:-1]) * 0.25, (3 * x[..., 1:-1] + x[..., 2:]) * 0.25]
        return torch.stack(columns, dim=4).flatten(3, 4)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate and no activation: (B,I) -> (B,O)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """x W' / sqrt(I) + b."""
        return F.linear(x, self.weight * self.scale, self.bias)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate; with `activate`, a bias and the activation follow.

    `down` adds a blur before the convolution and a stride of 2: (B,I,H,W) -> (B,O,H/2,W/2). A kernel of size 1 sees no
    neighbours, so its stride is moved into the blur, which then does a quarter of the work for the same result.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, down: bool = False, activate: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.stride = 2 if down and kernel > 1 else 1
        # "Same" size for odd kernels; the blur before a strided convolution has its own padding.
        self.padding = 0 if down or kernel == 4 else kernel // 2
        self.blur = Blur({3: (2, 2), 1: (1, 1)}[kernel], stride=2 // self.stride) if down else None

    def forward(self, x: Tensor) -> Tensor:
        """Blur (when downsampling), convolve, activate."""
        if self.blur is not None:
            x = self.blur(x)
        x = F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)
        return x if self.bias is None else leaky(x, self.bias)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style (B,D), and whose outputs are renormalised.

    The textbook form builds one kernel per sample and runs a grouped convolution. Scaling the activations instead,
    `demodulation * conv(style * x)`, computes the same sum in another order. It needs a single shared kernel for the
    whole batch, which makes large batches of frames fast.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)
        self.demodulate = demodulate
        self.padding = kernel // 2
        self.blur = Blur(padding=(1, 1), gain=4.0) if up else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B,I,H,W), style (B,D) -> (B,O,H,W), or (B,O,2H,2W) when upsampling."""
        weight = self.weight * self.scale
        gain = self.modulation(style)  # (B,I)
        x = x * gain[:, :, None, None]
        if self.blur is None:
            x = F.conv2d(x, weight, padding=self.padding)
        else:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if self.demodulate:
            # sum over inputs and taps of (weight * gain)^2, per sample and output channel: (B,O)
            power = gain.square() @ weight.square().sum((2, 3)).T
            x = x * torch.rsqrt(power + 1e-8)[:, :, None, None]
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, bias, activation. (The checkpoint's noise weights are never used.)"""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, up=up)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B,I,H,W), style (B,D) -> (B,O,H,W), or twice the side when upsampling."""
        return leaky(self.conv(x, style), self.bias)
