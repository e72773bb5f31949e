"""A trained small model as a model of the paper's size, for measurements where no trained large weights are at hand.

Random weights are no stand-in: they amplify rounding, so no frames of half precision would pass a comparison, and the
engine would be measured in a way in which it does not run with trained weights. Here every channel of the small model
is repeated until the large layer is full (as in Net2Net, Chen et al., arXiv 1511.05641), and the outputs stay those of
the small model: exactly in the auto-encoder, and roughly in the transformer, where layer norms see some channels more
often than others and positions are added in other frequencies. Its further blocks repeat its own with closed gates.
Image sides above that of the small model are added by `models.learning.grow`, with a little flow of their own.
"""

import torch
from torch import Tensor, nn

from models import FLOAT, FloatConfig
from models.autoencoder import Autoencoder, DecoderStage, Encoder, ResidualBlock
from models.layers import EqualConv, EqualLinear, ModulatedConv, StyledConv
from models.learning.grow import grow, larger
from models.transformer import Block, MotionTransformer

SHIFT = 1e-4
"""Standard deviation of the flow heads of the sides that the small model does not have: offsets of a fraction of a
pixel.
"""


def places(small: int, large: int) -> Tensor:
    """For each of `large` channels, the channel of the small layer that it repeats."""
    if large < small:
        raise ValueError(f"a layer of {small} channels does not fit into one of {large}")
    return torch.arange(large) % small


def waves(small: int, large: int) -> Tensor:
    """The same where positions are added: the channel of the nearest frequency, sine for sine and cosine for cosine."""
    channel = torch.arange(large)
    pair = ((2 * (channel // 2) + 1) * (small // 2)) // (2 * (large // 2))
    return 2 * pair + channel % 2


def shares(place: Tensor) -> Tensor:
    """What each copy of an input channel contributes, so that the copies together contribute once: 1/m of m copies."""
    return 1 / place.bincount()[place].float()


def kept_power(place: Tensor) -> Tensor:
    """Like `shares`, and the squares add up to 1 too, which demodulation needs: 2/m, and 2/m - 1 for the last copy."""
    share = 2 * shares(place)
    share[-int(place.max()) - 1 :] -= 1  # the last copy of each channel is among the last channels
    return share


@torch.no_grad()
def spread(small: FLOAT, config: FloatConfig) -> FLOAT:
    """The model `small` in the sizes of `config`, on the CPU, in eval mode.

    Both have the default variant. Raises ValueError if a layer of `small` is larger than that of `config`.
    """
    torch.manual_seed(0)  # of what `grow` draws
    autoencoder = small.autoencoder
    sizes = small.config
    while len(sizes.channels) < len(config.channels):
        sizes = larger(sizes)
        autoencoder = grow(autoencoder, sizes)
        stage = autoencoder.decoder.stages[-1]
        assert isinstance(stage, DecoderStage)
        stage.warp.conv.weight.normal_(0, SHIFT)
    large = _empty(config)
    latent = places(sizes.latent_dim, config.latent_dim)
    widths = [places(*pair) for pair in zip(sizes.channels, config.channels, strict=True)]
    _autoencoder(large.autoencoder, autoencoder, widths, latent)
    _transformer(large.transformer, small.transformer, latent)
    content = places(sizes.content_dim, config.content_dim)
    _linear(large.speech_projection.linear, small.speech_projection.linear, latent, content)
    for name in ("weight", "bias"):
        _copy(getattr(large.speech_projection.norm, name), getattr(small.speech_projection.norm, name)[latent])
    return large.eval()


def _empty(config: FloatConfig) -> FLOAT:
    """A model whose weights are not set yet; drawing 200 million that are replaced would take seconds."""
    with torch.device("meta"):
        model = FLOAT(config)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(weight.shape)))
    return model


def _copy(target: Tensor, values: Tensor) -> None:
    if target.shape != values.shape:
        raise ValueError(f"a weight of {tuple(target.shape)} cannot take {tuple(values.shape)}")
    target.copy_(values)


# --- Auto-encoder ----------------------------------------------------------------------------------------------


def _autoencoder(large: Autoencoder, small: Autoencoder, widths: list[Tensor], latent: Tensor) -> None:
    _encoder(large.encoder, small.encoder, widths, latent)
    _copy(large.directions.weight, small.directions.weight[latent])
    _copy(large.decoder.constant, small.decoder.constant[:, widths[0]])
    _styled(large.decoder.first, small.decoder.first, widths[0], widths[0], latent)
    for number, (new, old) in enumerate(zip(large.decoder.stages, small.decoder.stages, strict=True)):
        assert isinstance(new, DecoderStage)
        assert isinstance(old, DecoderStage)
        inputs, outputs = widths[number], widths[number + 1]
        _styled(new.up, old.up, outputs, inputs, latent)
        _styled(new.refine, old.refine, outputs, outputs, latent)
        three = torch.arange(3)
        _modulated(new.warp.conv, old.warp.conv, three, outputs, latent)
        _copy(new.warp.bias, old.warp.bias)
        _conv(new.rgb.conv, old.rgb.conv, three, outputs)
        _copy(new.rgb.bias, old.rgb.bias)


def _encoder(large: Encoder, small: Encoder, widths: list[Tensor], latent: Tensor) -> None:
    falling = widths[::-1]
    _conv(large.stem, small.stem, falling[0], torch.arange(3))
    for number, (new, old) in enumerate(zip(large.blocks, small.blocks, strict=True)):
        assert isinstance(new, ResidualBlock)
        assert isinstance(old, ResidualBlock)
        inputs, outputs = falling[number], falling[number + 1]
        _conv(new.conv1, old.conv1, inputs, inputs)
        _conv(new.conv2, old.conv2, outputs, inputs)
        _conv(new.skip, old.skip, outputs, inputs)
    _conv(large.to_identity, small.to_identity, latent, falling[-1])
    pairs = list(zip(large.to_coefficients, small.to_coefficients, strict=True))
    for number, (to, source) in enumerate(pairs):
        assert isinstance(to, EqualLinear)
        assert isinstance(source, EqualLinear)
        last = number == len(pairs) - 1
        _equal_linear(to, source, torch.arange(len(source.weight)) if last else latent, latent)
        if last:  # the repeated directions are longer, and their basis is orthonormal again
            longer = (len(latent) / (int(latent.max()) + 1)) ** 0.5
            to.weight.mul_(longer)
            to.bias.mul_(longer)


def _conv(to: EqualConv, source: EqualConv, outputs: Tensor, inputs: Tensor) -> None:
    _copy(to.weight, _taken(source.weight, outputs, inputs, shares(inputs)) * (source.scale / to.scale))
    if to.bias is not None and source.bias is not None:
        _copy(to.bias, source.bias[outputs])


def _equal_linear(to: EqualLinear, source: EqualLinear, outputs: Tensor, inputs: Tensor) -> None:
    _copy(to.weight, _taken(source.weight, outputs, inputs, shares(inputs)) * (source.scale / to.scale))
    _copy(to.bias, source.bias[outputs])


def _modulated(to: ModulatedConv, source: ModulatedConv, outputs: Tensor, inputs: Tensor, latent: Tensor) -> None:
    share = kept_power(inputs) if source.demodulate else shares(inputs)
    _copy(to.weight, _taken(source.weight, outputs, inputs, share) * (source.scale / to.scale))
    _equal_linear(to.modulation, source.modulation, inputs, latent)


def _styled(to: StyledConv, source: StyledConv, outputs: Tensor, inputs: Tensor, latent: Tensor) -> None:
    _modulated(to.conv, source.conv, outputs, inputs, latent)
    _copy(to.bias, source.bias[outputs])


def _taken(weight: Tensor, outputs: Tensor, inputs: Tensor, share: Tensor) -> Tensor:
    """Rows and columns of a weight (O,I,...), with the share of each column."""
    return weight[outputs][:, inputs] * share.view(1, -1, *[1] * (weight.dim() - 2))


# --- Transformer -----------------------------------------------------------------------------------------------


def _transformer(large: MotionTransformer, small: MotionTransformer, latent: Tensor) -> None:
    hidden = waves(small.config.hidden_dim, large.config.hidden_dim)
    wide = places(small.config.mlp_ratio * small.config.hidden_dim, large.config.mlp_ratio * large.config.hidden_dim)
    before = small.config.latent_dim
    emotion = torch.arange(2 * before, small.embed_condition.in_features)
    times = torch.arange(2 * small.embed_time.frequencies)
    _linear(large.embed_motion, small.embed_motion, hidden, latent)
    _linear(large.embed_condition, small.embed_condition, hidden, torch.cat([latent, before + latent, emotion]))
    _linear(large.embed_time.mlp[0], small.embed_time.mlp[0], hidden, times)
    _linear(large.embed_time.mlp[2], small.embed_time.mlp[2], hidden, hidden)
    repeats = len(large.blocks) // len(small.blocks)
    for number, new in enumerate(large.blocks):
        old = small.blocks[min(number // repeats, len(small.blocks) - 1)]
        assert isinstance(new, Block)
        assert isinstance(old, Block)
        _block(new, old, hidden, wide)
        if number % repeats:  # it computes as much as the first of the repeats, and its gates are closed
            for gate in (2, 5):
                rows = slice(gate * len(hidden), (gate + 1) * len(hidden))
                new.modulation.weight[rows] = 0
                new.modulation.bias[rows] = 0
    assert large.final_modulation is not None
    _linear(large.final_modulation, small.final_modulation, _parts(hidden, 2), hidden)
    _linear(large.to_velocity, small.to_velocity, latent, hidden)


def _block(new: Block, old: Block, hidden: Tensor, wide: Tensor) -> None:
    heads = torch.arange(new.attention.heads) % old.attention.heads
    length, shorter = len(hidden) // new.attention.heads, (int(hidden.max()) + 1) // old.attention.heads
    within = places(shorter, length)
    value = (heads[:, None] * shorter + within).flatten()
    _linear(new.attention.qkv, old.attention.qkv, _parts(value, 3), hidden)
    # Products of queries and keys add up the copies, and are divided by the root of a head's length.
    query = (shares(within) * (length / shorter) ** 0.5).repeat(len(heads))
    new.attention.qkv.weight[: len(hidden)] *= query[:, None]
    new.attention.qkv.bias[: len(hidden)] *= query
    _linear(new.attention.out, old.attention.out, hidden, value)
    _linear(new.mlp[0], old.mlp[0], wide, hidden)
    _linear(new.mlp[2], old.mlp[2], hidden, wide)
    _linear(new.modulation, old.modulation, _parts(hidden, 6), hidden)


def _linear(to: nn.Module, source: nn.Module | None, outputs: Tensor, inputs: Tensor) -> None:
    assert isinstance(to, nn.Linear)
    assert isinstance(source, nn.Linear)
    _copy(to.weight, _taken(source.weight, outputs, inputs, shares(inputs)))
    _copy(to.bias, source.bias[outputs])


def _parts(place: Tensor, count: int) -> Tensor:
    """Channels of `count` results that one layer gives together."""
    small = int(place.max()) + 1
    return torch.cat([part * small + place for part in range(count)])
