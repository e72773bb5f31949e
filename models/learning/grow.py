"""Turn a trained auto-encoder into one for images of twice the side, which starts where the smaller one ended.

Training starts small, where a step costs a quarter, as in progressive growing (Karras et al., arXiv 1710.10196), but
nothing is faded in. The encoder halves the larger image and then does what the smaller one did, so motion latents stay
the same. In the decoder, the colour head of the finest resolution moves up: it reads colours alone, because the finest
features are a 1x1 convolution of the image, and reads them from the larger image instead. So the larger model does not
enlarge the frames of the smaller one, but warps the source at the new resolution by the same flow, and is as sharp
before it is trained as the smaller one is at its own size. This is our own addition, and not in the paper.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import Autoencoder, DecoderStage, Encoder, ResidualBlock
from models.config import FloatConfig
from models.layers import EqualConv

LIFT = 2.0
"""Added to colours in [-1,1], so that the activations of the new layers do not change them."""

LEAST_CHANNELS = 16
"""Fewer channels do not carry the colours that the moved head reads, and save little time."""

COLOURS = 4096
"""Number of colours by which the moved head is fitted."""


def larger(config: FloatConfig) -> FloatConfig:
    """The same model for images of twice the side.

    The new feature maps have half the channels of those below them, but not fewer than `LEAST_CHANNELS` if those have
    as many.
    """
    finest = config.channels[-1]
    return replace(config, channels=(*config.channels, max(3, finest // 2, min(LEAST_CHANNELS, finest))))


@torch.no_grad()
def grow(small: Autoencoder, config: FloatConfig) -> Autoencoder:
    """The auto-encoder for `config`, which is `larger` of the config of `small`.

    Unconstrained new weights are drawn.
    """
    large = Autoencoder(config).to(small.decoder.constant.device)
    kept = {}
    for name, value in small.state_dict().items():
        part, _, rest = name.partition("encoder.blocks.")
        if not part and rest:  # their numbers count down from the image's own resolution
            number, _, rest = rest.partition(".")
            name = f"encoder.blocks.{int(number) + 1}.{rest}"
        if not name.startswith("encoder.stem."):
            kept[name] = value
    unknown = large.load_state_dict(kept, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the weights do not have the sizes of a larger model: {', '.join(unknown[:3])}")
    _halve(large.encoder, small.encoder)
    new, old = large.decoder.stages[-1], large.decoder.stages[-2]
    assert isinstance(new, DecoderStage)
    assert isinstance(old, DecoderStage)
    _move_head(large.encoder.stem, new, small.encoder.stem, old)
    return large


def _halve(encoder: Encoder, small: Encoder) -> None:
    """The stem and the first block pass the colours on, halve them by the block's own filter, and do what the old stem
    did.
    """
    stem, block = encoder.stem, encoder.blocks[0]
    assert isinstance(block, ResidualBlock)
    first, second = block.conv1, block.conv2
    assert stem.bias is not None
    assert second.bias is not None
    assert small.stem.bias is not None
    colours = torch.eye(3, device=stem.weight.device)
    stem.weight[:3, :, 0, 0] = colours / stem.scale
    stem.bias[:3] = LIFT
    # Activations multiply by sqrt(2), which the next weights undo; the block divides its sum by sqrt(2).
    first.weight[:3] = 0
    first.weight[:3, :3, 1, 1] = colours / (first.scale * math.sqrt(2))
    weight = small.stem.weight[:, :, 0, 0] * small.stem.scale
    second.weight.zero_()
    second.weight[:, :3, 1, 1] = weight / second.scale
    second.bias.copy_(math.sqrt(2) * (small.stem.bias - LIFT * weight.sum(1)))
    block.skip.weight.zero_()


def _move_head(stem: EqualConv, new: DecoderStage, small: EqualConv, old: DecoderStage) -> None:
    """The finest flow is that of the stage below, and the finest colour head does for the larger image what the head
    below did, which then adds nothing.

    The head below read weighted sums of the features of a 1x1 convolution, `small`. The new stem has the three colours
    (`_halve`), a constant, and as many of these features as it has room for, and the new head the weights by which the
    old one's sums are nearest over many colours. With 12 of the bundled model's 32 features, the error is 50 dB below
    the range of colours.
    """
    assert stem.bias is not None
    assert small.bias is not None
    assert new.rgb.conv.bias is not None
    assert old.rgb.conv.bias is not None
    new.warp.conv.weight.zero_()
    colours = _colours().to(stem.weight.device)
    wanted = F.conv2d(small(colours), old.rgb.conv.weight * old.rgb.conv.scale)
    candidates = small(colours)
    room = len(stem.weight) - 4
    if room >= 0:
        stem.weight[3] = 0
        stem.bias[3] = 1
        for row, feature in enumerate(_nearest(stem(colours)[:, :4], candidates, wanted, room), 4):
            stem.weight[row], stem.bias[row] = small.weight[feature], small.bias[feature]
    fitted = _fit(stem(colours), wanted)
    new.rgb.conv.weight.copy_(fitted[:, :, None, None] / new.rgb.conv.scale)
    new.rgb.conv.bias.copy_(old.rgb.conv.bias)
    new.rgb.bias.copy_(old.rgb.bias)
    # Zero, in the steeper part of the activation: what it learns counts.
    old.rgb.conv.weight.zero_()
    old.rgb.conv.bias.fill_(1)
    old.rgb.bias.fill_(-math.sqrt(2))


def _colours() -> Tensor:
    """Colours (N,3,1,1) in [-1,1] by which a head is fitted: half of them any, half of them near grey, as in images."""
    draw = torch.Generator().manual_seed(0)
    anything = torch.rand(COLOURS // 2, 3, generator=draw) * 2 - 1
    grey = torch.rand(COLOURS // 2, 1, generator=draw) * 2 - 1 + 0.2 * torch.randn(COLOURS // 2, 3, generator=draw)
    return torch.cat([anything, grey.clamp(-1, 1)])[:, :, None, None]


def _fit(features: Tensor, wanted: Tensor) -> Tensor:
    """Weights (O,C) of a 1x1 convolution from features (N,C,1,1) to values (N,O,1,1), by least squares."""
    return torch.linalg.lstsq(features.flatten(1).double(), wanted.flatten(1).double(), driver="gelsd").solution.T


def _nearest(base: Tensor, candidates: Tensor, wanted: Tensor, number: int) -> list[int]:
    """Which features to add to `base`, one after the other, so that `_fit` comes nearest to the wanted values
    (orthogonal matching pursuit with a full search).
    """
    chosen: list[int] = []
    for _ in range(min(number, candidates.shape[1])):
        errors = {}
        for one in set(range(candidates.shape[1])) - set(chosen):
            features = torch.cat([base, candidates[:, [*chosen, one]]], dim=1).flatten(1).double()
            missed = features @ _fit(features, wanted).T - wanted.flatten(1)
            errors[one] = float(missed.square().sum())
        chosen.append(min(errors, key=lambda one: errors[one]))
    return chosen
