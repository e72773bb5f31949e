"""What the paper compares: every variant samples, and its conditions count where it has them and nowhere else."""

import dataclasses
import itertools

import pytest
import torch

from models import FLOAT, FloatConfig, window_noise
from models.fast.vector_field import FastField, kept_conditions
from models.transformer import WindowConditions
from tests.models.test_float import TINY, clips

VARIANTS = [
    dict(zip(("conditioning", "objective", "emotion", "pose"), values, strict=True))
    for values in itertools.product(
        ("adaln", "cross_attention"), ("flow", "epsilon", "x0"), ("speech", "none"), ("none", "head")
    )
]


def model_of(**variant):
    torch.manual_seed(4)
    return FLOAT(dataclasses.replace(TINY, **variant)).eval()


def poses(count, frames=23):
    return torch.randn(count, frames, 6, generator=torch.Generator().manual_seed(9))


def sampled(model, rows=slice(None), frames=23, **changes):
    speech, reference, emotion = clips(2)
    given = {"speech": speech, "reference_motion": reference, "emotion": emotion}
    if model.config.pose == "head":
        given["pose"] = poses(2)
    given = {name: value[rows] for name, value in (given | changes).items()}
    for name in {"speech", "pose"} & set(given):
        given[name] = given[name][:, :frames]
    return model.sample_motion(**given, nfe=4, seeds=[1, 2][rows], audio_scale=2.0, emotion_scale=1.5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
def test_a_variant_samples_alone_what_it_samples_in_a_batch(variant):
    model = model_of(**variant)
    together = sampled(model)
    assert together.shape == (2, 23, 16)
    assert together.isfinite().all()
    torch.testing.assert_close(together[:1], sampled(model, slice(0, 1)), rtol=1e-4, atol=1e-4)
    # A clip's first window knows nothing of what comes later.
    torch.testing.assert_close(together[:, :10], sampled(model, frames=10), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("conditioning", ["adaln", "cross_attention"])
def test_a_condition_counts_where_the_model_has_it(conditioning):
    happy = torch.eye(7)[[3, 3]]
    with_emotion, without = model_of(conditioning=conditioning), model_of(conditioning=conditioning, emotion="none")
    assert not torch.allclose(sampled(with_emotion), sampled(with_emotion, emotion=happy), atol=1e-3)
    assert torch.equal(sampled(without), sampled(without, emotion=happy))
    posed = model_of(conditioning=conditioning, pose="head")
    assert not torch.allclose(sampled(posed), sampled(posed, pose=poses(2) + 1), atol=1e-3)
    speech = clips(2)[0]
    assert not torch.allclose(sampled(posed), sampled(posed, speech=speech + 1), atol=1e-3)


def test_poses_are_refused_where_they_are_missing_or_unknown():
    with pytest.raises(ValueError, match="conditioned on head poses, but none were given"):
        model_of(pose="head").sample_motion(*clips(1), nfe=1, seeds=[0])
    with pytest.raises(ValueError, match="without a head pose condition"):
        model_of().sample_motion(*clips(1), nfe=1, seeds=[0], pose=poses(1))


@pytest.mark.parametrize("name", ["conditioning", "objective", "emotion", "pose"])
def test_an_unknown_variant_is_refused_with_the_allowed_ones(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'other'"):
        FloatConfig(**{name: "other"})


@pytest.mark.parametrize("variant", [{"pose": "head"}, {"emotion": "none"}, {"pose": "head", "emotion": "none"}])
@pytest.mark.parametrize("scales", [(2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.5, 0.5)])
@torch.no_grad()
def test_the_fast_field_is_the_plain_one_in_each_variant(variant, scales):
    model = model_of(**variant)
    speech, reference, emotion = clips(2, frames=10)
    turned = poses(2, 13) if model.config.pose == "head" else None
    known = WindowConditions(
        speech,
        emotion,
        reference,
        torch.randn(2, 3, 16),
        torch.randn(2, 3, 16),
        None if turned is None else turned[:, :10],
        None if turned is None else turned[:, 10:],
    )
    branches = model.branches(*(torch.full((2,), scale) for scale in scales))
    x, t = torch.randn(2, 10, 16), torch.tensor([0.3, 0.7])
    field = FastField(model.transformer, kept_conditions(branches))
    weights = torch.stack([branch.weight for branch in branches], dim=1)[:, :, None, None]
    fast = (weights * field(x, field.time(t), field.conditions(known), known.previous_motion)).sum(1)
    torch.testing.assert_close(fast, model.window_field(branches, known)(x, t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["adaln", "cross_attention"])
def test_training_begins_at_a_prediction_of_zero_that_it_can_leave(conditioning):
    model = model_of(conditioning=conditioning)
    model.transformer.start_at_zero()
    assert torch.equal(sampled(model), torch.stack([_noise(model, seed) for seed in (1, 2)]))
    speech, reference, emotion = clips(1, frames=10)
    known = {"speech": speech, "emotion": emotion, "reference_motion": reference}
    rest = {"previous_motion": torch.ones(1, 3, 16), "previous_speech": torch.ones(1, 3, 16)}
    model.transformer(torch.ones(1, 10, 16), torch.ones(1), **known, **rest).sum().backward()
    assert model.transformer.to_velocity.weight.grad.abs().sum() > 0


def _noise(model, seed):
    return torch.cat([window_noise(seed, window, 10, 16) for window in range(3)])[:23]
