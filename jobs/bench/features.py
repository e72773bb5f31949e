"""The speed of the feature stage: the speech encoders, and the time to load a clip."""

from pathlib import Path

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from jobs.bench.counting import seconds
from jobs.bench.job import DEMO, BenchmarkJob, Measurements, Stage
from models import EMOTIONS, FLOAT, SpeechWindow
from models.encoders import SpeechEncoders, load_speech_encoders
from models.speech_encoders import ContentEncoder, EmotionEncoder
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.feature_stage import has_bfloat16
from pipeline.storage.model_cache import POCKET, local_model

SPEECH_SECONDS = 10


def speech_encoders(model: FLOAT, size: str, dtype: torch.dtype, device: torch.device) -> SpeechEncoders:
    """The encoders of the bundled model, or full-size ones with random weights."""
    if size == POCKET:
        return load_speech_encoders(local_model(POCKET), device, dtype)
    content = Wav2Vec2Config()  # wav2vec2-base
    emotion = Wav2Vec2Config(  # wav2vec2-large-xlsr
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        id2label=dict(enumerate(EMOTIONS)),
    )
    return SpeechEncoders(
        ContentEncoder(Wav2Vec2Model(content)).eval().to(device),
        model.speech_projection,
        Path(),
        dtype,
        EmotionEncoder(emotion).eval().to(device),
    )


def measure_features(job: BenchmarkJob, model: FLOAT, device: torch.device, measurements: Measurements) -> None:
    """Seconds of speech per second, and the time that a clip needs before its speech is encoded."""
    print("speech encoders ...", flush=True)
    wave = torch.randn(1, SPEECH_SECONDS * 16_000, device=device)
    encoders = speech_encoders(model, job.model, torch.float32, device)
    whole = SpeechWindow(10_000.0, 0.0)
    rate: dict[str, float] = {}

    def measure(name: str, window: SpeechWindow | None) -> None:
        rate[name] = SPEECH_SECONDS / seconds(lambda: (encoders.speech(wave, window), encoders.emotion(wave, window)))

    measure("baseline", whole)
    measure("engine", None)
    measurements.stages.append(Stage("features", "s/s", rate["baseline"], rate["engine"]))
    measurements.variants["features, emotion given in the manifest"] = SPEECH_SECONDS / seconds(
        lambda: encoders.speech(wave)
    )
    if job.sweep and has_bfloat16(device.type):
        encoders.dtype = torch.bfloat16
        measure("bfloat16", None)
        measurements.variants["features, bfloat16"] = rate["bfloat16"]
    clip = read_manifest(str(DEMO)).clips[0]
    load = seconds(lambda: load_inputs(clip, Limits(), model.config.image_size, 192))
    measurements.further["load_seconds_a_clip"] = load
