"""The encoder of a grown auto-encoder, computed without the work that growing made superfluous.

`models.learning.grow` makes encoders whose finest blocks only halve the image. Where such an encoder is not trained
(`decoder_only`, latents of `jobs.prepare`), its features and latents follow from the halved images directly: at 256 px
from 64 px in a sixth of the time. The motion of a driving frame needs no finer features at all.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import Autoencoder, Portrait, ResidualBlock
from models.layers import Blur, leaky
from models.learning.grow import LIFT

Stem = tuple[Tensor, Tensor]
"""Weight (C,3) and bias (C) of a 1x1 convolution of the image, which an activation follows."""


class FrozenEncoder:
    """What `Autoencoder.encode` gives, without gradients, as long as the encoder's weights do not change."""

    @torch.no_grad()
    def __init__(self, autoencoder: Autoencoder) -> None:
        self._autoencoder = autoencoder
        encoder = autoencoder.encoder
        assert encoder.stem.bias is not None
        self._stems: list[Stem] = [(encoder.stem.weight[:, :, 0, 0] * encoder.stem.scale, encoder.stem.bias)]
        blocks = [block for block in encoder.blocks if isinstance(block, ResidualBlock)]
        for block in blocks:
            smaller = _halving(self._stems[-1], block)
            if smaller is None:
                break
            self._stems.append(smaller)
        self._blocks = blocks[len(self._stems) - 1 :]
        self.device = encoder.stem.weight.device
        self._halve = Blur((1, 1), stride=2).to(self.device)

    @torch.no_grad()
    def encode(self, image: Tensor, *, features: bool = True) -> Portrait:
        """(B,3,S,S) in [-1,1] -> Portrait. Without `features` it has none that latents do not need."""
        found = []
        for number, (weight, bias) in enumerate(self._stems):
            if number:  # lifted, because the filter sees zeros beyond the image
                image = self._halve(image + LIFT) - LIFT
            if features or number == len(self._stems) - 1:
                found.append(leaky(F.conv2d(image, weight[:, :, None, None]), bias))
        for block in self._blocks:
            found.append(block(found[-1]))
        encoder = self._autoencoder.encoder
        identity = encoder.to_identity(found.pop()).flatten(1)
        coefficients = encoder.to_coefficients(identity)
        return Portrait(identity, coefficients, self._autoencoder.directions(coefficients), found[::-1])


def _halving(stem: Stem, block: ResidualBlock) -> Stem | None:
    """The stem of the smaller encoder, if stem and block are as `grow` makes them; otherwise None."""
    weight, bias = stem
    if len(weight) < 3:
        return None
    colours = torch.eye(3, device=weight.device)
    first, second = block.conv1, block.conv2
    assert first.bias is not None
    assert second.bias is not None
    passing = torch.zeros_like(first.weight[:3])
    passing[:, :3, 1, 1] = colours / math.sqrt(2)
    small = second.weight[:, :3, 1, 1] * second.scale
    only = torch.zeros_like(second.weight)
    only[:, :3, 1, 1] = small / second.scale
    pairs = [
        (weight[:3], colours),
        (bias[:3], torch.full_like(bias[:3], LIFT)),
        (first.weight[:3] * first.scale, passing),
        (first.bias[:3], torch.zeros_like(first.bias[:3])),
        (second.weight, only),
        (block.skip.weight, torch.zeros_like(block.skip.weight)),
    ]
    if not all(torch.allclose(found, wanted, rtol=1e-4, atol=1e-6) for found, wanted in pairs):
        return None
    return small, second.bias / math.sqrt(2) + LIFT * small.sum(1)
