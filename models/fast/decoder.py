"""The decoder, optimised for speed: the same frames as `autoencoder.Decoder`, which stays the reference.

The differences and their reasons (measurements are in models/README.md):

- Equalised-learning-rate scales are folded into the weights, the modulations of all layers are one product, and the
  sums of squares for demodulation are computed once.
- Demodulation, bias, activation and the next layer's modulation are adjacent, so that a compiler makes a single pass
  over memory for them.
- Channels-last everywhere. The blurs are separable sums of shifted views, and skip upsampling computes no zeros.
- The sampling positions without flow are constants.
- The finest map is warped as colours, three channels, and not before they are computed from it.
- On a CPU, pixels are mixed by `embedding_bag` and not by `grid_sample`.

With `dtype` bfloat16 or float16, convolutions and the maps between them have that type. Styles, demodulation factors,
flow, mask, the sampling of the portrait's features and the colours stay float32, and so do inputs and results. With
`int8` the 3x3 convolutions multiply integers (`models.int8`), and `dtype` is that of the maps between them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Decoder, DecoderStage, identity_grid
from models.int8 import Int8Conv, quantised
from models.layers import ModulatedConv, StyledConv, Upsample, leaky


def blur(x: Tensor) -> Tensor:
    """`layers.Blur(padding=(1, 1), gain=4)` as two passes: (N,C,H,W) -> (N,C,H-1,W-1)."""
    x = F.pad(x, (1, 1, 1, 1))
    x = (x[:, :, :-3] + 3 * (x[:, :, 1:-2] + x[:, :, 2:-1]) + x[:, :, 3:]) * 0.25
    return (x[..., :-3] + 3 * (x[..., 1:-2] + x[..., 2:-1]) + x[..., 3:]) * 0.25


def blur_between(even: Tensor, odd: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`blur` along one dimension of what is given as its even (n+1) and its odd (n) members: even and odd results (n).

    Both are in channels-last order (N,H,W,C), and `dim` is 1 or 2.
    """
    n = odd.shape[dim]
    odd = F.pad(odd, (0, 0) * (3 - dim) + (1, 1))
    e0, e1 = even.narrow(dim, 0, n), even.narrow(dim, 1, n)
    before, here, after = (odd.narrow(dim, start, n) for start in range(3))
    return (before + 3 * (e0 + here) + e1) * 0.25, (e0 + 3 * (here + e1) + after) * 0.25


def interleaved(parts: tuple[Tensor, Tensor], dim: int) -> Tensor:
    """Two tensors (N,H,W,C) taking turns along `dim`."""
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)


def warp(feature: Tensor, flow: Tensor, mask: Tensor, identity: Tensor) -> Tensor:
    """mask * grid_sample(feature, identity + flow), in float32.

    Args:
        feature: one portrait's map (1,C,n,n); expanded, never copied per frame.
        flow: offsets x, y (N,2,n,n), in units of half the image.
        mask: (N,1,n,n).
        identity: sampling positions without flow (n,n,2).

    Returns: (N,C,n,n); on a CPU in channels last, where a pixel is a row of a table: mixing rows is what
        `embedding_bag` is made for, and takes a sixth of the time.
    """
    feature = feature.float()
    if feature.device.type == "cpu":
        table = feature.permute(0, 2, 3, 1).flatten(0, 2)
        pixels, weights = taps(flow, mask, identity)
        mixed = F.embedding_bag(pixels, table, per_sample_weights=weights, mode="sum")
        return mixed.view(len(flow), *identity.shape[:2], -1).permute(0, 3, 1, 2)
    grid = flow.permute(0, 2, 3, 1) + identity
    feature = feature.expand(len(flow), -1, -1, -1)
    return F.grid_sample(feature, grid, mode="bilinear", padding_mode="zeros", align_corners=False) * mask


def taps(flow: Tensor, mask: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels that `warp` mixes for each pixel of a frame, and their weights.

    Returns: numbers of pixels (N*n*n,4), row by row, and their weights; the weight of a pixel outside the map is 0.
    """
    side = len(identity)
    line = ((identity[0, :, 0] + 1) * side - 1) / 2  # pixel coordinates without flow; align_corners is False
    x, y = flow[:, 0] * (side / 2) + line, flow[:, 1] * (side / 2) + line[:, None]
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top

    def number(position: Tensor) -> Tensor:
        return position.int().clamp(0, side - 1)  # in this order, because NaN may become any number

    def inside(position: Tensor) -> Tensor:
        return ((position >= 0) & (position < side)).to(position.dtype)

    lefts, rights = number(left), number(left + 1)
    tops, bottoms = number(top) * side, number(top + 1) * side
    # Products, and not torch.where, so that NaN stays visible.
    from_left, from_right = (1 - right_share) * inside(left), right_share * inside(left + 1)
    from_top, from_bottom = (1 - bottom_share) * inside(top) * mask[:, 0], bottom_share * inside(top + 1) * mask[:, 0]
    pixels = [tops + lefts, tops + rights, bottoms + lefts, bottoms + rights]
    weights = [from_top * from_left, from_top * from_right, from_bottom * from_left, from_bottom * from_right]
    return torch.stack(pixels, dim=-1).view(-1, 4), torch.stack(weights, dim=-1).view(-1, 4)


def _constant(tensor: Tensor, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A frozen weight in the memory format that convolutions read here.

    Kernels of one pixel take their input in either layout: CUDA's `grid_sample` gives them channels first.
    """
    tensor = tensor.detach().to(dtype)
    last = tensor.dim() == 4 and tensor.shape[2:] != (1, 1)
    layout = torch.channels_last if last else torch.contiguous_format
    return nn.Parameter(tensor.contiguous(memory_format=layout), requires_grad=False)


def _scaled(x: Tensor, gain: Tensor) -> Tensor:
    """Maps (N,C,H,W) with each channel multiplied by its float32 gain (N,C), in the type of the maps."""
    return x * gain.to(x.dtype)[:, :, None, None]


class _Styled(nn.Module):
    """Folded weights of a `StyledConv`. The style of a call is computed outside, together with those of all layers."""

    def __init__(self, source: StyledConv, dtype: torch.dtype) -> None:
        super().__init__()
        conv = source.conv
        weight = conv.weight * conv.scale
        self.up = conv.blur is not None
        self.bias = _constant(source.bias, dtype)
        self.power = _constant(weight.square().sum((2, 3)).T)  # (I,O)
        self._take(weight, dtype)

    def _take(self, weight: Tensor, dtype: torch.dtype) -> None:
        """Keep the kernel (O,I,3,3) as `_convolved` needs it."""
        self.weight = _constant(weight.transpose(0, 1) if self.up else weight, dtype)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """Input (N,I,H,W), gain (N,I) -> activated (N,O,H,W), or twice the side."""
        x, unit = self._convolved(_scaled(x, gain))
        demodulation = torch.rsqrt(gain.square() @ self.power + 1e-8)
        return leaky(_scaled(x, demodulation if unit is None else demodulation * unit), self.bias)

    def _convolved(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N,I,H,W) -> (N,O,H,W), or twice the side, and by what to multiply it (N,1); None is 1."""
        if self.up:
            return blur(F.conv_transpose2d(x, self.weight, stride=2)), None
        return F.conv2d(x, self.weight, padding=1), None


class _Int8Styled(_Styled):
    """The same with products of integers.

    A transposed convolution of stride 2 is four convolutions, one for the even and the odd rows and columns each, of
    the taps that reach them: as many products as before.
    """

    def _take(self, weight: Tensor, dtype: torch.dtype) -> None:
        if not self.up:
            self.parts = nn.ModuleList([Int8Conv(weight, (1, 1), dtype)])
            return
        taps, pads = ([2, 0], [1]), (1, 0)
        self.parts = nn.ModuleList(
            Int8Conv(weight[:, :, taps[row]][..., taps[column]], (pads[row], pads[column]), dtype)
            for row in range(2)
            for column in range(2)
        )

    def _convolved(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        whole, unit = quantised(x)
        whole = whole.contiguous(memory_format=torch.channels_last)
        found = [part(whole) for part in self.parts]
        if not self.up:
            return found[0], unit[:, :, 0, 0]
        even_even, even_odd, odd_even, odd_odd = (part.permute(0, 2, 3, 1) for part in found)
        left, right = blur_between(even_even, odd_even, 1), blur_between(even_odd, odd_odd, 1)
        rows = [interleaved(blur_between(*columns, 2), 2) for columns in zip(left, right, strict=True)]
        return interleaved((rows[0], rows[1]), 1).permute(0, 3, 1, 2), unit[:, :, 0, 0]


class _Stage(nn.Module):
    """Folded weights of a `DecoderStage`."""

    def __init__(self, source: DecoderStage, side: int, dtype: torch.dtype, styled: type[_Styled]) -> None:
        super().__init__()
        self.up, self.refine = styled(source.up, dtype), styled(source.refine, dtype)
        flow, colour = source.warp.conv, source.rgb.conv
        assert colour.bias is not None
        self.flow_weight = _constant(flow.weight * flow.scale)
        self.flow_bias = _constant(source.warp.bias)
        self.colour_weight = _constant(colour.weight * colour.scale)
        self.colour_bias = _constant(colour.bias)
        self.base = _constant(source.rgb.bias)
        self.identity = _constant(identity_grid(side, flow.weight.device))


class FastDecoder(nn.Module):
    """Latents of frames and the features of their single portrait -> frames."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype = torch.float32, *, int8: bool = False) -> None:
        """`dtype` is that of the convolutions: float32, bfloat16 or float16; with `int8`, that of what is between."""
        super().__init__()
        self.dtype = dtype
        styled = _Int8Styled if int8 else _Styled
        self.constant = _constant(decoder.constant, dtype)
        self.upsample = Upsample()
        self.first = styled(decoder.first, dtype)
        stages = [stage for stage in decoder.stages if isinstance(stage, DecoderStage)]
        self.stages = nn.ModuleList(_Stage(stage, 8 << number, dtype, styled) for number, stage in enumerate(stages))
        modulated: list[ModulatedConv] = [decoder.first.conv]
        for stage in stages:
            modulated += [stage.up.conv, stage.refine.conv, stage.warp.conv]
        layers = [conv.modulation for conv in modulated]
        self.widths = [len(layer.weight) for layer in layers]
        self.style_weight = _constant(torch.cat([layer.weight * layer.scale for layer in layers]))
        self.style_bias = _constant(torch.cat([layer.bias for layer in layers]))

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """Latent w_s + r (N,D), features of one portrait (1,C,n,n), channels last -> RGB (N,3,S,S); all float32."""
        gains = F.linear(latent, self.style_weight, self.style_bias).split(self.widths, dim=1)
        x = self.first(self.constant, gains[0])
        flow = rgb = None
        for number, (stage, feature) in enumerate(zip(self.stages, features, strict=True)):
            assert isinstance(stage, _Stage)
            up_gain, refine_gain, flow_gain = gains[3 * number + 1 : 3 * number + 4]
            x = stage.up(x, up_gain)
            x = stage.refine(x, refine_gain)
            head = F.conv2d(_scaled(x.float(), flow_gain), stage.flow_weight, stage.flow_bias).contiguous()
            flow = head if flow is None else head + self.upsample(flow)
            mask = torch.sigmoid(flow[:, 2:])
            place = torch.tanh(flow[:, :2]), mask, stage.identity
            if number + 1 < len(self.stages):
                warped = warp(feature, *place)
                colour = F.conv2d(warped, stage.colour_weight)
                # In this order: the sum has the layout of its first term, channels last.
                x = (x * (1 - mask) + warped).to(self.dtype)
            else:  # of the finest map, only the colours are needed, and they can be computed before it is warped
                colour = warp(F.conv2d(feature.float(), stage.colour_weight), *place)
            colour = leaky(colour, stage.colour_bias) + stage.base.view(1, 3, 1, 1)
            rgb = colour if rgb is None else colour + self.upsample(rgb)
        assert rgb is not None
        return rgb
