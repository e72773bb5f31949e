"""Pieces of speech to learn from: cut anywhere, faster or slower, through another room and microphone.

Each batch is a function of (seed, step).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models import MOTION_FPS, SAMPLE_RATE
from models.config import SAMPLES_PER_FRAME
from models.speech import normalize_waveform
from pipeline.listening.corpus import Clip

FINE = 8
"""Moments of a frame at which its sounds are looked up."""

BANDS = 10
"""Points of a microphone's curve, evenly spaced on a logarithmic axis of frequency."""
COLOUR_DB = 5.0
"""Standard deviation of that curve at each point."""
NOISE_SHARE, LEAST_SNR, MOST_SNR = 0.7, 3.0, 40.0
"""Share of the pieces with noise, and its level below the speech, dB."""
NARROW_SHARE, NARROWEST_HZ = 0.25, 3000.0
"""Share of the pieces that lose what is above a frequency, and the lowest of these."""


def draw_pieces(
    clips: Sequence[Clip], batch: int, seconds: float, stretch: float, seed: int, step: int
) -> tuple[list[Clip], Tensor, np.ndarray]:
    """(clips, waves (B,samples) of whole frames, times (B,T,FINE) of moments inside them, seconds in the clip)."""
    frames = max(1, round(seconds * MOTION_FPS))
    rng = np.random.default_rng([seed, step])
    chosen, waves, moments = [], [], []
    for _ in range(batch):
        clip = clips[int(rng.integers(len(clips)))]
        speed = float(np.exp(rng.uniform(-1, 1) * np.log1p(stretch)))
        span = frames * SAMPLES_PER_FRAME * speed
        # A clip that is shorter lies somewhere inside, with silence around.
        start = rng.uniform(min(0.0, len(clip.wave) - span), max(0.0, len(clip.wave) - span))
        waves.append(_resampled(clip.wave, start, frames * SAMPLES_PER_FRAME, speed))
        inside = (np.arange(frames * FINE) + 0.5).reshape(frames, FINE) * (SAMPLES_PER_FRAME / FINE) * speed
        moments.append((start + inside) / SAMPLE_RATE)
        chosen.append(clip)
    return chosen, torch.from_numpy(np.stack(waves)), np.stack(moments)


def _resampled(wave: np.ndarray, start: float, samples: int, speed: float) -> np.ndarray:
    places = start + np.arange(samples) * speed
    first, last = max(0, int(start)), int(places[-1]) + 2
    piece = wave[first:last].astype(np.float32) / 2**15
    return np.interp(places - first, np.arange(len(piece)), piece, left=0, right=0).astype(np.float32)


def targets(clips: Sequence[Clip], moments: np.ndarray, symbols: Sequence[str]) -> Tensor:
    """Moments (B,T,n), seconds in their clips -> share of each frame that each symbol has, (B,T,K) float32."""
    places = {symbol: i for i, symbol in enumerate(symbols)}
    rows = []
    for clip, times in zip(clips, moments, strict=True):
        spoken = np.array([places[symbol] for symbol in clip.symbols])
        at = np.searchsorted(clip.starts, times, side="right") - 1
        end = len(clip.wave) / SAMPLE_RATE
        labels = np.where((at < 0) | (times > end), places[""], spoken[at.clip(0)])
        rows.append(np.eye(len(symbols), dtype=np.float32)[labels].mean(1))
    return torch.from_numpy(np.stack(rows))


def whole_targets(clip: Clip, symbols: Sequence[str]) -> Tensor:
    """`targets` (T,K) of a whole clip at 25 fps."""
    frames = len(clip.wave) // SAMPLES_PER_FRAME
    times = (np.arange(frames * FINE) + 0.5).reshape(frames, FINE) / (MOTION_FPS * FINE)
    return targets([clip], times[None], symbols)[0]


def distorted(waves: Tensor, seed: int, step: int) -> Tensor:
    """Waves (B,samples) through other microphones, with noise; loudness does not matter, as encoders normalise it."""
    draw = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 1]).generate_state(1)[0]))
    count, samples = waves.shape
    waves = normalize_waveform(waves)
    spectrum = torch.fft.rfft(waves) * _curve(count, samples, COLOUR_DB, draw)
    limit = NARROWEST_HZ + (SAMPLE_RATE / 2 - NARROWEST_HZ) * torch.rand(count, 1, generator=draw)
    narrow = torch.rand(count, 1, generator=draw) < NARROW_SHARE
    hertz = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = spectrum * ~(narrow & (hertz > limit))
    waves = normalize_waveform(torch.fft.irfft(spectrum, samples))
    noise = torch.randn(count, samples, generator=draw)
    noise = normalize_waveform(torch.fft.irfft(torch.fft.rfft(noise) * _curve(count, samples, 8.0, draw), samples))
    ratio = LEAST_SNR + (MOST_SNR - LEAST_SNR) * torch.rand(count, 1, generator=draw)
    noisy = torch.rand(count, 1, generator=draw) < NOISE_SHARE
    return waves + noise * noisy * 10 ** (-ratio / 20)


def _curve(count: int, samples: int, decibels: float, draw: torch.Generator) -> Tensor:
    """(count, samples // 2 + 1) factors that change smoothly with the logarithm of the frequency."""
    points = torch.randn(count, BANDS, generator=draw) * decibels
    place = torch.log2(1 + torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE) / 200)
    place = place / place[-1] * (BANDS - 1)
    below = place.long().clamp(max=BANDS - 2)
    return 10 ** (torch.lerp(points[:, below], points[:, below + 1], place - below) / 20)
