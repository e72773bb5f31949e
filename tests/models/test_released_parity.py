"""The released model, step by step, against numbers computed with the released code (tests/data/README.md)."""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from models import EMOTIONS, FLOAT
from models.encoders import load_content_encoder, load_emotion_encoder
from models.fast.decoder import FastDecoder
from models.speech import normalize_waveform
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs, MotionStart
from tests.pipeline.render.test_continuation import motion_of
from tests.released_weights import tensor_for

DATA = Path(__file__).parents[1] / "data"

pytestmark = pytest.mark.slow

FRAMES = 5e-4
"""Of frames; by kernels and number of threads they were 0.6e-4 to 1.1e-4 away."""


def rnd(name, *shape):
    generator = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), 0]))
    return torch.from_numpy(generator.standard_normal(shape).astype(np.float32))


def relative_error(got, expected):
    """||got - expected|| / ||expected||: with random weights a single pixel at a sharp edge of the flow differs more,
    in the golden frames as much as in ours (measured against float64)."""
    assert got.shape == expected.shape
    return ((got - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def state():
    shapes = json.loads((DATA / "float_state_dict.json").read_text())
    tensors = {name: tensor_for(name, shape) for name, shape in shapes.items()}
    return {name: torch.from_numpy(tensor) for name, tensor in tensors.items() if tensor is not None}


@pytest.fixture(scope="module")
def model(state):
    return FLOAT.from_released(state)


@pytest.fixture(scope="module")
def golden():
    return load_file(DATA / "float_golden.safetensors")


@pytest.fixture(scope="module")
def portrait(model):
    image = F.interpolate(rnd("image", 1, 3, 16, 16), size=(512, 512), mode="bicubic", align_corners=False)
    return model.encode_portrait(torch.tanh(image))


def test_portrait(model, portrait, golden):
    assert relative_error(portrait.identity, golden["s_r"]) < 1e-4
    assert relative_error(portrait.coefficients, golden["r_lambda"]) < 1e-4
    assert relative_error(portrait.motion, golden["r_s"]) < 1e-4
    assert relative_error(model.autoencoder.directions.basis, golden["direction"]) < 1e-4
    assert [f.shape[-1] for f in portrait.features] == [8, 16, 32, 64, 128, 256, 512]
    for feature in portrait.features:
        pooled = F.adaptive_avg_pool2d(feature, 8)[0, :32]
        assert relative_error(pooled, golden[f"feat_{feature.shape[-1]}"]) < 1e-4


def test_frames(model, portrait, golden):
    frames = model.decode(portrait, portrait.motion + 0.05 * rnd("r_d", 1, 3, 512)[0])
    assert frames.shape == (3, 3, 512, 512)
    assert relative_error(F.avg_pool2d(frames, 8), golden["frames_pool8"]) < FRAMES
    assert relative_error(frames[:, :, 224:288, 224:288], golden["frames_crop"]) < FRAMES


@torch.no_grad()
def test_frames_and_sampling_through_the_fast_modules(model, portrait, golden):
    engine = ModelRunner(model, mode="eager", frame_batch=3)
    latent = portrait.identity + portrait.motion + 0.05 * rnd("r_d", 1, 3, 512)[0]
    frames = FastDecoder(model.autoencoder.decoder)(latent, portrait.features)
    assert relative_error(F.avg_pool2d(frames, 8), golden["frames_pool8"]) < 1e-3
    assert relative_error(frames[:, :, 224:288, 224:288], golden["frames_crop"]) < 1e-3
    emotion = F.one_hot(torch.tensor([EMOTIONS.index("happy")]), len(EMOTIONS)).float()
    noise = torch.stack([rnd(f"noise_{window}", 1, 50, 512) for window in range(2)])
    motion = model.sample_motion(
        rnd("wa_all", 1, 70, 512), portrait.motion, emotion, nfe=9, noise=noise, window_field=engine.window_field
    )
    assert relative_error(motion, golden["sample"]) < 1e-3


def test_vector_field_plain_and_guided(model, golden):
    x = rnd("x", 2, 50, 512)
    conditions = {
        "speech": rnd("wa", 2, 50, 512),
        "emotion": rnd("we", 2, 1, 7).softmax(-1)[:, 0],
        "reference_motion": rnd("wr", 2, 512),
        "previous_motion": rnd("prev_x", 2, 10, 512),
        "previous_speech": rnd("prev_wa", 2, 10, 512),
    }
    assert relative_error(model.velocity(x, 0.3, **conditions), golden["fmt_out"]) < 1e-4
    guided = model.guided_velocity(x, 0.3, audio_scale=2.0, emotion_scale=1.5, **conditions)
    assert relative_error(guided, golden["cfv_out"]) < 1e-4


def test_sampling_of_two_windows(model, portrait, golden):
    emotion = F.one_hot(torch.tensor([EMOTIONS.index("happy")]), len(EMOTIONS)).float()
    noise = torch.stack([rnd(f"noise_{window}", 1, 50, 512) for window in range(2)])
    motion = model.sample_motion(
        rnd("wa_all", 1, 70, 512), portrait.motion, emotion, nfe=9, audio_scale=2.0, emotion_scale=1.0, noise=noise
    )
    assert relative_error(motion, golden["sample"]) < 1e-3


def test_emotions_by_frame(model, portrait):
    """What is the same in all frames is what it is for the clip, and a window before the first change is that of the
    clip without one.
    """
    happy, sad = torch.eye(len(EMOTIONS))[[EMOTIONS.index("happy"), EMOTIONS.index("sad")]]
    speech, noise = rnd("wa_all", 1, 70, 512), torch.stack([rnd(f"noise_{window}", 1, 50, 512) for window in range(2)])

    def sampled(emotion, scale, **more):
        given = {"nfe": 1, "noise": noise, "emotion_scale": scale} | more
        return model.sample_motion(speech, portrait.motion, emotion[None], **given)

    expected = sampled(happy, 1.0)
    assert torch.equal(sampled(happy.expand(70, -1), torch.ones(1, 70)), expected)
    changing, strength = happy.repeat(70, 1), torch.ones(1, 70)
    changing[60:], strength[:, 60:] = sad, 2.0
    found = sampled(changing, strength)
    assert found.shape == (1, 70, 512)
    assert torch.equal(found[:, :50], expected[:, :50])
    assert relative_error(found[:, 60:], expected[:, 60:]) > 1e-2
    fast = sampled(changing, strength, window_field=ModelRunner(model, mode="eager").window_field)
    assert relative_error(fast, found) < 1e-4


def test_rows_of_a_programme_that_end_with_a_window_are_one_clip_bit_by_bit(model):
    """Nothing of what conditions a window is lost between two rows: speech, motion, noise and the emotion's fade."""
    slots = MotionSlots(ModelRunner(model, mode="eager"), 1)
    speech, happy = rnd("wa_all", 1, 60, 512)[0].numpy(), np.eye(7, dtype=np.float32)[EMOTIONS.index("happy")]
    whole = MotionInputs(speech, happy, rnd("wr", 512), (2.0, 1.0, 1.0), 5, 1)
    first = motion_of(slots, replace(whole, speech=speech[:50]))
    start = MotionStart(first[-10:].numpy(), speech[40:50], np.zeros((10, 6), np.float32), 1)
    second = motion_of(slots, replace(whole, speech=speech[50:], start=start))
    assert torch.equal(torch.cat([first, second]), motion_of(slots, whole))


def test_speech_projection(model, golden):
    assert relative_error(model.project_speech(rnd("hidden", 1, 5, 9216)), golden["audio_projection"]) < 1e-4


def test_content_and_emotion_encoders():
    golden = load_file(DATA / "audio_golden.safetensors")
    noise = np.random.Generator(np.random.PCG64(11)).standard_normal(44800)
    wave = normalize_waveform(torch.from_numpy((0.1 * noise).astype(np.float32))[None])
    assert relative_error(wave, golden["normalized"]) < 1e-4
    with torch.no_grad():
        hidden = load_content_encoder(DATA / "tiny_wav2vec2")(wave)
        emotion = load_emotion_encoder(DATA / "tiny_ser")(wave)
    assert relative_error(hidden, golden["hidden"]) < 1e-4
    assert relative_error(emotion, golden["emotion"]) < 1e-4


def test_released_names_that_do_not_fit_are_listed(state):
    broken = {name: tensor for name, tensor in state.items() if name != "fmt.blocks.3.attn.proj.bias"}
    broken["fmt.c_embedder.weight"] = torch.zeros(2, 2)
    broken["fmt.blocks.8.attn.proj.bias"] = torch.zeros(1024)
    with pytest.raises(ValueError, match="3 names") as error:
        FLOAT.from_released(broken)
    for part in ("missing: fmt.blocks.3.attn.proj.bias", "shape: fmt.c_embedder.weight", "unknown: fmt.blocks.8.attn"):
        assert part in str(error.value)


def test_constants_and_speech_weights_in_a_checkpoint_are_ignored(state, model):
    extra = {
        "motion_autoencoder.dec.convs.0.conv.blur.kernel": torch.ones(4, 4),
        "fmt.alignment_mask": torch.zeros(60, 60),
        "audio_encoder.wav2vec2.encoder.layer_norm.bias": torch.zeros(768),
    }
    again = FLOAT.from_released(state | extra)
    assert torch.equal(again.transformer.positions, model.transformer.positions)
