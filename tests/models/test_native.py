"""Passes in C++ do what the PyTorch modules do, whatever the width of a map."""

import math

import pytest
import torch
import torch.nn.functional as F

from models import FLOAT, FloatConfig
from models.autoencoder import identity_grid
from models.fast import native
from models.fast.decoder import FastDecoder, blur, warp
from models.fast.native import NativeError, blur_activate, finish, has_native, library, quantise, quantise_rows
from models.fast.native_decoder import NativeDecoder
from models.int8 import Int8Linear, quantised
from models.layers import Upsample, leaky

BFLOAT16 = {"atol": 0.03, "rtol": 0.01}
WIDTHS = pytest.mark.parametrize("channels", [3, 16, 40, 64])

pytestmark = pytest.mark.skipif(not has_native(), reason="no AVX-512 with products of 8-bit integers, or no compiler")


@pytest.fixture(autouse=True)
def _seeded_without_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def maps(n, height, width, channels):
    return torch.randn(n, height, width, channels).bfloat16()


def first(x):
    """Channels last (N,H,W,C) as (N,C,H,W) float32."""
    return x.float().permute(0, 3, 1, 2)


def activated(x, factor, bias):
    return leaky(x * factor[:, :, None, None], bias)


@WIDTHS
def test_the_blur_after_a_transposed_convolution_is_that_of_the_decoder(channels):
    n, m = 2, 5
    whole = torch.empty(n, 2 * m + 1, 2 * m + 1, channels, dtype=torch.bfloat16)
    parts = []
    for row in range(2):
        for column in range(2):
            parts.append(maps(n, m + 1 + row, m + 1 + column, channels))
            inner = [slice(1, -1) if odd else slice(None) for odd in (row, column)]
            whole[:, row::2, column::2] = parts[-1][:, *inner]
    factor, bias, gain = torch.rand(n, channels), torch.randn(channels), torch.randn(n, channels)
    expected = activated(blur(first(whole)), factor, bias) * gain[:, :, None, None]
    found, peak = blur_activate(parts, factor, bias, gain)
    torch.testing.assert_close(first(found), expected, **BFLOAT16)
    torch.testing.assert_close(peak, expected.abs().amax((1, 2, 3)))


def test_integers_are_those_of_the_plain_function_and_what_is_not_finite_stays_visible():
    x = maps(4, 3, 7, 5)
    x[2, 0, 0, 0], x[3, 1, 1, 1] = math.nan, math.inf
    peak = x.float().abs().amax((1, 2, 3))
    whole, unit = quantise(x, peak)
    expected, units = quantised(first(x[:2]))
    assert torch.equal(whole[:2].permute(0, 3, 1, 2), expected)
    torch.testing.assert_close(unit[:2, 0], units.flatten())
    rimmed, _ = quantise(x, peak, rim=True)
    assert torch.equal(rimmed[:2], F.pad(whole[:2], (0, 0, 1, 1, 1, 1), value=128))
    assert unit[2].isnan()
    assert unit[3].isinf()


@WIDTHS
def test_tokens_are_quantised_as_by_the_plain_function_also_after_a_gelu(channels):
    layer = Int8Linear(torch.nn.Linear(channels, 4))
    x, unit, bias = 3 * torch.randn(5, channels), torch.rand(5, 1), torch.randn(channels)
    given = x.clone()
    whole, found = quantise_rows(given)
    expected = layer.integers(x)
    assert torch.equal(whole, expected.values)
    assert torch.equal(given, x)
    torch.testing.assert_close(found, expected.unit)
    activated = F.gelu(x * unit + bias)
    whole, found = quantise_rows(given, unit, bias)
    torch.testing.assert_close(given, activated, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, layer.integers(activated).unit, rtol=1e-5, atol=1e-8)
    assert int((whole.int() - layer.integers(activated).values.int()).abs().max()) <= 1  # 0.5, rounded otherwise


def test_a_token_that_is_not_finite_stays_visible():
    x = torch.zeros(3, 20)
    x[0, 17], x[1, 3] = math.nan, -math.inf
    _, unit = quantise_rows(x)
    assert unit[0].isnan()
    assert unit[1].isinf()
    assert unit[2].isfinite()


@WIDTHS
@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("last", [False, True], ids=["map", "last"])
def test_the_end_of_a_stage_is_that_of_the_decoder(channels, side, last):
    n, far = 2, 3.0  # flow that also leaves the map
    y, table = maps(n, side, side, channels), maps(1, side, side, channels)
    factor, bias, gain = torch.rand(n, channels), torch.randn(channels), torch.randn(n, channels)
    head, head_bias = far * torch.randn(n, 3, channels) / channels, torch.randn(3)
    coarse = torch.randn(n, 3, side // 2, side // 2), torch.randn(n, 3, side // 2, side // 2)
    weight, colour, base = torch.randn(3, channels, 1, 1), torch.randn(3), torch.randn(3)
    colours = F.pad(F.conv2d(first(table), weight)[0].permute(1, 2, 0).flatten(0, 1), (0, 1))

    x = activated(first(y), factor, bias)
    flow = torch.einsum("nchw,nkc->nkhw", x, head) + head_bias[:, None, None] + Upsample()(coarse[0])
    mask, identity = torch.sigmoid(flow[:, 2:]), identity_grid(side, x.device)
    warped = warp(first(table), torch.tanh(flow[:, :2]), mask, identity)
    rgb = leaky(F.conv2d(warped, weight), colour) + base[:, None, None] + Upsample()(coarse[1])
    expected = (x * (1 - mask) + warped) * gain[:, :, None, None]

    found, planes = finish(
        y,
        factor,
        bias,
        (head, head_bias),
        coarse,
        (table.flatten(0, 2), colours),
        (colour, base),
        ((identity[0, :, 0] + 1) * side - 1) / 2,
        None if last else gain,
    )
    torch.testing.assert_close(planes[0], flow, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(planes[1], rgb, atol=2e-3, rtol=1e-3)
    if last:
        assert found is None
    else:
        torch.testing.assert_close(first(found[0]), expected, **BFLOAT16)
        torch.testing.assert_close(found[1], expected.abs().amax((1, 2, 3)), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def decoder():
    """Of few channels, and calm: random weights would move pixels across the whole image."""
    torch.manual_seed(3)
    config = FloatConfig(
        channels=(40, 24, 16, 8), latent_dim=16, directions=6, content_dim=96, hidden_dim=32, blocks=1, heads=2
    )
    model = FLOAT(config).eval().requires_grad_(False).autoencoder.decoder
    for stage in model.stages:
        stage.warp.conv.weight *= 0.05
    return model


def portrait_maps(seed):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(1, c, n, n, generator=random) for c, n in ((24, 8), (16, 16), (8, 32))]


def off(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_frames_are_those_of_the_decoder_do_not_depend_on_their_batch_and_follow_their_portrait(decoder):
    latents, one, other = torch.randn(5, 16), portrait_maps(0), portrait_maps(1)
    made = NativeDecoder(decoder)
    plain = FastDecoder(decoder)
    found = made(latents, one)
    rounding = off(FastDecoder(decoder, torch.bfloat16, int8=True)(latents, one), plain(latents, one))
    assert 0 < off(found, plain(latents, one)) < 1.5 * rounding < 0.1
    # Up to the order of sums in the products of styles, which is another one for another number of rows.
    assert off(torch.cat([made(latents[:2], one), made(latents[2:], one)]), found) < 1e-4
    assert off(made(latents, other), plain(latents, other)) < 1.5 * rounding
    assert torch.equal(made(latents, one), found)


def test_a_frame_that_is_not_finite_stays_so_and_spoils_no_other(decoder):
    latents = torch.randn(2, 16)
    latents[0, 0] = math.nan
    found = NativeDecoder(decoder)(latents, portrait_maps(0))
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


def test_what_cannot_be_compiled_says_why(monkeypatch, tmp_path):
    (tmp_path / "broken.cpp").write_text("this is no C++")
    monkeypatch.setattr(native, "SOURCE", tmp_path / "broken.cpp")
    with pytest.raises(NativeError, match=r"broken\.cpp could not be compiled: .*error"):
        library.__wrapped__()
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert not has_native()
    with pytest.raises(NativeError, match="none could not be run"):
        library.__wrapped__()


def test_only_contiguous_maps_are_read():
    with pytest.raises(ValueError, match="contiguous"):
        quantise(maps(1, 4, 4, 3).transpose(1, 2), torch.ones(1))
