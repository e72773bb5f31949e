"""An auto-encoder that grows goes on where the smaller one was, and is sharp at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from models import ModelFolder, load_float
from models.autoencoder import Autoencoder
from models.learning.frozen import FrozenEncoder
from models.learning.grow import grow, larger
from models.learning.reconstruction import reconstruct
from models.pixels import to_tensor
from pipeline.training.frames import gradient_energy, psnr
from tests.tiny import CONFIG

ROOT = Path(__file__).parents[3]


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


@pytest.fixture(scope="module")
def pocket():
    return load_float(ModelFolder.open(ROOT / "models" / "pocket"))


def portrait_and_moved(side):
    """A bundled portrait, and the same one turned by 4 degrees, closer and a little lower: (1,3,side,side) each."""
    with Image.open(ROOT / "jobs" / "demo" / "media" / "portrait_2016.png") as image:
        pixels = to_tensor(np.array(image.convert("RGB"))[None])
    cos, sin = 0.9976 / 1.04, 0.0698 / 1.04
    grid = F.affine_grid(torch.tensor([[[cos, sin, 0.0], [-sin, cos, -0.03]]]), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return [F.interpolate(one, (side, side), mode="area") for one in (pixels, moved)]


def parts(portrait):
    return [portrait.identity, portrait.coefficients, portrait.motion, *portrait.features]


@torch.no_grad()
def test_the_larger_one_encodes_as_the_smaller_one_does():
    small = small_one()
    large = grow(small, larger(CONFIG)).eval()
    pictures = smooth_images(2 * CONFIG.image_size)
    before, after = small.encode(F.avg_pool2d(pictures, 2)), large.encode(pictures)
    assert len(after.features) == len(before.features) + 1
    inner = slice(2, -2)  # the rim sees zeros beyond the picture, where the filter has none
    feature = before.features[-1][..., inner, inner]
    assert (after.features[-2][..., inner, inner] - feature).abs().max() < 0.05 * feature.abs().max()


@pytest.mark.parametrize("times", [1, 2])
@torch.no_grad()
def test_it_is_sharper_and_nearer_than_enlarged_frames_before_it_is_trained(pocket, times):
    large, config = pocket.autoencoder, pocket.config
    for _ in range(times):
        config = larger(config)
        large = grow(large, config).eval()
    source, driving = portrait_and_moved(config.image_size)
    halved = [F.interpolate(one, (pocket.config.image_size,) * 2, mode="area") for one in (source, driving)]
    enlarged = reconstruct(pocket.autoencoder, *halved)
    enlarged = F.interpolate(enlarged, (config.image_size,) * 2, mode="bicubic")
    grown = reconstruct(large, source, driving)
    assert gradient_energy(grown.clamp(-1, 1)) > 1.3 * gradient_energy(enlarged.clamp(-1, 1))
    assert psnr(grown, driving) > psnr(enlarged, driving)


@torch.no_grad()
def test_a_frozen_encoder_gives_what_the_grown_one_gives(pocket):
    sizes = larger(pocket.config)
    twice = grow(grow(pocket.autoencoder, sizes), larger(sizes)).eval()
    pictures = torch.rand(2, 3, *(4 * pocket.config.image_size,) * 2) * 2 - 1
    expected, frozen = twice.encode(pictures), FrozenEncoder(twice)
    found = frozen.encode(pictures)
    assert len(frozen._stems) == len(FrozenEncoder(pocket.autoencoder)._stems) + 2
    torch.testing.assert_close(parts(found), parts(expected), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(frozen.encode(pictures, features=False).motion, expected.motion, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_an_encoder_that_was_trained_after_growing_is_computed_in_full():
    large = grow(small_one(), larger(CONFIG)).eval()
    large.encoder.blocks[0].conv2.weight[:, 3:] += 0.1
    pictures, frozen = smooth_images(2 * CONFIG.image_size), FrozenEncoder(large)
    assert len(frozen._stems) == 1
    torch.testing.assert_close(parts(frozen.encode(pictures)), parts(large.encode(pictures)))


def test_every_new_weight_that_matters_can_learn():
    large = grow(small_one(), larger(CONFIG))
    pictures = smooth_images(2 * CONFIG.image_size)
    reconstruct(large, pictures[:1], pictures[1:]).square().sum().backward()
    still = [name for name, p in large.named_parameters() if p.grad is None or not p.grad.abs().max()]
    # Behind weights that are zero at first: they follow a step later.
    stage = f"decoder.stages.{len(CONFIG.channels) - 1}"
    assert all(name.startswith(stage) for name in still), still
    for head in large.decoder.stages[-2:]:
        assert head.rgb.conv.weight.grad.abs().max() > 0
    assert large.encoder.blocks[0].conv2.weight.grad[:, 3:].abs().max() > 0


def test_another_model_s_sizes_are_refused():
    with pytest.raises((ValueError, RuntimeError)):
        grow(small_one(), replace(larger(CONFIG), channels=CONFIG.channels))
