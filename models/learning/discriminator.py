"""Discriminators for training the auto-encoder: StyleGAN2's, for the whole frame and for the eyes and lips.

StyleGAN2 (Karras et al., arXiv 1912.04958) adds the standard deviation over the minibatch as a feature. Ours does not,
because a sample's logit would depend on its neighbours in the batch, and training on two workers would differ from
training on one.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import ResidualBlock
from models.layers import EqualConv, EqualLinear
from models.learning.losses import crop_boxes

EYE_SHARE, LIPS_SHARE = 8, 4
"""The side of a crop is that of the image divided by this: at 512 px, 64 px for an eye and 128 px for the lips."""
LEAST_CROP = 8
"""Pixels."""


def widths(side: int, multiplier: float = 1.0) -> list[int]:
    """Channels at 4, 8, ..., `side` px: multiplier x 16384 / pixels, at most 512 (and no more than 512 x multiplier).

    1 gives the widths of the released auto-encoder; StyleGAN2's largest configuration has 2.
    """
    if side < 8 or side & (side - 1):
        raise ValueError(f"side must be a power of two from 8 on, got {side}")
    sides = [4 << i for i in range(side.bit_length() - 2)]
    return [max(1, int(min(512, 512 * multiplier, multiplier * 16384 / n))) for n in sides]


class Discriminator(nn.Module):
    """Residual StyleGAN2 discriminator without minibatch deviation: an image -> logit, higher for a real image."""

    def __init__(self, side: int, multiplier: float = 1.0) -> None:
        """`side` is that of the image, a power of two from 8 on; for `multiplier` see `widths`."""
        super().__init__()
        self.side = side
        falling = widths(side, multiplier)[::-1]
        last = falling[-1]
        self.stem = EqualConv(3, falling[0], 1, activate=True)
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise(falling))
        self.mix = EqualConv(last, last, 3, activate=True)
        self.hidden = EqualLinear(last * 16, last)
        self.to_logit = EqualLinear(last, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B,3,S,S) in [-1,1] -> logit (B,), and the maps (B,C,n,n) after the stem and each block, from S to 4 px."""
        if image.dim() != 4 or image.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"image must be (B,3,{self.side},{self.side}), got {tuple(image.shape)}")
        x = self.stem(image)
        maps = [x]
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        x = F.leaky_relu(self.hidden(self.mix(x).flatten(1)), 0.2) * math.sqrt(2)
        return self.to_logit(x).squeeze(1), maps


class TwoScale(nn.Module):
    """One discriminator for the image, and one for the image at half its side."""

    def __init__(self, side: int, multiplier: float = 1.0) -> None:
        super().__init__()
        self.full_size = Discriminator(side, multiplier)
        self.half_size = Discriminator(side // 2, multiplier)

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,S,S) in [-1,1] -> logits (B,2)."""
        return torch.stack([self.full_size(image)[0], self.half_size(F.avg_pool2d(image, 2))[0]], dim=1)


class ComponentJudgement(NamedTuple):
    """What a component's discriminator says about K crops of each image."""

    logits: Tensor
    """(B,K)."""
    maps: list[Tensor]
    """Features (B*K,C,n,n), with the K crops of an image one after another."""


class ComponentCritic(nn.Module):
    """Discriminator of one component of the face, cropped from the image: its eyes, one by one, or its lips."""

    def __init__(self, side: int, multiplier: float = 1.0) -> None:
        """`side` is that of the crops, not of the image."""
        super().__init__()
        self.discriminator = Discriminator(side, multiplier)

    def forward(self, image: Tensor, boxes: Tensor) -> ComponentJudgement:
        """(B,3,S,S), boxes (B,K,4) in shares of S."""
        crops = crop_boxes(image, boxes, self.discriminator.side)
        logits, maps = self.discriminator(crops.flatten(0, 1))
        return ComponentJudgement(logits.unflatten(0, crops.shape[:2]), maps)


class Judgement(NamedTuple):
    """What all discriminators say about a batch."""

    picture: Tensor
    """(B,2)."""
    eyes: ComponentJudgement
    lips: ComponentJudgement


class Critics(nn.Module):
    """All discriminators for training: of the image at two scales, of the eyes, and of the lips."""

    def __init__(self, side: int, multiplier: float = 1.0) -> None:
        """`side` is that of the image, a power of two from 16 on; for `multiplier` see `widths`."""
        super().__init__()
        self.picture = TwoScale(side, multiplier)
        self.eyes = ComponentCritic(max(LEAST_CROP, side // EYE_SHARE), multiplier)
        self.lips = ComponentCritic(max(LEAST_CROP, side // LIPS_SHARE), multiplier)

    def forward(self, image: Tensor, boxes: Tensor) -> Judgement:
        """(B,3,S,S) in [-1,1], boxes (B,3,4) of right eye, left eye, mouth."""
        return Judgement(self.picture(image), self.eyes(image, boxes[:, :2]), self.lips(image, boxes[:, 2:]))
