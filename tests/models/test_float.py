"""FLOAT as a whole, on the small preset: batched equals alone, guidance by its definition, clear refusals."""

import pytest
import torch
from torch import nn

from models import FLOAT, FloatConfig, window_noise
from models.autoencoder import MotionDirections
from models.model_folder import load_float
from tests.tiny import save_tiny_model

TINY = FloatConfig(
    channels=(16, 16, 16, 8),
    latent_dim=16,
    directions=6,
    content_dim=24,
    hidden_dim=32,
    blocks=2,
    heads=2,
    window=10,
    previous=3,
)
SCALES = {"audio_scale": 2.0, "emotion_scale": 1.5, "reference_scale": 0.7}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return FLOAT(TINY).eval()


def clips(count, frames=23):
    generator = torch.Generator().manual_seed(5)
    return (
        torch.randn(count, frames, 16, generator=generator),
        torch.randn(count, 16, generator=generator),
        torch.randn(count, 7, generator=generator).softmax(-1),
    )


def conditions(count):
    speech, reference, emotion = clips(count, frames=10)
    previous = torch.randn(2, count, 3, 16, generator=torch.Generator().manual_seed(6))
    return {
        "speech": speech,
        "emotion": emotion,
        "reference_motion": reference,
        "previous_motion": previous[0],
        "previous_speech": previous[1],
    }


def test_portraits_in_a_batch_are_what_they_are_alone(model):
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    batch = model.encode_portrait(images)
    for i in range(3):
        alone = model.encode_portrait(images[i : i + 1])
        torch.testing.assert_close(batch[i].motion, alone.motion, rtol=1e-4, atol=1e-5)
        for one, other in zip(batch[i].features, alone.features, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_frames_in_a_batch_are_what_they_are_alone(model):
    portrait = model.encode_portrait(torch.rand(1, 3, 32, 32) * 2 - 1)
    motion = portrait.motion + torch.randn(5, 16)
    frames = model.decode(portrait, motion)
    alone = torch.cat([model.decode(portrait, one[None]) for one in motion])
    torch.testing.assert_close(frames, alone, rtol=1e-4, atol=1e-4)


def test_the_decoder_takes_a_portrait_per_frame_too(model):
    portraits = model.encode_portrait(torch.rand(2, 3, 32, 32) * 2 - 1)
    motion = torch.randn(2, 16)
    frames = model.decode(portraits, motion)
    alone = torch.cat([model.decode(portraits[i], motion[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(frames, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_directions_are_orthonormal_and_coefficients_come_back(model):
    directions = model.autoencoder.directions
    basis = directions.basis
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]))
    coefficients = torch.randn(4, basis.shape[1])
    torch.testing.assert_close(directions.project(directions(coefficients)), coefficients, rtol=1e-4, atol=1e-5)


def test_the_basis_is_decomposed_once_and_again_after_the_weight_has_changed():
    directions = MotionDirections(TINY)
    with torch.no_grad():
        first = directions.basis
        assert directions.basis is first
        directions.weight.mul_(2)[0, 0] += 1
        changed = directions.basis
        assert not torch.allclose(changed, first)
        directions.weight = nn.Parameter(torch.randn_like(changed))  # as load_state_dict(assign=True) does
        torch.testing.assert_close(directions.basis, torch.linalg.qr(directions.weight + 1e-8).Q)
    directions(torch.ones(1, TINY.directions)).sum().backward()
    assert directions.weight.grad is not None
    assert directions.weight.grad.abs().sum() > 0


def test_clips_in_a_batch_are_what_they_are_alone_whatever_the_length_of_their_neighbours(model):
    speech, reference, emotion = clips(3)
    seeds, lengths = [3, 4, 5], [23, 10, 17]
    padded = speech.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = padded[row, length - 1]
    together = model.sample_motion(padded, reference, emotion, nfe=4, seeds=seeds, **SCALES)
    for i, length in enumerate(lengths):
        one = slice(i, i + 1)
        alone = model.sample_motion(
            speech[one, :length], reference[one], emotion[one], nfe=4, seeds=[seeds[i]], **SCALES
        )
        torch.testing.assert_close(together[one, :length], alone, rtol=1e-4, atol=1e-4)


def test_clips_of_a_batch_may_have_scales_of_their_own(model):
    speech, reference, emotion = clips(2)
    scales = torch.tensor([1.0, 3.0])
    together = model.sample_motion(speech, reference, emotion, nfe=4, audio_scale=scales, seeds=[1, 2])
    for i in range(2):
        one = slice(i, i + 1)
        alone = model.sample_motion(
            speech[one], reference[one], emotion[one], nfe=4, audio_scale=float(scales[i]), seeds=[i + 1]
        )
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)


def test_guidance_is_the_sum_of_its_plain_branches(model):
    given = conditions(2)
    x = torch.randn(2, 10, 16)

    def plain(*dropped):
        kept = {name: torch.zeros_like(value) if name in dropped else value for name, value in given.items()}
        return model.velocity(x, 0.4, **kept)

    null = plain("reference_motion", "speech", "emotion")
    with_reference = plain("speech", "emotion")
    with_audio = plain("emotion")
    expected = null + 0.7 * (with_reference - null) + 2.0 * (with_audio - with_reference) + 1.5 * (plain() - with_audio)
    torch.testing.assert_close(model.guided_velocity(x, 0.4, **given, **SCALES), expected, rtol=1e-4, atol=1e-5)


def test_all_scales_of_one_are_the_plain_field(model):
    given, x = conditions(2), torch.randn(2, 10, 16)
    guided = model.guided_velocity(x, 0.4, **given, audio_scale=1.0, emotion_scale=1.0, reference_scale=1.0)
    torch.testing.assert_close(guided, model.velocity(x, 0.4, **given))


def test_attention_does_not_reach_beyond_its_radius():
    torch.manual_seed(2)
    one_block = FLOAT(FloatConfig(**{**TINY.to_dict(), "blocks": 1})).eval()
    given, x = conditions(1), torch.randn(1, 10, 16)
    moved = x.clone()
    moved[0, 5] += 1
    change = (one_block.velocity(moved, 0.5, **given) - one_block.velocity(x, 0.5, **given)).abs().sum(-1)[0]
    # Frame 5 is token 8, behind 3 previous ones; a radius of 2 reaches tokens 6 to 10.
    assert [i for i, value in enumerate(change.tolist()) if value > 1e-6] == [6, 7, 8, 9, 10]


def test_seed_decides_the_motion_and_windows_have_noise_of_their_own(model):
    speech, reference, emotion = clips(1)
    first, again, other = (model.sample_motion(speech, reference, emotion, nfe=2, seeds=[s]) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.equal(window_noise(1, 0, 10, 16), window_noise(1, 1, 10, 16))


def test_seeds_and_the_same_noise_by_hand_agree(model):
    speech, reference, emotion = clips(2)
    noise = torch.stack([torch.stack([window_noise(seed, w, 10, 16) for seed in (8, 9)]) for w in range(3)])
    by_noise = model.sample_motion(speech, reference, emotion, nfe=2, noise=noise)
    assert torch.equal(by_noise, model.sample_motion(speech, reference, emotion, nfe=2, seeds=[8, 9]))


def test_shapes_that_do_not_fit_are_refused_with_their_values(model):
    speech, reference, emotion = clips(1)
    with pytest.raises(ValueError, match=r"\(B,3,32,32\), got \(1, 3, 64, 64\)"):
        model.encode_portrait(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="either noise or seeds"):
        model.sample_motion(speech, reference, emotion)
    with pytest.raises(ValueError, match=r"noise must be \(3, 1, 10, 16\)"):
        model.sample_motion(speech, reference, emotion, noise=torch.zeros(1, 1, 10, 16))
    with pytest.raises(ValueError, match="2 seeds for 1 clips"):
        model.sample_motion(speech, reference, emotion, seeds=[1, 2])


def test_the_pocket_preset_is_small_and_comes_back_from_disk(tmp_path):
    folder = save_tiny_model(tmp_path / "model", **FloatConfig.pocket().to_dict())
    model = load_float(folder)
    assert (folder.path / "model.safetensors").stat().st_size / 4 < 7e6  # float32: four bytes a parameter
    assert model.config == FloatConfig.pocket()
    assert model.config.image_size == 128
    folder.verify()
    assert save_tiny_model(tmp_path / "again", **FloatConfig.pocket().to_dict()).hash == folder.hash
