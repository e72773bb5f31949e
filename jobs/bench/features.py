"""The speed of the feature stage: the speech encoders, and the time to load a clip."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial
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
from models.speech_encoders import ContentEncoder, EmotionEncoder, use_int8
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.settings import FeatureSettings
from pipeline.render.speech_precision import CLOSE, FASTER, around, reduced_precisions, relative_error
from pipeline.render.tuning.gate import worst_psnr
from pipeline.storage.explained import explained

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


def reduced_encoders(subject: Subject, exact: SpeechEncoders, name: str) -> SpeechEncoders:
    """The same with `name` as features.dtype; large ones share their weights."""
    if subject.job.model != FULL:
        return own_encoders(subject, name)
    dtype = around(name, exact.device.type)
    if name != "int8":
        return replace(exact, dtype=dtype)
    made = replace(deepcopy(exact), dtype=dtype, int8=True)
    assert made._emotion is not None
    use_int8(made.content.wav2vec2.encoder)
    use_int8(made._emotion.wav2vec2.encoder)
    return made


def best_dtype(rates: dict[str, float], errors: dict[str, float]) -> str:
    """What `features.dtype=auto` takes: the fastest whose features are close, if it is worth it."""
    allowed = [name for name, error in errors.items() if error <= CLOSE and rates[name] >= FASTER * rates["float32"]]
    return max(allowed, key=rates.__getitem__, default="float32")


def measure_features(subject: Subject) -> Figures:
    """Seconds of speech per second in each precision, what `features.dtype=auto` takes, and the time to load a clip.

    Features, and the frames that follow from them, are those of the model's own encoders.
    """
    length, device = subject.sizes.speech_seconds, subject.device
    wave = subject.wave(length)
    exact = encoders_of(subject, device)
    reduced = {name: reduced_encoders(subject, exact, name) for name in reduced_precisions(device.type)}

    def both(encoders: SpeechEncoders, window: SpeechWindow | None = None) -> None:
        encoders.speech(wave, window)
        encoders.emotion(wave, window)

    all_of_them = {"released": partial(both, exact, WHOLE), "float32": partial(both, exact)}
    all_of_them |= {name: partial(both, encoders) for name, encoders in reduced.items()}
    turns = rounds(list(all_of_them.values()), max(1, subject.sizes.times // 2))
    rates = {name: length / min(turn[i] for turn in turns) for i, name in enumerate(all_of_them)}
    say("  " + ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items()) + " s of speech a second")
    subject.report({"rates": rates})
    errors = {name: features_error(subject, name) for name in reduced}
    best = best_dtype(rates, errors)
    say(f"  features.dtype=auto: {best}; features differ by {', '.join(f'{n} {e:.2%}' for n, e in errors.items())}")
    chosen = reduced.get(best, exact)
    more: Figures = {}
    if subject.gpu:  # where the default settings encode speech
        on_cpu = encoders_of(subject, torch.device("cpu"))
        few = subject.wave(min(length, 4)).cpu()
        more["cpu_rate"] = few.shape[1] / 16_000 / seconds(lambda: (on_cpu.speech(few), on_cpu.emotion(few)), 1)
        say(f"  on the CPUs, float32: {more['cpu_rate']:.1f} s of speech a second")
    load = loading_seconds(subject)
    say(f"  load seconds a clip: {load:.3f}")
    return {
        "baseline": {"features": rates["released"]},
        "engine": {"features": rates[best]},
        "psnr": {"features": features_psnr(subject, best)},
        "rates": rates,
        "errors": errors,
        "dtype": best,
        "default_dtype": FeatureSettings().dtype,
        "float32_rate": rates["float32"],
        "emotion_given_rate": length / seconds(lambda: chosen.speech(wave), 1),
        "load_seconds_a_clip": load,
        **more,
        **memory(subject),
    }


def own_encoders(subject: Subject, name: str) -> SpeechEncoders:
    """The model's own encoders, with `name` as features.dtype."""
    dtype = around(name, subject.device.type)
    return load_speech_encoders(subject.folder, subject.device, dtype, int8=name == "int8")


def features_error(subject: Subject, name: str) -> float:
    """Relative error of the model's own encoders, as a worker measures it; infinite where there is no such kernel."""
    exact, window = own_encoders(subject, "float32"), SpeechWindow()
    try:
        return relative_error(own_encoders(subject, name), exact, window)
    except RuntimeError as problem:
        say(f"  speech is not encoded in {name}: {explained(problem)}")
        return math.inf


def features_psnr(subject: Subject, name: str) -> float:
    """Worst frame of the plain model, dB, if only the speech features are computed with `name` as features.dtype."""
    window = len(subject.speech)
    speech: Tensor = own_encoders(subject, name).speech(subject.wave(-(-window // 25)))
    features = speech[0, :window].cpu().numpy().astype(np.float32)
    with precision(tf32=False):
        motion = subject.sample_plain(subject.plain_portrait, features)
    return worst_psnr(subject.plain_frames(motion), subject.expected)


def loading_seconds(subject: Subject) -> float:
    """Seconds of one CPU to fetch, decode and crop the files of a clip, as a mean over the clips of the demo."""
    clips = read_manifest(str(DEMO)).clips

    def load() -> None:
        for clip in clips:
            load_inputs(clip, Limits(), subject.side, subject.video)

    return seconds(load, 2) / len(clips)
