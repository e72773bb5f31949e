"""An auto-encoder that grows goes on where the smaller one was."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.autoencoder import Autoencoder
from models.learning.grow import grow, larger
from models.learning.reconstruction import reconstruct
from tests.tiny import CONFIG


def smooth_images(side):
    """(2,3,side,side) in [-1,1] without detail, so that every filter that halves them gives nearly the same."""
    torch.manual_seed(3)
    return F.interpolate(torch.rand(2, 3, 4, 4) * 2 - 1, (side, side), mode="bicubic").clamp(-1, 1)


def small_one():
    torch.manual_seed(1)
    autoencoder = Autoencoder(CONFIG).eval()
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return autoencoder


@torch.no_grad()
def test_the_larger_one_makes_the_same_image_of_an_image():
    small = small_one()
    large = grow(small, larger(CONFIG)).eval()
    pictures = smooth_images(2 * CONFIG.image_size)
    halved = F.avg_pool2d(pictures, 2)
    before, after = small.encode(halved), large.encode(pictures)
    assert len(after.features) == len(before.features) + 1
    inner = slice(2, -2)  # the rim sees zeros beyond the picture, where the filter has none
    feature = before.features[-1][..., inner, inner]
    assert (after.features[-2][..., inner, inner] - feature).abs().max() < 0.05 * feature.abs().max()
    # With the smaller one's features and latents the decoders agree, but for the filter that doubles a picture.
    doubled = large.decoder(before.identity + before.motion, [*before.features, after.features[-1]])
    expected = small.decoder(before.identity + before.motion, before.features)
    found = F.avg_pool2d(doubled, 2)[..., inner, inner]
    assert (found - expected[..., inner, inner]).abs().mean() < 0.1 * expected.std()


def test_every_new_weight_that_matters_can_learn():
    large = grow(small_one(), larger(CONFIG))
    pictures = smooth_images(2 * CONFIG.image_size)
    reconstruct(large, pictures[:1], pictures[1:]).square().sum().backward()
    still = [name for name, p in large.named_parameters() if p.grad is None or not p.grad.abs().max()]
    # Behind weights that are zero at first: they follow a step later.
    stage = f"decoder.stages.{len(CONFIG.channels) - 1}"
    assert all(name.startswith(stage) for name in still), still
    assert large.decoder.stages[-1].rgb.conv.weight.grad.abs().max() > 0
    assert large.encoder.blocks[0].conv2.weight.grad[:, 3:].abs().max() > 0


def test_another_model_s_sizes_are_refused():
    with pytest.raises((ValueError, RuntimeError)):
        grow(small_one(), replace(larger(CONFIG), channels=CONFIG.channels))
