"""Motion latent auto-encoder (FLOAT's phase 1; LIA family, arXiv 2203.09043).

An image becomes an identity latent, a motion latent and skip features. The decoder warps the portrait's own features by
the flow that a motion latent describes. Nothing is generated from scratch.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import FloatConfig
from models.layers import EqualConv, EqualLinear, ModulatedConv, StyledConv, Upsample, leaky


@dataclass(frozen=True)
class Portrait:
    """What the encoder extracts from a batch of images.

    `identity` w_s (B,D); `coefficients` lambda (B,M); `motion` r = Q lambda (B,D), the reference motion r_s of a source
    image; `features` skip feature maps from 8 px up to the image's resolution, each (B,C,N,N).
    """

    identity: Tensor
    coefficients: Tensor
    motion: Tensor
    features: list[Tensor]

    def __getitem__(self, index: int) -> "Portrait":
        """One portrait of the batch, with a batch axis of 1."""
        one = slice(index, index + 1)
        return Portrait(self.identity[one], self.coefficients[one], self.motion[one], [f[one] for f in self.features])


class ResidualBlock(nn.Module):
    """Two convolutions and a 1x1 skip, halving the side; sum / sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(inputs, inputs, 3, activate=True)
        self.conv2 = EqualConv(inputs, outputs, 3, down=True, activate=True)
        self.skip = EqualConv(inputs, outputs, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B,I,N,N) -> (B,O,N/2,N/2)."""
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class Encoder(nn.Module):
    """Image -> identity latent, motion coefficients, skip features."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        falling = config.channels[::-1]
        latent = config.latent_dim
        self.stem = EqualConv(3, falling[0], 1, activate=True)
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise(falling))
        self.to_identity = EqualConv(falling[-1], latent, 4, activate=False)
        # Five linear layers without an activation between them, as trained: their product is one linear map.
        sizes = [latent] * 5 + [config.directions]
        self.to_coefficients = nn.Sequential(*(EqualLinear(i, o) for i, o in pairwise(sizes)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B,3,S,S) -> identity (B,D), coefficients (B,M), features from 8 px to S px."""
        x = self.stem(image)
        features = [x]
        for block in self.blocks:
            x = block(x)
            features.append(x)
        identity = self.to_identity(features.pop()).flatten(1)
        return identity, self.to_coefficients(identity), features[::-1]


class MotionDirections(nn.Module):
    """M orthonormal directions of motion: Q of the QR decomposition of the weight (D,M)."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(config.latent_dim, config.directions))
        self._known: tuple[Tensor, object, Tensor] | None = None

    @property
    def basis(self) -> Tensor:
        """Q (D,M). The decomposition runs in float32 whatever the weight's type.

        Without gradients it runs once for a weight, and on the CPU: a GPU would wait for every portrait's.
        """
        weight = self.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return self._orthonormal(weight)
        state = (weight._version, weight.device, weight.dtype)
        if self._known is None or self._known[0] is not weight or self._known[1] != state:
            self._known = (weight, state, self._orthonormal(weight.detach().cpu()).to(weight.device))
        return self._known[2]

    @staticmethod
    def _orthonormal(weight: Tensor) -> Tensor:
        return torch.linalg.qr(weight.float() + 1e-8).Q.to(weight.dtype)

    def forward(self, coefficients: Tensor) -> Tensor:
        """lambda (B,M) -> motion latent r = Q lambda (B,D)."""
        return coefficients @ self.basis.T

    def project(self, motion: Tensor) -> Tensor:
        """Motion latent r (B,D) -> coefficients lambda_k = <r, Q_k> (B,M), for editing one direction."""
        return motion @ self.basis


def identity_grid(side: int, device: torch.device) -> Tensor:
    """Sampling positions x, y (side,side,2) float32 that leave an image almost unchanged.

    The grid's corners are pixel *centres* in this model, although it is sampled with align_corners=False: the weights
    were trained this way, so they must also be run this way.
    """
    line = torch.linspace(-1, 1, side, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


class WarpHead(nn.Module):
    """Flow head: where each pixel of a feature map comes from, and how much of it to use.

    It has three channels, accumulated from resolution to resolution: tanh of the first two is an offset in units of
    half the image, and the sigmoid of the third is the mask between warped and synthesised features.
    """

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.upsample = Upsample()

    def forward(
        self, x: Tensor, style: Tensor, feature: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Warp a feature map, that of one portrait (1,C,N,N) or each frame's own (B,C,N,N).

        Returns (warped feature * mask (B,C,N,N), mask (B,1,N,N), this head's output (B,3,N,N)).
        """
        flow = self.conv(x, style) + self.bias.view(1, 3, 1, 1)
        if coarser is not None:
            flow = flow + self.upsample(coarser)
        side = x.shape[-1]
        grid = torch.tanh(flow[:, :2].float()).permute(0, 2, 3, 1) + identity_grid(side, x.device)
        mask = torch.sigmoid(flow[:, 2:3])
        # expand() is a view: one portrait's features are never copied per frame.
        feature = feature.expand(len(x), -1, -1, -1)
        # In float32 even if the rest is bfloat16, which cannot represent each of 512 pixel positions.
        warped = F.grid_sample(feature.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return warped.to(feature.dtype) * mask, mask, flow


class RGBHead(nn.Module):
    """Colour from warped features, accumulated from resolution to resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = EqualConv(channels, 3, 1, activate=True)
        self.bias = nn.Parameter(torch.zeros(3))
        self.upsample = Upsample()

    def sums(self, features: Tensor) -> Tensor:
        """Weighted sums of the channels, before the activation: (B,C,N,N) -> (B,3,N,N)."""
        return F.conv2d(features, self.conv.weight * self.conv.scale)

    def forward(self, sums: Tensor, coarser: Tensor | None) -> Tensor:
        """`sums` of the warped features (B,3,N,N) and the head below (B,3,N/2,N/2) -> (B,3,N,N)."""
        assert self.conv.bias is not None
        rgb = leaky(sums, self.conv.bias) + self.bias.view(1, 3, 1, 1)
        return rgb if coarser is None else rgb + self.upsample(coarser)


class DecoderStage(nn.Module):
    """One resolution: double the side, refine, warp the portrait's features, and compute the colours."""

    def __init__(self, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.up = StyledConv(inputs, outputs, style_dim, up=True)
        self.refine = StyledConv(outputs, outputs, style_dim)
        self.warp = WarpHead(outputs, style_dim)
        self.rgb = RGBHead(outputs)

    def forward(
        self, x: Tensor, latent: Tensor, feature: Tensor, flow: Tensor | None, rgb: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (N,I,n/2,n/2), feature (1,O,n,n) or (N,O,n,n), both heads' outputs at n/2 px -> x (N,O,n,n), flow
        (N,3,n,n), rgb (N,3,n,n).
        """
        x = self.refine(self.up(x, latent), latent)
        warped, mask, flow = self.warp(x, latent, feature, flow)
        return warped + x * (1 - mask), flow, self.rgb(self.rgb.sums(warped), rgb)

    def colours(self, x: Tensor, latent: Tensor, feature: Tensor, flow: Tensor | None, rgb: Tensor | None) -> Tensor:
        """Only the last of the results of `forward`, in a fraction of the time.

        Warping and the head's sums are linear, so three sums are warped instead of all features.
        """
        x = self.refine(self.up(x, latent), latent)
        warped, _, _ = self.warp(x, latent, self.rgb.sums(feature), flow)
        return self.rgb(warped, rgb)


class Decoder(nn.Module):
    """Latent w_s + r and the portrait's features -> frames."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        channels, latent = config.channels, config.latent_dim
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.first = StyledConv(channels[0], channels[0], latent)
        self.stages = nn.ModuleList(DecoderStage(i, o, latent) for i, o in pairwise(channels))

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """Latent (N,D); features of one portrait (1,C,n,n) or of each frame's own (N,C,n,n) -> (N,3,S,S)."""
        x = self.first(self.constant.expand(len(latent), -1, -1, -1), latent)
        flow = rgb = None
        *stages, finest = self.stages
        for stage, feature in zip(stages, features[:-1], strict=True):
            x, flow, rgb = stage(x, latent, feature, flow, rgb)
        assert isinstance(finest, DecoderStage)
        return finest.colours(x, latent, features[-1], flow, rgb)


class Autoencoder(nn.Module):
    """Encoder, motion directions and decoder together."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.directions = MotionDirections(config)
        self.decoder = Decoder(config)

    def encode(self, image: Tensor) -> Portrait:
        """(B,3,S,S) in [-1,1] -> Portrait."""
        identity, coefficients, features = self.encoder(image)
        return Portrait(identity, coefficients, self.directions(coefficients), features)

    def decode(self, portrait: Portrait, motion: Tensor) -> Tensor:
        """Motion latents (N,D) -> frames (N,3,S,S), nominally in [-1,1], not clamped.

        `portrait` contains one portrait for all frames, or one for each of them.
        """
        return self.decoder(portrait.identity + motion, portrait.features)
