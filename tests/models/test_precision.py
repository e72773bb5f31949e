"""Reduced precision, judged on the bundled model: random weights amplify rounding, and trained ones do not."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import models
from models import ModelFolder, load_float
from models.autoencoder import identity_grid
from models.fast.decoder import FastDecoder, _Int8Styled, _Styled, taps, warp
from models.fast.vector_field import FastField, kept_conditions
from models.int8 import has_int8
from models.layers import StyledConv
from models.pixels import to_tensor
from models.transformer import WindowConditions

POCKET = Path(models.__file__).parent / "pocket"
FACE = Path(__file__).parents[2] / "jobs" / "demo" / "media" / "portrait_2017.png"
FLOORS = {torch.bfloat16: 55.0, torch.float16: 70.0}
"""PSNR in dB that a frame has at least beside the plain module's."""
HALF = pytest.mark.parametrize("dtype", FLOORS, ids=str)
SCALES = (2.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def model():
    return load_float(ModelFolder.open(POCKET)).requires_grad_(False)


@pytest.fixture(scope="module")
def portrait(model):
    side = model.config.image_size
    return model.encode_portrait(to_tensor(np.array(Image.open(FACE).convert("RGB").resize((side, side)))))


@pytest.fixture(scope="module")
def known(model, portrait):
    """The first window of two clips."""
    torch.manual_seed(0)
    config = model.config
    speech = torch.nn.functional.silu(torch.randn(2, config.window, config.latent_dim))
    before = torch.zeros(2, config.previous, config.latent_dim)
    return WindowConditions(speech, torch.eye(7)[[3, 5]], portrait.motion.expand(2, -1), before, before)


@pytest.fixture(scope="module")
def motion(model, known):
    """Motion latents (2,L,D) of these windows, by the plain model."""
    return model.sample_motion(known.speech, known.reference_motion, known.emotion, nfe=3, seeds=[0, 1])


def psnr(found, expected):
    """Of the worst frame, in dB; frames in [-1,1]."""
    return 10 * math.log10(4 / (found - expected).square().flatten(1).mean(1).max())


def velocity(model, known, dtype):
    clips = len(known.speech)
    branches = model.branches(*(torch.full((clips,), scale) for scale in SCALES))
    field = FastField(model.transformer, kept_conditions(branches), dtype)
    return field(NOISE[:clips], field.time(torch.full((clips,), 0.4)), field.conditions(known), known.previous_motion)


NOISE = torch.randn(2, 50, 256, generator=torch.Generator().manual_seed(1))


def first(known):
    return WindowConditions(*(value[:1] for value in vars(known).values() if value is not None))


@HALF
def test_frames_of_reduced_precision_are_close_to_the_plain_ones(model, portrait, motion, dtype):
    some = motion[0, ::7]
    expected = model.decode(portrait, some)
    found = FastDecoder(model.autoencoder.decoder, dtype)(portrait.identity + some, portrait.features)
    assert found.dtype == torch.float32
    assert FLOORS[dtype] <= psnr(found, expected) < 100  # above 100 dB, nothing was reduced


@HALF
def test_a_frame_of_reduced_precision_does_not_depend_on_its_batch(model, portrait, motion, dtype):
    decoder = FastDecoder(model.autoencoder.decoder, dtype)
    latents = portrait.identity + motion[0, :3]
    together = decoder(latents, portrait.features)
    alone = torch.cat([decoder(latent, portrait.features) for latent in latents.split(1)])
    assert psnr(together, alone) > FLOORS[dtype] + 5


@HALF
def test_the_field_of_reduced_precision_is_close_to_float32_and_does_not_depend_on_its_batch(model, known, dtype):
    limit = {torch.bfloat16: 0.02, torch.float16: 0.003}[dtype]
    expected = velocity(model, known, torch.float32)
    found = velocity(model, known, dtype)
    assert found.dtype == torch.float32
    assert 1e-6 < (found - expected).norm() / expected.norm() < limit
    alone = velocity(model, first(known), dtype)
    assert (found[:1] - alone).norm() / alone.norm() < limit


@HALF
def test_motion_sampled_in_reduced_precision_moves_the_face_as_float32_does(model, portrait, known, motion, dtype):
    def make_field(branches, window):
        field = FastField(model.transformer, kept_conditions(branches), dtype)
        weight = torch.stack([branch.weight for branch in branches], dim=1)[:, :, None, None]
        conditions = field.conditions(window)
        return lambda x, t: (weight * field(x, field.time(t), conditions, window.previous_motion)).sum(1)

    found = model.sample_motion(
        known.speech, known.reference_motion, known.emotion, nfe=3, seeds=[0, 1], window_field=make_field
    )
    moved = (motion - known.reference_motion[:, None]).norm()
    assert (found - motion).norm() / moved < 0.02
    assert psnr(model.decode(portrait, found[0, ::9]), model.decode(portrait, motion[0, ::9])) > 45


@pytest.mark.parametrize("size", [0.05, 1.0], ids=["inside", "beyond the edges"])
def test_mixing_rows_is_sampling_the_grid(size):
    torch.manual_seed(0)
    side = 16
    feature, flow, mask = torch.randn(1, 5, side, side), size * torch.randn(3, 2, side, side), torch.rand(3, 1, 16, 16)
    identity = identity_grid(side, flow.device)
    grid = flow.permute(0, 2, 3, 1) + identity
    sampled = nn.functional.grid_sample(feature.expand(3, -1, -1, -1), grid, align_corners=False)
    warped = warp(feature, flow, mask, identity)
    torch.testing.assert_close(warped, sampled * mask, atol=2e-5, rtol=1e-4)
    assert warped.is_contiguous(memory_format=torch.channels_last)


def test_flow_that_is_not_a_number_reads_no_pixel_outside_and_stays_visible():
    flow, mask, identity = torch.full((1, 2, 8, 8), float("nan")), torch.ones(1, 1, 8, 8), torch.zeros(8, 8, 2)
    pixels, _ = taps(flow, mask, identity)
    assert pixels.min() >= 0
    assert pixels.max() < 64
    assert warp(torch.randn(1, 2, 8, 8), flow, mask, identity).isnan().all()


NEEDS_INT8 = pytest.mark.skipif(not has_int8(), reason="this CPU has no products of 8-bit integers")


@NEEDS_INT8
@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("up", [False, True])
def test_integers_change_a_layer_only_by_rounding_also_at_the_borders(up, side):
    torch.manual_seed(0)
    layer = StyledConv(24, 40, 8, up=up)
    x = torch.randn(2, 24, side, side).contiguous(memory_format=torch.channels_last)
    gain = torch.rand(2, 24) + 0.5
    expected = _Styled(layer, torch.float32)(x, gain)
    found = _Int8Styled(layer, torch.float32)(x, gain)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    for part in (..., (..., 0), (..., -1), (..., 0, slice(None)), (..., -1, slice(None))):
        assert 0 < (found[part] - expected[part]).norm() < 0.03 * expected[part].norm()


@NEEDS_INT8
def test_frames_of_integer_products_are_close_to_the_plain_ones_and_do_not_depend_on_their_neighbours(
    model, portrait, motion
):
    some = portrait.identity + motion[0, ::7]
    decoder = FastDecoder(model.autoencoder.decoder, torch.bfloat16, int8=True)
    found = decoder(some, portrait.features)
    assert 50 <= psnr(found, model.decode(portrait, motion[0, ::7])) < 100
    alone = decoder(some[3:4], portrait.features)
    torch.testing.assert_close(found[3:4], alone, atol=1e-4, rtol=0)


@NEEDS_INT8
def test_a_layer_of_integer_products_can_be_exported_which_compiling_begins_with():
    layer, inputs = (
        _Int8Styled(StyledConv(8, 16, 4, up=True), torch.bfloat16),
        (torch.randn(2, 8, 4, 4), torch.ones(2, 8)),
    )
    exported = torch.export.export(layer, inputs)
    called = [str(node.target) for node in exported.graph.nodes]
    assert sum("qconv_pointwise" in name for name in called) == 4
    assert torch.equal(exported.module()(*inputs), layer(*inputs))


@NEEDS_INT8
def test_what_is_not_finite_stays_visible_in_integers():
    conv = _Int8Styled(StyledConv(8, 16, 4), torch.float32)
    for bad in (math.nan, math.inf):
        x = torch.ones(2, 8, 4, 4)
        x[0, 0, 0, 0] = bad
        found = conv(x, torch.ones(2, 8))
        assert not found[0].isfinite().any()
        assert found[1].isfinite().all()


def test_a_field_of_integer_products_is_close_to_the_plain_one(model, known):
    """Its modulations too: what they give for the time alone is exact, and clips of one batch may have other times."""
    expected = velocity(model, known, torch.float32)
    branches = model.branches(*(torch.full((2,), scale) for scale in SCALES))
    field = FastField(model.transformer, kept_conditions(branches), torch.bfloat16, int8=True)
    time, conditions = field.time(torch.tensor([0.4, 0.9])), field.conditions(known)
    found = field(NOISE, field.time(torch.full((2,), 0.4)), conditions, known.previous_motion)
    assert 0.001 < (found - expected).norm() / expected.norm() < 0.03
    mixed = field(NOISE, time, conditions, known.previous_motion)
    torch.testing.assert_close(mixed[0], found[0])
    assert not torch.allclose(mixed[1], found[1], rtol=0.1)


def test_the_modulations_of_a_time_are_computed_once_and_not_kept_for_ever(model, known, monkeypatch):
    branches = model.branches(*(torch.full((2,), scale) for scale in SCALES))
    field = FastField(model.transformer, kept_conditions(branches), torch.bfloat16, int8=True)
    asked = []
    embed = model.transformer.embed_time.forward
    monkeypatch.setattr(model.transformer.embed_time, "forward", lambda t: asked.append(t.item()) or embed(t))
    first = field.time(torch.tensor([0.25, 0.25]))
    assert torch.equal(field.time(torch.tensor([0.25])), first[:1])
    assert asked == [0.25]
    for step in range(200):
        field.time(torch.tensor([step / 200]))
    assert len(field._times) <= 64
