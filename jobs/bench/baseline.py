"""The released algorithm as the baseline of `jobs.benchmark`: our weights in the released order of arithmetic.

It is a new implementation of facts taken from the published inference code: one frame at a time; one kernel per sample
and a grouped convolution; every blur as a convolution of one-channel images, and upsampling by inserted zeros; scales,
modulations and sampling positions recomputed in every call; one clip at a time; all frames kept until the last.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import FLOAT, Portrait
from models.autoencoder import DecoderStage, ResidualBlock
from models.layers import Blur, EqualConv, ModulatedConv, StyledConv, leaky


def decode(model: FLOAT, portrait: Portrait, motion: Tensor) -> Tensor:
    """Motion latents (N,D) -> frames (N,3,S,S), one after another."""
    return torch.cat([_frame(model, portrait, latent) for latent in (portrait.identity + motion).split(1)])


def encode(model: FLOAT, image: Tensor) -> Portrait:
    """Image (1,3,S,S) in [-1,1] -> Portrait."""
    encoder = model.autoencoder.encoder
    x = _conv(encoder.stem, image)
    features = [x]
    for block in encoder.blocks:
        assert isinstance(block, ResidualBlock)
        x = (_conv(block.conv2, _conv(block.conv1, x)) + _conv(block.skip, x)) / 2**0.5
        features.append(x)
    identity = _conv(encoder.to_identity, features.pop()).flatten(1)
    coefficients = encoder.to_coefficients(identity)
    return Portrait(identity, coefficients, model.autoencoder.directions(coefficients), features[::-1])


def _frame(model: FLOAT, portrait: Portrait, latent: Tensor) -> Tensor:
    decoder = model.autoencoder.decoder
    x = _styled(decoder.first, decoder.constant.repeat(len(latent), 1, 1, 1), latent)
    flow = rgb = None
    for stage, feature in zip(decoder.stages, portrait.features, strict=True):
        assert isinstance(stage, DecoderStage)
        x = _styled(stage.refine, _styled(stage.up, x, latent), latent)
        head = _modulated(stage.warp.conv, x, latent) + stage.warp.bias.view(1, 3, 1, 1)
        flow = head if flow is None else head + _upsample(flow)
        line = np.linspace(-1, 1, x.shape[-1])
        grid = torch.tensor(np.stack(np.meshgrid(line, line), axis=2)).float()[None].to(x.device)
        warped = F.grid_sample(feature, torch.tanh(flow[:, :2]).permute(0, 2, 3, 1) + grid, align_corners=False)
        mask = torch.sigmoid(flow[:, 2:])
        warped = warped * mask
        x = warped + x * (1 - mask)
        colour = _conv(stage.rgb.conv, warped) + stage.rgb.bias.view(1, 3, 1, 1)
        rgb = colour if rgb is None else colour + _upsample(rgb)
    assert rgb is not None
    return rgb


def _blur(blur: Blur, x: Tensor) -> Tensor:
    n, c, _, _ = x.shape
    x = F.pad(x, blur.padding)
    y = F.conv2d(x.reshape(n * c, 1, *x.shape[-2:]), blur.kernel[None, None])
    return y.view(n, c, *y.shape[-2:])


def _upsample(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    spread = F.pad(x.view(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).view(n, c, 2 * h, 2 * w)
    return _blur(Blur((2, 1), gain=4.0).to(x.device), spread)


def _conv(layer: EqualConv, x: Tensor) -> Tensor:
    stride = layer.stride
    if layer.blur is not None:
        x = _blur(layer.blur, x)
        stride *= layer.blur.stride
    x = F.conv2d(x, layer.weight * layer.scale, stride=stride, padding=layer.padding)
    return x if layer.bias is None else leaky(x, layer.bias)


def _styled(layer: StyledConv, x: Tensor, latent: Tensor) -> Tensor:
    return leaky(_modulated(layer.conv, x, latent), layer.bias)


def _modulated(conv: ModulatedConv, x: Tensor, latent: Tensor) -> Tensor:
    n, inputs, h, w = x.shape
    kernel = conv.scale * conv.weight[None] * conv.modulation(latent)[:, None, :, None, None]  # (N,O,I,k,k)
    if conv.demodulate:
        kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    outputs, size = kernel.shape[1], kernel.shape[-1]
    x = x.reshape(1, n * inputs, h, w)
    if conv.blur is None:
        x = F.conv2d(x, kernel.reshape(n * outputs, inputs, size, size), padding=conv.padding, groups=n)
        return x.view(n, outputs, *x.shape[-2:])
    kernel = kernel.transpose(1, 2).reshape(n * inputs, outputs, size, size)
    x = F.conv_transpose2d(x, kernel, stride=2, groups=n)
    return _blur(conv.blur, x.view(n, outputs, *x.shape[-2:]))
