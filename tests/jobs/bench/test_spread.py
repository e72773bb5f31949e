"""A small model in larger sizes gives the frames and the motion of the small one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from jobs.bench.spread import kept_power, places, spread, waves
from models import FLOAT
from models.transformer import sinusoidal_positions
from tests.tiny import CONFIG

LARGER = replace(CONFIG, channels=(48, 50, 53, 24), latent_dim=32, hidden_dim=64, heads=4, blocks=4, content_dim=192)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return FLOAT(CONFIG).eval()


@torch.no_grad()
def test_the_auto_encoder_gives_the_same_frames(small):
    large = spread(small, LARGER)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    expected, found = small.encode_portrait(image), large.encode_portrait(image)
    torch.testing.assert_close(found.motion, expected.motion.repeat(1, 2), atol=1e-4, rtol=1e-4)
    motion = expected.motion + 0.3 * torch.randn(3, CONFIG.latent_dim)
    frames = large.decode(found, motion.repeat(1, 2))
    torch.testing.assert_close(frames, small.decode(expected, motion), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_the_transformer_gives_the_same_field_up_to_positions(small):
    large = spread(small, LARGER)
    place = waves(CONFIG.hidden_dim, LARGER.hidden_dim)
    large.transformer.positions.copy_(small.transformer.positions[:, :, place])

    def field(model, times):
        generator = torch.Generator().manual_seed(1)
        x, speech = torch.randn(2, 1, CONFIG.window, CONFIG.latent_dim, generator=generator).repeat(1, 1, 1, times)
        motion = torch.randn(1, CONFIG.latent_dim, generator=generator).repeat(1, times)
        before = torch.zeros(1, CONFIG.previous, CONFIG.latent_dim * times)
        conditions = {"emotion": torch.eye(7)[[3]], "reference_motion": motion, "previous_motion": before}
        return model.velocity(x, 0.3, speech=speech, previous_speech=before, **conditions)

    torch.testing.assert_close(field(large, 2), field(small, 1).repeat(1, 1, 2), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_larger_side_shows_the_same_picture(small):
    large = spread(small, replace(LARGER, channels=(*LARGER.channels, 8)))
    image = F.interpolate(torch.rand(1, 3, 4, 4) * 2 - 1, 64, mode="bicubic")
    portrait = large.encode_portrait(image)
    half = F.interpolate(image, 32, mode="area")
    expected = small.decode(small.encode_portrait(half), torch.zeros(1, CONFIG.latent_dim))
    found = F.avg_pool2d(large.decode(portrait, torch.zeros(1, LARGER.latent_dim)), 2)
    assert found.shape == expected.shape
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.7


def test_copies_of_a_channel_contribute_once_and_keep_the_power():
    place = places(5, 18)
    for channel in range(5):
        share = kept_power(place)[place == channel]
        assert share.sum() == pytest.approx(1)
        assert share.square().sum() == pytest.approx(1)


def test_positions_keep_sine_cosine_and_about_their_frequency():
    place = waves(192, 1024)
    assert (place % 2 == torch.arange(1024) % 2).all()
    moved = sinusoidal_positions(2, 192)[0, 1, place] - sinusoidal_positions(2, 1024)[0, 1]
    assert moved.abs().max() < 0.06


def test_a_layer_that_does_not_fit_is_named(small):
    with pytest.raises(ValueError, match="16 channels does not fit into one of 8"):
        spread(small, replace(CONFIG, channels=(8, 16, 16, 8)))
