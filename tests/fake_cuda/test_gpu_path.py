"""The GPU path without a GPU: no tensor is in the wrong place, and nothing gets more expensive unnoticed.

The ceilings are a little above what was counted for the full-size model. A change that needs more must raise them, and
one that needs less may lower them.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

import models.fast.decoder
from models import EMOTIONS, FLOAT, FloatConfig, SpeechWindow
from models.encoders import SpeechEncoders
from models.fast.decoder import FastDecoder
from models.speech import SpeechProjection
from models.speech_encoders import ContentEncoder, EmotionEncoder
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.emotion_track import emotion_track
from pipeline.render.handover import HostBuffer
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs
from pipeline.render.motion_resampler import MotionResampler
from pipeline.render.planes_decoder import YuvDecoder
from tests.fake_cuda.counting import Work, counted
from tests.fake_cuda.device import Stream, fake_cuda, on_cuda
from tests.tiny import CONFIG

BATCH, SLOTS = 32, 8
SCALES = (2.0, 1.0, 1.0)
"""The defaults: two branches with audio and without."""


@pytest.fixture(scope="module")
def full(cuda_mode):
    """The full-size model, which takes no memory."""
    with fake_cuda(cuda_mode), torch.device("cuda"):
        return on_cuda(FLOAT(FloatConfig()))


@pytest.fixture(scope="module")
def eager(full, cuda_mode):
    with fake_cuda(cuda_mode):
        return ModelRunner(full, mode="eager", frame_batch=BATCH)


@pytest.fixture
def runner(eager, cuda):
    """The engine's runner of the full-size model."""
    return eager


def small(batch=4):
    """A very small model, where the number of operations is enough."""
    return ModelRunner(on_cuda(FLOAT(CONFIG)), mode="eager", frame_batch=batch)


def pixels(runner):
    return np.zeros((runner.model.config.image_size,) * 2 + (3,), np.uint8)


def admitted(runner, count=SLOTS, **options):
    """Slots with `count` clips that are in their first window."""
    nfe, spans = options.pop("nfe", 2), options.pop("spans", ())
    slots, config = MotionSlots(runner, SLOTS, **options), runner.model.config
    reference = torch.zeros(config.latent_dim, device="cuda")
    pose = None if config.pose == "none" else np.zeros((120, 6), np.float32)
    track = emotion_track(spans, 0.3, np.zeros(7, np.float32), 120)
    with counted() as work:
        for seed in range(count):
            speech = np.zeros((120, config.latent_dim), np.float32)
            slots.admit(MotionInputs(speech, np.zeros(7, np.float32), reference, SCALES, seed, nfe, pose, track))
    assert (work.sent, work.waits) == (count, 0)  # the emotion
    return slots


def one_round(runner, **options):
    """Counts of the second window; the first one with new branches also prepares their vector field."""
    slots = admitted(runner, **options)
    with counted():
        list(slots.advance())
    with counted() as work:
        advances = list(slots.advance())
    assert {advance.motion.device.type for advance in advances} == {"cuda"}
    return work


def decoded(runner, frames=BATCH):
    """Counts of the decoding of one clip's frames."""
    portrait = runner.portrait(pixels(runner))
    motion = portrait.motion + torch.zeros(frames, runner.model.config.latent_dim, device="cuda")
    with counted() as work:
        batches = list(runner.decoded(portrait, motion))
    assert sum(map(len, batches)) == frames
    assert {batch.device.type for batch in batches} == {"cuda"}
    return work


# --- The full-size model ---------------------------------------------------------------------------------------


def test_all_of_the_model_is_on_the_gpu(full):
    assert {t.device.type for t in (*full.parameters(), *full.buffers())} == {"cuda"}


def test_a_portrait_is_sent_as_bytes_and_not_waited_for(runner):
    with counted() as work:
        runner.portrait(pixels(runner))
    assert (work.sent, work.fetched, work.waits) == (1, 0, 0)
    assert work.relaid <= 0.17e9  # the weights, once a clip
    assert work.kernels <= 150
    assert work.bytes <= 2.05e9


def test_a_batch_of_frames_moves_no_more_memory_than_it_did_and_asks_nothing_of_the_host(runner):
    work = decoded(runner)
    assert (work.sent, work.fetched, work.waits, work.relaid) == (0, 0, 0, 0)
    assert work.kernels <= 560
    assert work.bytes / BATCH <= 4.15e9


def test_a_half_precision_decoder_moves_less_than_two_thirds_of_that(full, runner):
    decoder = YuvDecoder(FastDecoder(full.autoencoder.decoder, torch.float16)).eval()
    portrait = runner.portrait(pixels(runner))
    latents = portrait.identity + torch.zeros(BATCH, 512, device="cuda")
    with counted() as work:
        decoder(latents, portrait.features)
    assert (work.sent, work.fetched, work.waits, work.relaid) == (0, 0, 0, 0)
    assert work.kernels <= 610
    assert work.bytes / BATCH <= 2.6e9


def test_a_round_of_sampling_sends_four_tensors_and_waits_once_for_its_clock(runner):
    few, more = one_round(runner, nfe=2), one_round(runner, nfe=3)
    assert (more.sent, more.fetched, more.waits, more.relaid) == (4, 0, 1, 0)
    assert (few.sent, few.waits) == (4, 1)
    assert more.kernels - few.kernels <= 290  # of one evaluation for 8 clips
    assert (more.bytes - few.bytes) / SLOTS <= 0.6e9


def test_clips_with_spans_send_one_tensor_more_and_move_no_more_memory_in_an_evaluation(runner):
    spans = [EmotionSpan(2.5, 4.0, {"happy": 1.0}, 2.0)]
    few, more = one_round(runner, nfe=2, spans=spans), one_round(runner, nfe=3, spans=spans)
    assert (more.sent, more.fetched, more.waits, more.relaid) == (5, 0, 1, 0)  # the emotion of each frame
    assert more.kernels - few.kernels <= 290
    assert (more.bytes - few.bytes) / SLOTS <= 0.6e9


def test_another_frame_rate_sends_its_positions_and_waits_for_nothing(cuda):
    resampler, motion = MotionResampler(100, 120, Fraction(30)), torch.zeros(50, 512, device="cuda")
    with counted() as work:
        frames = [resampler.push(motion), resampler.push(motion)]
    assert sum(map(len, frames)) == 120
    assert (work.sent, work.fetched, work.waits) == (4, 0, 0)


def test_frames_are_copied_to_the_host_beside_the_decoder(cuda):
    buffer, frames = HostBuffer(Stream()), torch.zeros(BATCH, 768, 512, dtype=torch.uint8, device="cuda")
    with counted() as work:
        buffer.fetch(frames)
        buffer.fetch(frames[:5])
    assert (work.fetched, work.sent, work.waits) == (2, 0, 0)
    with counted() as work:
        assert buffer.wait().shape == (5, 768, 512)
    assert (work.fetched, work.waits) == (0, 1)


# --- Other models and modes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "eager"])
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"pose": "head", "emotion": "none"},
        {"pose": "head", "conditioning": "cross_attention", "objective": "x0"},
        {"objective": "epsilon"},
    ],
    ids=["released", "poses without emotions", "cross-attention", "diffusion"],
)
def test_no_variant_has_a_tensor_on_the_wrong_device(variant, mode, cuda):
    config = FloatConfig.from_dict(CONFIG.to_dict() | variant)
    runner = ModelRunner(on_cuda(FLOAT(config)), mode=mode, frame_batch=4)
    assert one_round(runner).waits == 1
    assert decoded(runner, 6).waits == 0


@pytest.mark.parametrize(("solver", "count"), [("heun", SLOTS), ("euler", 3)])
def test_other_solvers_and_half_empty_batches_wait_no_more_often(cuda, solver, count):
    assert one_round(small(), count=count, solver=solver).waits == 1


def test_cudnn_is_given_few_shapes_whatever_the_lengths_of_the_clips(cuda, monkeypatch):
    runner, sizes = small(BATCH), set()
    real = runner._decode
    monkeypatch.setattr(runner, "_decode", lambda latent, features: sizes.add(len(latent)) or real(latent, features))
    for frames in (9, 52, 57):
        decoded(runner, frames)
    assert sizes == {16, 24, 32}


def small_encoders():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    emotion = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
    content = ContentEncoder(Wav2Vec2Model(Wav2Vec2Config(**sizes)))
    labels = {"id2label": dict(enumerate(EMOTIONS))}
    heard = EmotionEncoder(Wav2Vec2Config(**sizes, **emotion, **labels))
    return content, SpeechProjection(content.dim, 16), heard


@pytest.mark.parametrize(("dtype", "seconds"), [(torch.float32, 0.03), (torch.float32, 70), (torch.bfloat16, 1)])
def test_speech_encoders_stay_on_the_gpu_and_ask_nothing_of_the_host(dtype, seconds, cuda, tmp_path, monkeypatch):
    content, projection, emotion = map(on_cuda, small_encoders())
    encoders = SpeechEncoders(content, projection, tmp_path, dtype, emotion)
    if dtype != torch.float32:  # `torch.autocast` turns itself off where there is no GPU
        monkeypatch.setattr(SpeechEncoders, "_autocast", lambda self: torch.no_grad())
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", dtype)
    wave = torch.zeros(1, int(seconds * 16_000), device="cuda")
    try:
        with counted() as work:
            found = encoders.speech(wave, SpeechWindow()), encoders.emotion(wave, SpeechWindow())
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert {(t.device.type, t.dtype) for t in found} == {("cuda", torch.float32)}
    assert (work.sent, work.fetched, work.waits) == (0, 0, 0)


# --- Planted faults are found ----------------------------------------------------------------------------------


def test_a_constant_that_stays_on_the_cpu_is_found(cuda, monkeypatch):
    real = models.fast.decoder.identity_grid
    monkeypatch.setattr(models.fast.decoder, "identity_grid", lambda side, device: real(side, torch.device("cpu")))
    with pytest.raises(RuntimeError, match="device"):
        decoded(small())


def changed_warp(change):
    real = models.fast.decoder.warp
    return lambda feature, flow, mask, identity: real(feature, flow * change(flow), mask, identity)


@pytest.mark.parametrize(
    ("change", "work"),
    [
        (lambda x: x.sum().item(), Work(waits=3)),
        (lambda x: float(x.max()), Work(waits=3)),
        (lambda x: x.new_tensor([1.0]), Work(waits=3, sent=3)),
        (lambda x: torch.tensor([1.0], device="cuda"), Work(waits=3, sent=3)),
        (lambda x: torch.ones(1).to("cuda", non_blocking=True), Work(sent=3)),
        (lambda x: x.mean((1, 2, 3), keepdim=True).cpu().to("cuda"), Work(waits=6, sent=3, fetched=3)),
    ],
    ids=["item", "float", "new_tensor", "tensor", "sent", "there and back"],
)
def test_what_a_decoder_asks_of_the_host_is_found(change, work, cuda, monkeypatch):
    """In each of the three stages."""
    monkeypatch.setattr(models.fast.decoder, "warp", changed_warp(change))
    found = decoded(small(), 4)
    assert (found.waits, found.sent, found.fetched) == (work.waits, work.sent, work.fetched)


def test_a_feature_map_that_is_laid_out_anew_is_found(cuda, monkeypatch):
    assert decoded(small(), 4).relaid == 0
    real = models.fast.decoder.blur
    monkeypatch.setattr(models.fast.decoder, "blur", lambda x: real(x).contiguous())
    assert decoded(small(), 4).relaid > 0
