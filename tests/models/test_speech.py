"""Speech in windows equals speech in one pass where it should, and is close to it where it cannot be equal."""

import copy
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderLayer

from models import int8
from models.encoders import load_content_encoder, load_emotion_encoder, load_speech_encoders
from models.int8 import Int8Linear, hadamard
from models.speech import SpeechWindow, normalize_waveform, speech_frames
from models.speech_encoders import attention_in_products, keep_grouped_convolutions_exact, use_int8

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def content():
    return load_content_encoder(DATA / "tiny_wav2vec2")


@pytest.fixture(scope="module")
def emotion():
    return load_emotion_encoder(DATA / "tiny_ser")


def wave(seconds, seed=0):
    noise = torch.randn(1, round(seconds * 16000), generator=torch.Generator().manual_seed(seed))
    return normalize_waveform(noise)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (640, 1), (641, 2), (16000, 25), (16001, 26)])
def test_frames_cover_the_samples(samples, frames):
    assert speech_frames(samples) == frames


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 150, 733, 10_000])
def test_windows_cover_every_frame_once_with_context_on_both_sides(frames):
    spans = SpeechWindow(seconds=4.0, overlap_seconds=1.0).spans(frames)
    kept = [frame for _, keep, keep_end, _ in spans for frame in range(keep, keep_end)]
    assert kept == list(range(frames))
    for read, keep, keep_end, read_end in spans:
        assert read_end - read <= 100
        assert read == max(0, keep - 25) or len(spans) == 1
        assert read_end == min(frames, keep_end + 25) or len(spans) == 1
    assert (len(spans) == 1) == (frames <= 100)


@torch.no_grad()
def test_below_the_window_limit_nothing_changes(content, emotion):
    clip = wave(3.9)
    window = SpeechWindow(seconds=4.0, overlap_seconds=1.0)
    assert torch.equal(content(clip, window), content(clip, SpeechWindow(seconds=1000.0)))
    assert torch.equal(emotion(clip, window), emotion(clip, SpeechWindow(seconds=1000.0)))


@torch.no_grad()
def test_above_the_limit_every_frame_is_close_to_one_pass(content, emotion):
    clip = wave(20.0)
    whole = content(clip, SpeechWindow(seconds=1000.0))
    windowed = content(clip, SpeechWindow(seconds=6.0, overlap_seconds=2.0))
    assert windowed.shape == whole.shape == (1, 500, 96)
    # Attention does not reach beyond a window: not equal, and nearer than frames half a second later are.
    error = (windowed - whole).norm() / whole.norm()
    shifted = (whole[:, 12:] - whole[:, :-12]).norm() / whole.norm()
    assert error < 0.2 * shifted
    close = emotion(clip, SpeechWindow(seconds=6.0, overlap_seconds=2.0))
    torch.testing.assert_close(close, emotion(clip, SpeechWindow(seconds=1000.0)), atol=0.01, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("samples", [160, 400, 641])
def test_the_shortest_sounds_have_features(content, emotion, samples):
    clip = wave(samples / 16000)
    assert content(clip).shape == (1, speech_frames(samples), 96)
    assert emotion(clip).sum().item() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_clips_of_one_length_in_a_batch_are_what_they_are_alone(content):
    clips = torch.cat([wave(2.0, seed) for seed in range(3)])
    alone = torch.cat([content(clip[None]) for clip in clips])
    torch.testing.assert_close(content(clips), alone, rtol=1e-4, atol=1e-5)


def test_windows_projected_one_by_one_are_the_projection_of_all(tiny_model):
    encoders = load_speech_encoders(tiny_model)
    window = SpeechWindow(seconds=6.0, overlap_seconds=2.0)
    with torch.no_grad():
        expected = encoders.projection(encoders.content(wave(20.0), window))
    speech = encoders.speech(wave(20.0), window)
    assert speech.shape == (1, 500, 16)
    torch.testing.assert_close(speech, expected, rtol=1e-5, atol=1e-6)


def test_content_features_of_one_window_only_are_held(tiny_model):
    encoders = load_speech_encoders(tiny_model)
    hidden, alive = [], []

    def remember(module, inputs):
        alive.append(sum(old() is not None for old in hidden))
        hidden.append(weakref.ref(inputs[0]))

    encoders.projection.register_forward_pre_hook(remember)
    encoders.speech(wave(20.0), SpeechWindow(seconds=6.0, overlap_seconds=2.0))
    assert alive == [0] * 10  # 500 frames in windows that keep 50


def test_bfloat16_is_close_to_float32_and_gives_float32(tiny_model):
    exact = load_speech_encoders(tiny_model)
    rough = load_speech_encoders(tiny_model, dtype=torch.bfloat16)
    clip = wave(3.0)
    try:
        speech = rough.speech(clip)
    except RuntimeError as error:  # kernels that are not this CPU's were asked for, by ATEN_CPU_CAPABILITY
        assert "only supported when avx512" in str(error)  # noqa: PT017
        assert torch.backends.cpu.get_cpu_capability() != "AVX512"
        return
    assert speech.dtype == torch.float32
    assert 1e-4 < (speech - exact.speech(clip)).norm() / exact.speech(clip).norm() < 0.05
    emotion = rough.emotion(clip)
    assert emotion.dtype == torch.float32
    assert emotion.sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(emotion, exact.emotion(clip), rtol=0, atol=0.02)


def test_a_linear_layer_of_integers_rounds_each_token_by_its_own_scale():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(24, 8), torch.randn(2, 5, 24)
    x[1] *= 1000  # would drown the others if all tokens had one scale
    exact, rough = layer(x), Int8Linear(layer)(x)
    assert rough.shape == (2, 5, 8)
    for row in range(2):
        assert 0 < (rough[row] - exact[row]).norm() / exact[row].norm() < 0.02
    assert Int8Linear(layer)(x.bfloat16()).dtype == torch.bfloat16
    bare = torch.nn.Linear(24, 8, bias=False)
    torch.testing.assert_close(Int8Linear(bare)(x[0]), bare(x[0]), atol=0.05, rtol=0)
    assert torch.equal(Int8Linear(bare)(torch.zeros(1, 24)), torch.zeros(1, 8))  # silence divides by nothing


def test_a_channel_that_drowns_the_others_is_spread_over_its_neighbours():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(192, 16), torch.randn(5, 192)
    x[:, 7] *= 100
    exact = layer(x)
    plain, mixed = ((Int8Linear(layer, mix=mix)(x) - exact).norm() / exact.norm() for mix in (False, True))
    assert mixed < plain / 3
    matrix = hadamard(192)
    assert matrix.shape == (64, 64)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64))
    assert hadamard(24).shape == (8, 8)


def test_integers_are_the_same_on_cpus_with_and_without_instructions_for_them(monkeypatch):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(24, 8), torch.randn(5, 24)
    here = Int8Linear(layer)(x)
    monkeypatch.setattr(int8, "has_int8", lambda: False)
    torch.testing.assert_close(Int8Linear(layer)(x), here, rtol=1e-5, atol=1e-6)


def test_layers_of_one_input_are_computed_together_and_give_what_each_gives_alone():
    torch.manual_seed(0)
    attention = torch.nn.Module()
    layers = {name: torch.nn.Linear(16, 8) for name in ("q_proj", "k_proj", "v_proj")}
    for name, layer in layers.items():
        attention.add_module(name, layer)
    use_int8(attention)
    x, other = torch.randn(1, 4, 16), torch.randn(1, 4, 16)
    for given in (x, other):
        for name, layer in layers.items():
            torch.testing.assert_close(getattr(attention, name)(given), Int8Linear(layer)(given))
    assert torch.equal(attention.v_proj(x), attention.v_proj(x))  # in another order too
    assert not torch.equal(attention.q_proj(x), attention.q_proj(other))


@torch.no_grad()
def test_feed_forward_and_attention_in_products_give_what_those_of_transformers_give():
    torch.manual_seed(0)
    config = Wav2Vec2Config(hidden_size=64, num_attention_heads=4, intermediate_size=96, attn_implementation="sdpa")
    plain = Wav2Vec2EncoderLayer(config).eval()
    reduced = copy.deepcopy(plain)
    use_int8(reduced)
    x = torch.randn(1, 700, 64)  # more than one block of queries
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for part in (lambda layer: layer.feed_forward(x), lambda layer: layer.attention(x)[0]):
                exact, found = part(plain).float(), part(reduced).float()
                assert (found - exact).norm() < 0.02 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):
        query, key, value = (torch.randn(1, 4, 700, 16).bfloat16() for _ in range(3))
        found, _ = attention_in_products(reduced.attention, query, key, value, None, scaling=0.25)
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float()).transpose(1, 2)
    assert (found.float() - exact).norm() < 0.01 * exact.norm()


def test_overlaps_that_leave_no_window_are_refused():
    with pytest.raises(ValueError, match="must be more than twice the overlap"):
        SpeechWindow(seconds=4.0, overlap_seconds=2.0)


@torch.no_grad()
def test_grouped_convolutions_of_any_width_are_exact_under_autocast():
    """On CPUs with AMX those with 12 channels in a group were 80 % off in bfloat16."""
    torch.manual_seed(0)
    for channels, groups in ((96, 8), (96, 16), (96, 3), (96, 1)):
        conv = torch.nn.Conv1d(channels, channels, 16, groups=groups)
        x = torch.randn(1, channels, 200)
        exact = conv(x)
        keep_grouped_convolutions_exact(conv)
        with torch.autocast("cpu", torch.bfloat16):
            rough = conv(x)
        assert (rough - exact).norm() / exact.norm() < 0.01
