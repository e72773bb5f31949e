"""The decoder arranged for speed: the same frames as `autoencoder.Decoder`, which stays the oracle.

What is different, and why it pays (figures: models/README.md):

- Equalised-learning-rate scales are folded into the weights, the modulations of all layers are one product, the
  sums of squares that demodulation needs are computed once.
- Demodulation, bias, activation and the next layer's modulation stand next to each other, so that a compiler makes
  one pass over memory of them.
- Channels-last throughout. The blurs are separable sums of shifted views, the skip upsampling computes no zeros.
- The warp gathers rows of one portrait's feature map, shared by all frames: with channels last a row is contiguous.
  Mask and sampling weights are multiplied first, where there are no channels yet.

Everything is float32. Convolutions in bfloat16 (float16) with flow, mask and sums in float32 gave 28 (36) dB on the
reference frames, whose random weights amplify rounding; below the 45 dB asked for, so it is not offered.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Decoder, DecoderStage
from models.layers import ModulatedConv, StyledConv

ROOT2 = math.sqrt(2)


def blur(x: Tensor) -> Tensor:
    """`layers.Blur(padding=(1, 1), gain=4)` as two passes: (N,C,H,W) -> (N,C,H-1,W-1)."""
    x = F.pad(x, (1, 1, 1, 1))
    x = (x[:, :, :-3] + 3 * (x[:, :, 1:-2] + x[:, :, 2:-1]) + x[:, :, 3:]) / 4
    return (x[..., :-3] + 3 * (x[..., 1:-2] + x[..., 2:-1]) + x[..., 3:]) / 4


def upsample(x: Tensor) -> Tensor:
    """`layers.Upsample`: of the four taps in each direction two meet inserted zeros, and are left out."""
    x = F.pad(x, (1, 1, 1, 1))
    rows = [(x[:, :, :-2] + 3 * x[:, :, 1:-1]) / 4, (3 * x[:, :, 1:-1] + x[:, :, 2:]) / 4]
    x = torch.stack(rows, dim=3).flatten(2, 3)
    columns = [(x[..., :-2] + 3 * x[..., 1:-1]) / 4, (3 * x[..., 1:-1] + x[..., 2:]) / 4]
    return torch.stack(columns, dim=4).flatten(3, 4)


def warp(feature: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """mask * grid_sample(feature, identity + flow), bilinear, zeros outside, align_corners=False.

    Args:
        feature: one portrait's map (1,C,n,n), channels last.
        flow: offsets x, y (N,2,n,n) float32, in units of half the picture.
        mask: (N,n,n) float32.

    Returns: (N,C,n,n), channels last.
    """
    side = feature.shape[-1]
    rows = feature[0].permute(1, 2, 0).reshape(side * side, -1)
    line = torch.linspace(-1, 1, side, device=flow.device)  # a constant: folded when this is compiled
    x = ((line + flow[:, 0] + 1) * side - 1) / 2
    y = ((line[:, None] + flow[:, 1] + 1) * side - 1) / 2
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top

    def corner(column: Tensor, row: Tensor, weight: Tensor) -> Tensor:
        inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        index = row.clamp(0, side - 1) * side + column.clamp(0, side - 1)  # exact in float32 up to 4096 pixels a side
        return rows[index.long()] * torch.where(inside, weight, 0.0)[..., None]

    warped = (
        corner(left, top, (1 - right_share) * (1 - bottom_share) * mask)
        + corner(left + 1, top, right_share * (1 - bottom_share) * mask)
        + corner(left, top + 1, (1 - right_share) * bottom_share * mask)
        + corner(left + 1, top + 1, right_share * bottom_share * mask)
    )
    return warped.permute(0, 3, 1, 2)


def _constant(tensor: Tensor) -> nn.Parameter:
    """A frozen weight in the memory format that convolutions here read."""
    tensor = tensor.detach()
    layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return nn.Parameter(tensor.contiguous(memory_format=layout), requires_grad=False)


class _Styled(nn.Module):
    """Weights of a `StyledConv`, folded. The style of a call comes in from outside, with those of all layers."""

    def __init__(self, source: StyledConv) -> None:
        super().__init__()
        conv = source.conv
        weight = conv.weight * conv.scale
        self.up = conv.blur is not None
        self.weight = _constant(weight.transpose(0, 1) if self.up else weight)
        self.bias = _constant(source.bias)
        self.power = _constant(weight.square().sum((2, 3)).T)  # (I,O)

    def forward(self, modulated: Tensor, gain: Tensor) -> Tensor:
        """Input times gain (N,I,H,W), gain (N,I) -> activated (N,O,H,W), or twice the side."""
        if self.up:
            x = blur(F.conv_transpose2d(modulated, self.weight, stride=2))
        else:
            x = F.conv2d(modulated, self.weight, padding=1)
        demodulation = torch.rsqrt(gain.square() @ self.power + 1e-8)
        x = x * demodulation[:, :, None, None] + self.bias.view(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * ROOT2


class _Stage(nn.Module):
    """Weights of a `DecoderStage`, folded."""

    def __init__(self, source: DecoderStage) -> None:
        super().__init__()
        self.up, self.refine = _Styled(source.up), _Styled(source.refine)
        flow, colour = source.warp.conv, source.rgb.conv
        assert colour.bias is not None
        self.flow_weight = _constant(flow.weight * flow.scale)
        self.flow_bias = _constant(source.warp.bias)
        self.colour_weight = _constant(colour.weight * colour.scale)
        self.colour_bias = _constant(colour.bias)
        self.base = _constant(source.rgb.bias)


class FastDecoder(nn.Module):
    """Latents of frames and the features of their one portrait -> frames."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.constant = _constant(decoder.constant)
        self.first = _Styled(decoder.first)
        stages = [stage for stage in decoder.stages if isinstance(stage, DecoderStage)]
        self.stages = nn.ModuleList(_Stage(stage) for stage in stages)
        modulated: list[ModulatedConv] = [decoder.first.conv]
        for stage in stages:
            modulated += [stage.up.conv, stage.refine.conv, stage.warp.conv]
        layers = [conv.modulation for conv in modulated]
        self.widths = [len(layer.weight) for layer in layers]
        self.style_weight = _constant(torch.cat([layer.weight * layer.scale for layer in layers]))
        self.style_bias = _constant(torch.cat([layer.bias for layer in layers]))

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """Latent w_s + r (N,D) and features of one portrait (1,C,n,n), channels last -> RGB (N,3,S,S)."""
        gains = F.linear(latent, self.style_weight, self.style_bias).split(self.widths, dim=1)

        def modulate(x: Tensor, gain: Tensor) -> Tensor:
            return x * gain[:, :, None, None]

        x = self.first(modulate(self.constant, gains[0]), gains[0])
        flow = rgb = None
        for number, (stage, feature) in enumerate(zip(self.stages, features, strict=True)):
            assert isinstance(stage, _Stage)
            up_gain, refine_gain, flow_gain = gains[3 * number + 1 : 3 * number + 4]
            x = stage.up(modulate(x, up_gain), up_gain)
            x = stage.refine(modulate(x, refine_gain), refine_gain)
            head = F.conv2d(x * flow_gain[:, :, None, None], stage.flow_weight, stage.flow_bias)
            flow = head if flow is None else head + upsample(flow)
            mask = torch.sigmoid(flow[:, 2])
            warped = warp(feature, torch.tanh(flow[:, :2]), mask)
            colour = F.leaky_relu(F.conv2d(warped, stage.colour_weight, stage.colour_bias), 0.2) * ROOT2
            colour = colour + stage.base.view(1, 3, 1, 1)
            rgb = colour if rgb is None else colour + upsample(rgb)
            x = warped + x * (1 - mask[:, None])
        assert rgb is not None
        return rgb
