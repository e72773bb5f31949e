"""Whether somebody speaks: Silero's voice activity detector, version 6.2, on 16 kHz mono.

The network is Silero's (`voice_model/README.md`); its arithmetic is written here with NumPy, because it is small, and
quality control starts without PyTorch. For each block of 512 samples (32 ms) and the 64 before it:

    magnitudes of a Fourier transform of 256 samples, every 128 -> four convolutions of width 3 -> an LSTM with 128
    states, which goes on from block to block -> a linear layer and a sigmoid
"""

from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from models.config import SAMPLE_RATE

BLOCK = 512
"""Samples of a block, 32 ms."""
BLOCK_SECONDS = BLOCK / SAMPLE_RATE

VOICE, NO_VOICE = 0.5, 0.35
"""A voice begins where the probability reaches the first, and ends where it falls below the second."""
SHORTEST_VOICE = 0.1
"""A shorter voice between two pauses is a noise, s."""
SHORTEST_PAUSE = 0.3
"""A shorter pause belongs to the speech around it: a closed consonant with its neighbours, s."""

_CONTEXT, _PAD, _FFT, _HOP = 64, 64, 256, 128
_STRIDES = {"conv1": 1, "conv2": 2, "conv3": 2, "conv4": 1}
_BATCH = 1024
"""Blocks whose convolutions are computed at once (33 s, 20 MB)."""
_WEIGHTS = Path(__file__).parent / "voice_model" / "silero_vad_16k.safetensors"


def voice_probability(wave: np.ndarray) -> np.ndarray:
    """(samples at 16 kHz,) float in [-1,1], or int16 -> probability of a voice in each block (ceil(samples/512),).

    The last block is filled up with zeros.
    """
    weights = _weights()
    scale = 1 / 32768 if wave.dtype == np.int16 else 1.0
    count = -(-len(wave) // BLOCK)
    hidden = cell = np.zeros(128, np.float32)
    recurrent = np.ascontiguousarray(weights["lstm_cell.weight_hh"].T)
    found = np.empty(count, np.float32)
    for start in range(0, count, _BATCH):
        blocks = range(start, min(start + _BATCH, count))
        first = start * BLOCK - _CONTEXT
        part = wave[max(0, first) : blocks.stop * BLOCK].astype(np.float32) * np.float32(scale)
        part = np.pad(part, (max(0, -first), len(blocks) * BLOCK + _CONTEXT - len(part) - max(0, -first)))
        seen = np.lib.stride_tricks.sliding_window_view(part, _CONTEXT + BLOCK)[::BLOCK]
        gates = _features(seen, weights) @ weights["lstm_cell.weight_ih"].T
        gates += weights["lstm_cell.bias_ih"] + weights["lstm_cell.bias_hh"]
        for number in blocks:
            into, forget, new, out = np.split(gates[number - start] + hidden @ recurrent, 4)
            cell = _sigmoid(forget) * cell + _sigmoid(into) * np.tanh(new)
            hidden = _sigmoid(out) * np.tanh(cell)
            logit = weights["final_conv.weight"].ravel() @ hidden.clip(0) + weights["final_conv.bias"][0]
            found[number] = _sigmoid(logit)
    return found


def pauses(wave: np.ndarray) -> list[tuple[float, float]]:
    """Start and end in seconds of all parts of 0.3 s or more in which nobody speaks; `wave` as for
    `voice_probability`.
    """
    return pauses_of(voice_probability(wave), len(wave) / SAMPLE_RATE)


def pauses_of(probability: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """The same for the blocks of a sound that lasts so many seconds."""
    speaks, voice = np.zeros(len(probability), bool), False
    for number, value in enumerate(probability):
        voice = value >= (NO_VOICE if voice else VOICE)
        speaks[number] = voice
    for wanted, least in ((True, SHORTEST_VOICE), (False, SHORTEST_PAUSE)):
        for start, end in _runs(speaks, wanted):
            if (end - start) * BLOCK_SECONDS < least:
                speaks[start:end] = not wanted
    return [(start * BLOCK_SECONDS, min(end * BLOCK_SECONDS, seconds)) for start, end in _runs(speaks, False)]


def _runs(values: np.ndarray, wanted: bool) -> list[tuple[int, int]]:
    """First and one behind the last position of each run of `wanted`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values == wanted, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _features(blocks: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """(n, 576) samples -> (n, 128), what the LSTM gets."""
    padded = np.pad(blocks, ((0, 0), (0, _PAD)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=1)[:, ::_HOP]  # (n, 4, 256)
    parts = windows @ weights["stft_conv.weight"][:, 0].T
    half = parts.shape[2] // 2
    x = np.sqrt(parts[..., :half] ** 2 + parts[..., half:] ** 2)  # (n, time, channels)
    for name, stride in _STRIDES.items():
        x = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        near = np.lib.stride_tricks.sliding_window_view(x, 3, axis=1)[:, ::stride]  # (n, time, channels, 3)
        kernel = weights[f"{name}.weight"]  # (out, channels, 3)
        x = near.reshape(*near.shape[:2], -1) @ kernel.reshape(len(kernel), -1).T + weights[f"{name}.bias"]
        x = x.clip(0)
    return x[:, 0]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))  # beyond 88 the exponential overflows float32


@cache
def _weights() -> dict[str, np.ndarray]:
    return load_file(_WEIGHTS)
