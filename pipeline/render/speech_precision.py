"""The precision of the speech encoders of a worker: as the settings name it, or the fastest that keeps the features."""

import logging
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import SAMPLE_RATE, ModelFolder, SpeechWindow

if TYPE_CHECKING:
    from models.encoders import SpeechEncoders

logger = logging.getLogger(__name__)

FLOAT32 = "set features.dtype=float32"

ROUNDING = 0.1
"""Largest relative error of reduced features that counts as rounding; measured were 1 to 2 %."""

CLOSE = 0.02
"""Largest relative error with which `auto` takes a reduced precision."""

FASTER = 1.15
"""How many times as fast as float32 it has to be for that."""

TIMES = 3


def has_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware. PyTorch also supports it without, but slowly."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # A PyTorch that is too old to tell counts as a CPU without it.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def open_speech_encoders(model: ModelFolder, device: str, dtype: str, window: SpeechWindow) -> "SpeechEncoders":
    """The encoders in the precision that `features.dtype` names, after a comparison with float32.

    Raises RuntimeError if the device cannot compute in this way, or computes something else. `auto` raises nothing: it
    takes what is close enough and faster, and otherwise float32.
    """
    from models.encoders import (
        load_speech_encoders,
    )  # takes seconds because of transformers, so it is not imported by processes that only plan or render

    exact = load_speech_encoders(model, device, torch.float32)
    if dtype == "float32":
        return exact
    if dtype == "bfloat16" and not has_bfloat16(device):
        raise RuntimeError(
            "this worker must encode speech in bfloat16, but PyTorch finds no hardware for it here (a CPU with "
            f"AVX512-BF16 or AMX, or a GPU from Ampere on): {FLOAT32}"
        )

    def load(name: str) -> "SpeechEncoders":
        return load_speech_encoders(model, device, around(name, device), int8=name == "int8")

    if dtype == "auto":
        return _fastest(exact, load, window)
    reduced = load(dtype)
    try:
        error = relative_error(reduced, exact, window)
    except RuntimeError as problem:
        raise RuntimeError(f"this worker cannot encode speech in {dtype}: {FLOAT32}") from problem
    if not error < ROUNDING:  # also true for NaN
        # A kernel may be wrong on one kind of CPU only (`models.speech_encoders.keep_grouped_convolutions_exact`).
        raise RuntimeError(
            f"the {dtype} speech features of this worker differ from float32 by {error:.0%}, although rounding "
            f"explains only 2 %: its CPU or its PyTorch computes wrongly; {FLOAT32}"
        )
    return reduced


def reduced_precisions(device: str) -> tuple[str, ...]:
    """What `features.dtype=auto` tries on a `device`."""
    return ("bfloat16",) * has_bfloat16(device) + ("int8",) * (device == "cpu")


def around(name: str, device: str) -> torch.dtype:
    """The type of everything that is not a product of integers, for a value of `features.dtype`."""
    return torch.bfloat16 if name == "bfloat16" or (name == "int8" and has_bfloat16(device)) else torch.float32


def _fastest(
    exact: "SpeechEncoders", load: Callable[[str], "SpeechEncoders"], window: SpeechWindow
) -> "SpeechEncoders":
    """The fastest encoders whose features are within `CLOSE` of those of `exact`, if they are `FASTER`."""
    best, best_ratio, chosen = exact, FASTER, "float32"
    for name in reduced_precisions(exact.device.type):
        try:
            found = load(name)
            error = relative_error(found, exact, window)
            ratio = speed_ratio(found, exact, window) if error <= CLOSE else 0.0
        except RuntimeError as problem:  # there is no such kernel here
            logger.info("speech is not encoded in %s: %s", name, problem)
            continue
        logger.info("speech features in %s: error %.2f %%, %.2f times as fast as float32", name, 100 * error, ratio)
        if ratio >= best_ratio:
            best, best_ratio, chosen = found, ratio, name
    logger.info("speech is encoded in %s", chosen)
    return best


def relative_error(found: "SpeechEncoders", exact: "SpeechEncoders", window: SpeechWindow) -> float:
    """||w_a - w_a'|| / ||w_a|| of the speech features of `voice()`."""
    wave = voice().to(exact.device)
    wanted = exact.speech(wave, window).float()
    return float((found.speech(wave, window).float() - wanted).norm() / wanted.norm())


def speed_ratio(found: "SpeechEncoders", exact: "SpeechEncoders", window: SpeechWindow) -> float:
    """How many times as fast as `exact` the other encoders are: medians of turns that alternate."""
    wave = voice().to(exact.device)

    def seconds(encoders: "SpeechEncoders") -> float:
        start = time.perf_counter()
        encoders.speech(wave, window).cpu()  # waits for a GPU
        return time.perf_counter() - start

    spent = [(seconds(exact), seconds(found)) for _ in range(TIMES)]
    return median(first for first, _ in spent) / median(second for _, second in spent)


def voice() -> torch.Tensor:
    """Four seconds of a synthetic voice (1,samples), long enough for attention to use the same kernels as for clips.

    Harmonics of a moving pitch under two moving formants, in four syllables a second, with a little noise.
    """
    time_axis = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_axis)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = 500 + 200 * np.sin(2 * np.pi * 1.3 * time_axis), 1500 + 500 * np.sin(2 * np.pi * 0.9 * time_axis)
    sound = 0.01 * np.random.default_rng(0).standard_normal(len(time_axis))
    for harmonic in range(1, 24):
        strength = sum(np.exp(-(((harmonic * pitch - formant) / 200) ** 2)) for formant in formants)
        sound += strength * np.cos(harmonic * phase)
    sound *= 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time_axis)
    return torch.from_numpy(sound.astype(np.float32))[None]
