"""The fast decoder and vector field give what the plain modules give."""

import dataclasses
import tempfile

import pytest
import torch
from torch import nn

from models import FLOAT, FloatConfig
from models.fast.compiled import NoCompilerError, _key, compiled
from models.fast.decoder import FastDecoder, blur
from models.fast.vector_field import FastField, kept_conditions
from models.flow import guidance_branches
from models.layers import Blur, Upsample
from models.transformer import WindowConditions
from tests.tiny import CONFIG


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = FloatConfig(
        channels=(24, 24, 16, 8), latent_dim=16, directions=6, content_dim=96, hidden_dim=32, blocks=7, heads=2
    )
    return FLOAT(config).eval()


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_shifted_sums_are_the_blur_and_the_upsampling():
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(blur(x), Blur((1, 1), gain=4.0)(x))
    spread = x.new_zeros(2, 3, 18, 18)
    spread[:, :, ::2, ::2] = x
    torch.testing.assert_close(Upsample()(x), Blur((2, 1), gain=4.0)(spread))


def test_frames_are_those_of_the_plain_decoder(model):
    portrait = model.encode_portrait(torch.rand(1, 3, 32, 32) * 2 - 1)
    latent = portrait.identity + portrait.motion + 0.3 * torch.randn(5, 16)
    expected = model.autoencoder.decoder(latent, portrait.features)
    fast = FastDecoder(model.autoencoder.decoder)
    torch.testing.assert_close(fast(latent, portrait.features), expected, atol=1e-4, rtol=1e-4)


def conditions(config, clips):
    torch.manual_seed(2)
    return {
        "speech": torch.randn(clips, 50, config.latent_dim),
        "emotion": torch.rand(clips, 7),
        "reference_motion": torch.randn(clips, config.latent_dim),
        "previous_motion": torch.randn(clips, 10, config.latent_dim),
        "previous_speech": torch.randn(clips, 10, config.latent_dim),
    }


@pytest.mark.parametrize(
    ("scales", "branches"), [((2.0, 1.0, 1.0), 3), ((1.0, 1.0, 1.0), 1), ((2.0, 1.5, 0.5), 4), ((2.0, 2.0, 1.0), 2)]
)
def test_the_guided_field_is_that_of_the_plain_transformer(model, scales, branches):
    clips = 2
    known = conditions(model.config, clips)
    x, t = torch.randn(clips, 50, 16), torch.tensor([0.3, 0.7])
    audio, emotion, reference = (torch.full((clips,), scale) for scale in scales)
    expected = model.guided_velocity(
        x, t, **known, audio_scale=audio, emotion_scale=emotion, reference_scale=reference
    )[:, 10:]
    used = guidance_branches(audio, emotion, reference)
    assert len(used) == branches
    field = FastField(model.transformer, kept_conditions(used))
    base = field.conditions(WindowConditions(**known))
    velocity = field(x, field.time(t), base, known["previous_motion"])
    weights = torch.stack([branch.weight for branch in used], dim=1)
    torch.testing.assert_close((weights[:, :, None, None] * velocity).sum(1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pose", ["none", "head"])
def test_emotions_and_scales_by_frame_are_those_of_the_plain_transformer(pose):
    torch.manual_seed(3)
    model = FLOAT(dataclasses.replace(CONFIG, blocks=4, pose=pose)).eval()
    known = conditions(model.config, 2) | {"emotion": torch.rand(2, 60, 7)}
    if pose == "head":
        known |= {"pose": torch.randn(2, 50, 6), "previous_pose": torch.randn(2, 10, 6)}
    x, t, scale = torch.randn(2, 50, 16), torch.tensor([0.3, 0.7]), 3 * torch.rand(2, 50)
    scale[:, :20] = 0  # guidance by speech alone
    expected = model.guided_velocity(x, t, **known, emotion_scale=scale)[:, 10:]
    used = model.branches(torch.full((2,), 2.0), scale, torch.ones(2))
    assert [branch.weight.shape for branch in used] == [(2, 50)] * 3
    field = FastField(model.transformer, kept_conditions(used))
    velocity = field(x, field.time(t), field.conditions(WindowConditions(**known)), known["previous_motion"])
    weights = torch.stack([branch.weight for branch in used], dim=1)[..., None]
    torch.testing.assert_close((weights * velocity).sum(1), expected, atol=1e-5, rtol=1e-4)
    # Without guidance by emotion they are what the model says without it, and of each frame its own where there is.
    still = model.guided_velocity(x, t, **known | {"emotion": torch.zeros(2, 7)}, emotion_scale=0.0)
    silent = model.guided_velocity(x, t, **known, emotion_scale=torch.zeros(2, 50))
    torch.testing.assert_close(silent, still, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(still[:, 10:], expected, atol=1e-3)


def test_a_model_shallower_than_the_reach_of_its_attention(model):
    shallow = FLOAT(CONFIG).eval()  # two blocks reach 4 tokens back: 6 of 10 previous ones are never needed
    known = conditions(shallow.config, 1)
    x, t = torch.randn(1, 50, 16), torch.tensor([0.5])
    one = torch.ones(1)
    field = FastField(shallow.transformer, kept_conditions(guidance_branches(2 * one, one, one)))
    base = field.conditions(WindowConditions(**known))
    velocity = field(x, field.time(t), base, known["previous_motion"])
    expected = shallow.guided_velocity(x, t, **known)[:, 10:]
    weights = torch.tensor([-1.0, 1.0, 1.0])[None, :, None, None]
    torch.testing.assert_close((weights * velocity).sum(1), expected, atol=1e-5, rtol=1e-4)


class Picture(nn.Module):
    """Takes what a decoder does: latents (4,16) and a list of pictures, here one (1,8,6,6)."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(16, 8)

    def forward(self, latent, features):
        return self.conv(features[0]) * self.linear(latent)[:, :, None, None]


@pytest.mark.slow
def test_what_is_compiled_is_the_same_and_comes_from_the_cache_the_second_time(compiled_cache, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    picture, latent, plain = Picture().eval(), torch.randn(4, 16), torch.randn(1, 8, 6, 6)
    features = [plain.contiguous(memory_format=torch.channels_last)]
    expected = picture(latent, features)
    first = compiled(picture, (latent, features), weights="a", cache=compiled_cache)
    torch.testing.assert_close(first(latent, features), expected, atol=1e-5, rtol=1e-5)
    every_second = latent.repeat_interleave(2, dim=0)[::2]  # the same values, laid out otherwise
    torch.testing.assert_close(first(every_second, [plain]), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"compiled for an input of \(4, 16\), got \(3, 16\)"):
        first(latent[:3], features)
    package = next(compiled_cache.glob("*.pt2"))
    written = package.stat().st_mtime_ns
    again = compiled(picture, (latent, features), weights="a", cache=compiled_cache)
    torch.testing.assert_close(again(latent, features), expected, atol=1e-5, rtol=1e-5)
    assert list(compiled_cache.glob("*.pt2")) == [package]
    assert package.stat().st_mtime_ns == written
    monkeypatch.setenv("CXX", "/no/compiler")
    with pytest.raises(NoCompilerError):  # other weights need another package
        compiled(picture, (latent, features), weights="b", cache=compiled_cache)
    # Everything that is run lies in the private cache, and nothing is left of what the compiler wrote on its way.
    assert not list(temporary.rglob("*.so")) + list(temporary.rglob("*.gch"))
    kept = {path.name for path in compiled_cache.iterdir() if path.is_dir()} - {"headers"}
    assert kept == {path.name for path in compiled_cache.glob("*.pt2")}


def test_a_package_is_tied_to_the_precision_and_the_layout_of_its_weights(model):
    """They change neither the text of a module nor its inputs."""
    decoder, inputs = model.autoencoder.decoder, (torch.zeros(2, 16),)
    keys = {_key(FastDecoder(decoder, dtype), inputs, "a") for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    keys.add(_key(FastDecoder(decoder).to(memory_format=torch.contiguous_format), inputs, "a"))
    assert len(keys) == 4
    assert _key(FastDecoder(decoder), inputs, "a") in keys
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = not before
        assert _key(FastDecoder(decoder), inputs, "a") not in keys
    finally:
        torch.backends.cudnn.allow_tf32 = before
