"""Turn a trained auto-encoder into one for images of twice the side, which starts where the smaller one ended.

Training starts small, where a step costs a quarter, as in progressive growing (Karras et al., arXiv 1710.10196), but
nothing is faded in. The new layers are initialised so that the larger auto-encoder gives the same result as the smaller
one does at half the side, except for the filter that halves the image and a border of two pixels. This is our own
addition, and not in the paper.
"""

import math
from dataclasses import replace

import torch

from models.autoencoder import Autoencoder, DecoderStage, Encoder, ResidualBlock
from models.config import FloatConfig

LIFT = 2.0
"""Added to colours in [-1,1], so that the activations of the new layers do not change them."""


def larger(config: FloatConfig) -> FloatConfig:
    """The same model for images of twice the side; the new feature maps have half the channels of those below them."""
    return replace(config, channels=(*config.channels, max(3, config.channels[-1] // 2)))


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
    _add_nothing(large.decoder.stages[-1])  # type: ignore[arg-type]
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


def _add_nothing(stage: DecoderStage) -> None:
    """The finest flow and colours are those of the stage below."""
    stage.warp.conv.weight.zero_()
    stage.rgb.conv.weight.zero_()
