"""The speed of the feature stage: the speech encoders, and the time to load a clip."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from jobs.bench.counting import precision, rounds, seconds
from jobs.bench.job import DEMO, FULL, Figures, say
from jobs.bench.machine import memory
from jobs.bench.subject import Subject
from models import EMOTIONS, SpeechWindow
from models.encoders import SpeechEncoders, load_speech_encoders
from models.speech import SpeechProjection
from models.speech_encoders import ContentEncoder, EmotionEncoder
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.feature_stage import has_bfloat16
from pipeline.render.settings import FeatureSettings
from pipeline.render.tuning.gate import worst_psnr

WHOLE = SpeechWindow(10_000.0, 0.0)


def released_encoders(device: torch.device, dtype: torch.dtype) -> SpeechEncoders:
    """Encoders of the released sizes. They are random, and good for measuring speed alone."""
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
    torch.manual_seed(0)
    with torch.device(device):
        return SpeechEncoders(
            ContentEncoder(Wav2Vec2Model(content)).eval(),
            SpeechProjection(content.num_hidden_layers * content.hidden_size, 512).eval(),
            Path(),
            dtype,
            EmotionEncoder(emotion).eval(),
        )


def encoders_of(subject: Subject, device: torch.device) -> SpeechEncoders:
    """The encoders whose speed is measured, in float32."""
    if subject.job.model == FULL:
        return released_encoders(device, torch.float32)
    return load_speech_encoders(subject.folder, device)


def best_dtype(device: torch.device) -> str:
    """The fastest value of features.dtype that this device has instructions for."""
    return "bfloat16" if has_bfloat16(device.type) else "float32"


def measure_features(subject: Subject) -> Figures:
    """Seconds of speech per second, the PSNR of frames that follow from them, and the time to load a clip."""
    length, device = subject.sizes.speech_seconds, subject.device
    wave = subject.wave(length)
    encoders = encoders_of(subject, device)
    exact, fast = torch.float32, getattr(torch, best_dtype(device))

    def both(dtype: torch.dtype, window: SpeechWindow | None) -> None:
        encoders.dtype = dtype
        encoders.speech(wave, window)
        encoders.emotion(wave, window)

    def speech(dtype: torch.dtype) -> None:
        encoders.dtype = dtype
        encoders.speech(wave)

    works = [lambda: both(exact, WHOLE), lambda: both(exact, None), lambda: both(fast, None), lambda: speech(fast)]
    turns = rounds(works, max(1, subject.sizes.times // 2))
    baseline, in_float32, in_fast, without_emotion = (length / min(turn[i] for turn in turns) for i in range(4))
    say(f"  released {baseline:.1f}, float32 {in_float32:.1f}, {best_dtype(device)} {in_fast:.1f} s of speech a second")
    more: Figures = {}
    if subject.gpu:  # where the default settings encode speech
        on_cpu = encoders_of(subject, torch.device("cpu"))
        few = subject.wave(min(length, 4)).cpu()
        more["cpu_rate"] = few.shape[1] / 16_000 / seconds(lambda: (on_cpu.speech(few), on_cpu.emotion(few)), 1)
        say(f"  on the CPUs, float32: {more['cpu_rate']:.1f} s of speech a second")
    load = loading_seconds(subject)
    say(f"  load seconds a clip: {load:.3f}")
    return {
        "baseline": {"features": baseline},
        "engine": {"features": in_fast},
        "psnr": {"features": features_psnr(subject, fast)},
        "dtype": best_dtype(device),
        "default_dtype": FeatureSettings().dtype,
        "float32_rate": in_float32,
        "emotion_given_rate": without_emotion,
        "load_seconds_a_clip": load,
        **more,
        **memory(subject),
    }


def features_psnr(subject: Subject, dtype: torch.dtype) -> float:
    """Worst frame of the plain model, dB, if only the speech features come from the model's own encoders in `dtype`."""
    encoders = load_speech_encoders(subject.folder, subject.device, dtype)
    window = len(subject.speech)
    speech: Tensor = encoders.speech(subject.wave(-(-window // 25)))
    features = speech[0, :window].cpu().numpy().astype(np.float32)
    with precision(tf32=False):
        motion = subject.sample_plain(subject.plain_portrait, features)
    return worst_psnr(subject.plain_frames(motion), subject.expected)


def loading_seconds(subject: Subject) -> float:
    """Seconds of one CPU to fetch, decode and crop the files of a clip, as a mean over the clips of the demo."""
    clips = read_manifest(str(DEMO)).clips

    def load() -> None:
        for clip in clips:
            load_inputs(clip, Limits(), subject.side, subject.video.audio_kbps)

    return seconds(load, 2) / len(clips)
