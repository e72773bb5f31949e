"""One training step of the auto-encoder (FLOAT's phase 1): a frame is reconstructed from another one of the same clip.

The passes of the generator and of the discriminators are functions; the caller is responsible for optimisers, devices
and processes. Losses are per sample: the caller weights and averages them.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder, Portrait, WarpHead
from models.layers import EqualLinear, ModulatedConv
from models.learning.discriminator import Critics
from models.learning.losses import (
    component_loss,
    component_masks,
    critic_adversarial,
    error_level,
    feature_style_loss,
    generator_adversarial,
    l1,
    masked_l1,
    perceptual_loss,
    texture_loss,
)
from models.learning.perceptual import COMPONENT_LEVELS, GradientPyramid, Pyramid

MOUTH = 2
"""Index of the mouth among the boxes, after both eyes."""


@dataclass(frozen=True)
class ReconstructionWeights:
    """The weights of the generator's loss terms. A term of weight 0 is not computed. The defaults are FLOAT's."""

    l1: float = 1.0
    """Mean absolute difference."""
    perceptual: float = 10.0
    """The pyramid's features at every scale."""
    component: float = 100.0
    """The pyramid's features of the whole image, inside the boxes of the eyes and the mouth."""
    adversarial: float = 1.0
    """Discriminator of the image, the sum of both scales."""
    component_adversarial: float = 1.0
    """Discriminators of the eyes (the mean of both) and of the lips, added."""
    feature_style: float = 100.0
    """Gram matrices of these discriminators' features, with those of eyes and lips added."""
    gradient: float = 0.0
    """Not in the paper: the features of `GradientPyramid`, which is L1 at four sizes, of colours and of their
    differences.
    """
    mouth: float = 0.0
    """Not in the paper: additional L1 inside the mouth's box, a small part of an image that matters most for a clip."""
    texture: float = 0.0
    """Not in the paper: `texture_loss`, which asks for as much detail as the target has."""

    level: float = 0.0
    """Not in the paper: `error_level`, the squared difference in dB."""

    def __post_init__(self) -> None:
        wrong = [
            f"{field.name} = {getattr(self, field.name)}" for field in fields(self) if getattr(self, field.name) < 0
        ]
        if wrong:
            raise ValueError(f"loss weights must be 0 or more, got {', '.join(wrong)}")

    @property
    def need_pyramid(self) -> bool:
        """Whether a term compares perceptual features."""
        return bool(self.perceptual or self.component)

    @property
    def need_critics(self) -> bool:
        """Whether a term needs discriminators."""
        return bool(self.adversarial or self.component_adversarial or self.feature_style)


Terms = dict[str, Tensor]
"""Name of a loss -> its values (B,), unweighted and detached."""


def encode_pair(autoencoder: Autoencoder, source: Tensor, driving: Tensor) -> tuple[Portrait, Portrait]:
    """Both images (B,3,S,S) in [-1,1], encoded in one batch."""
    count = len(source)
    both = autoencoder.encode(torch.cat([source, driving]))

    def part(where: slice) -> Portrait:
        return Portrait(
            both.identity[where], both.coefficients[where], both.motion[where], [f[where] for f in both.features]
        )

    return part(slice(count)), part(slice(count, None))


def reconstruct(autoencoder: Autoencoder, source: Tensor, driving: Tensor) -> Tensor:
    """Decode w_source + r_driving with the source's features: (B,3,S,S) x 2 in [-1,1] -> (B,3,S,S), not clamped.

    With gradients; every parameter of the auto-encoder gets one.
    """
    still, moving = encode_pair(autoencoder, source, driving)
    return autoencoder.decode(still, moving.motion)


def generator_loss(
    output: Tensor,
    target: Tensor,
    boxes: Tensor,
    *,
    weights: ReconstructionWeights,
    pyramid: Pyramid | None,
    critics: Critics | None,
) -> tuple[Tensor, Terms]:
    """Weighted sum of all terms of each sample (B,), and the terms.

    Args:
        output: (B,3,S,S), `reconstruct`; target: the driving frames.
        boxes: of the target (B,3,4), `models.learning.losses`.
        pyramid: network for the perceptual and component losses.
        critics: the discriminators. The caller sets requires_grad_(False) on them for this pass, because otherwise
            their parameters would collect unwanted gradients. Under DDP give the plain module, because they take no
            step here.

    Raises ValueError if a weight above 0 needs an argument that is not given.
    """
    if weights.need_pyramid and pyramid is None:
        raise ValueError(
            "the weights perceptual and component need a feature pyramid: give one, or set these weights to 0"
        )
    if weights.need_critics and critics is None:
        raise ValueError(
            "the weights adversarial, component_adversarial and feature_style need discriminators: give them, or "
            "set these weights to 0"
        )
    output = output.float()
    terms: Terms = {}
    if weights.l1:
        terms["l1"] = l1(output, target)
    if pyramid is not None and weights.need_pyramid:
        found, wanted = pyramid.features(output), pyramid.features(target)
        if weights.perceptual:
            terms["perceptual"] = perceptual_loss(found, wanted)
        if weights.component:
            terms["component"] = component_loss(found[:COMPONENT_LEVELS], wanted[:COMPONENT_LEVELS], boxes)
    if critics is not None and weights.adversarial:
        terms["adversarial"] = generator_adversarial(critics.picture(output)).sum(1)
    if critics is not None and (weights.component_adversarial or weights.feature_style):
        terms |= _component_terms(output, target, boxes, weights, critics)
    if weights.gradient:
        plain = GradientPyramid()
        terms["gradient"] = perceptual_loss(plain.features(output), plain.features(target))
    if weights.mouth:
        mask = component_masks(boxes, output.shape[-1])[:, MOUTH]
        terms["mouth"] = masked_l1(output, target, mask)
    if weights.texture:
        terms["texture"] = texture_loss(output, target)
    if weights.level:
        terms["level"] = error_level(output, target)
    if not terms:
        raise ValueError("all loss weights are 0, so there is nothing to learn from")
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum(0)
    return total, {name: value.detach() for name, value in terms.items()}


def _component_terms(
    output: Tensor, target: Tensor, boxes: Tensor, weights: ReconstructionWeights, critics: Critics
) -> Terms:
    adversarial, style = [], []
    for critic, part in ((critics.eyes, boxes[:, :MOUTH]), (critics.lips, boxes[:, MOUTH:])):
        found = critic(output, part)
        adversarial.append(generator_adversarial(found.logits).mean(1))
        if weights.feature_style:
            with torch.no_grad():
                wanted = critic(target, part)
            per_crop = feature_style_loss(found.maps, wanted.maps)
            style.append(per_crop.unflatten(0, found.logits.shape).mean(1))
    terms: Terms = {}
    if weights.component_adversarial:
        terms["component_adversarial"] = torch.stack(adversarial).sum(0)
    if style:
        terms["feature_style"] = torch.stack(style).sum(0)
    return terms


def critic_loss(real: Tensor, fake: Tensor, boxes: Tensor, critics: nn.Module) -> tuple[Tensor, Terms]:
    """The discriminators' loss per sample (B,): the sum of `critic_picture`, `critic_eyes` and `critic_lips`.

    real, fake: (B,3,S,S), no gradient flows into `fake`; boxes: of both (B,3,4). `critics`: `Critics`, or DDP around
    them: they are called once, as DDP wants it, with real and generated images in one batch.
    """
    judged = critics(torch.cat([real, fake.detach().to(real.dtype)]), boxes.repeat(2, 1, 1))
    terms = {
        "critic_picture": critic_adversarial(*judged.picture.chunk(2)).sum(1),
        "critic_eyes": critic_adversarial(*judged.eyes.logits.chunk(2)).mean(1),
        "critic_lips": critic_adversarial(*judged.lips.logits.chunk(2)).mean(1),
    }
    return torch.stack(list(terms.values())).sum(0), {name: value.detach() for name, value in terms.items()}


# --- Where a fresh training starts -----------------------------------------------------------------------------


@torch.no_grad()
def set_mask_bias(autoencoder: Autoencoder, value: float) -> None:
    """Start training a new model with masks of sigmoid(value) at 8 px, and of sigmoid(k value) at the k-th resolution.

    A mask says how much of the warped portrait to use, and heads accumulate from 8 px upwards. Zero, the value of new
    modules, uses half of each. Below zero, features that the decoder generates itself get the greater share, and a
    small model is less likely to copy the source. Only for new weights: trained ones have their own.
    """
    for head in _warp_heads(autoencoder):
        head.bias[2] = value


@torch.no_grad()
def set_warps_to_rest(autoencoder: Autoencoder) -> None:
    """Start training a new model with the portrait's features in place, instead of scattered over the image.

    Heads with random weights ask for offsets of half an image, and converging from there takes much of a short
    training. Zero weights ask for no offset, whatever the latent, and learn from the first step on. Not in the paper.
    Eight frames of 64 px were reconstructed from each other at 23.6 dB after 300 steps; with random heads, at 20.4 dB
    after 400. Only for new weights.
    """
    for head in _warp_heads(autoencoder):
        head.conv.weight.zero_()


# --- Where a training ends -------------------------------------------------------------------------------------


@torch.no_grad()
def scale_motion(autoencoder: Autoencoder, factor: float) -> None:
    """Multiply motion and identity latents by `factor` without changing any image.

    Both are linear between the encoder's last features and the decoder's modulations, so one side is multiplied and the
    other divided. The second phase then starts from noise with the scale of what it generates, as in latent diffusion
    (Rombach et al., arXiv 2112.10752): a short training left motion latents with a standard deviation of 0.07, compared
    with noise of 1. Not in the paper.
    """
    autoencoder.encoder.to_identity.weight.mul_(factor)
    for layer in autoencoder.encoder.to_coefficients:
        assert isinstance(layer, EqualLinear)
        layer.bias.mul_(factor)
    for module in autoencoder.decoder.modules():
        if isinstance(module, ModulatedConv):
            module.modulation.weight.div_(factor)


def _warp_heads(autoencoder: Autoencoder) -> list[WarpHead]:
    return [module for module in autoencoder.modules() if isinstance(module, WarpHead)]
