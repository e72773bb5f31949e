"""Training excerpts of speech: cut anywhere, faster or slower, and through another room and microphone.

Each batch is a function of (seed, step).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models import MOTION_FPS, SAMPLE_RATE
from models.config import SAMPLES_PER_FRAME
from models.speech import normalize_waveform
from pipeline.research.corpus.formants import moved_formants, spectrogram, waveform
from pipeline.research.corpus.speech import ESPEAK
from pipeline.research.speech_encoders.corpus import Clip

FINE = 8
"""Number of moments in a frame at which its phonemes are looked up."""

BANDS = 10
"""Number of points of a microphone's response curve, evenly spaced on a logarithmic frequency axis."""
COLOUR_DB = 8.0
"""Standard deviation of that curve at each point: people and synthesisers differ by as much."""
WOBBLE_SECONDS, WOBBLE_SHARE = 0.05, 0.2
"""How often the speed changes within an excerpt, and the standard deviation of these changes as a share of
`stretch`.
"""
ROOM_SHARE, ROOM_SECONDS, LEAST_DECAY, MOST_DECAY = 0.5, 0.3, 0.01, 0.06
"""Share of the excerpts in a room of their own, the length of its echo, and the range of its time constants, s."""
OVERDRIVE_SHARE, LEAST_DRIVE, MOST_DRIVE = 0.4, 0.2, 1.5
"""Share of the excerpts that overload their microphone, and by how much."""
NOISE_SHARE, LEAST_SNR, MOST_SNR = 0.7, 3.0, 40.0
"""Share of the excerpts with noise, and its level below the speech, dB."""
NARROW_SHARE, NARROWEST_HZ = 0.25, 3000.0
"""Share of the excerpts that are low-pass filtered, and the lowest cut-off frequency."""

BAND_MASKS, WIDEST_BAND, TIME_MASKS, LONGEST_TIME = 2, 30, 2, 12
"""SpecAugment (Park et al. 2019): number of masked bands of an excerpt and the width of the widest in bins of 31 Hz,
number of masked moments and the length of the longest in steps of 8 ms.
"""


def balanced(clips: Sequence[Clip], natural: float) -> list[Clip]:
    """The clips, with those of natural voices so often that they are about this share (below 1) of the list.

    They are as they are for a share of 0, and where there is only one kind.
    """
    spoken = [clip for clip in clips if clip.voice != ESPEAK]
    others = [clip for clip in clips if clip.voice == ESPEAK]
    if not natural or not spoken or not others:
        return list(clips)
    return others + spoken * max(1, round(natural / (1 - natural) * len(others) / len(spoken)))


def draw_pieces(
    clips: Sequence[Clip], batch: int, seconds: float, stretch: float, seed: int, step: int
) -> tuple[list[Clip], Tensor, np.ndarray]:
    """(clips, waves (B,samples) of whole frames, times (B,T,FINE) of moments inside them, in seconds of the clip)."""
    frames = max(1, round(seconds * MOTION_FPS))
    rng = np.random.default_rng([seed, step])
    chosen, waves, moments = [], [], []
    for _ in range(batch):
        clip = clips[int(rng.integers(len(clips)))]
        speed = float(np.exp(rng.uniform(-1, 1) * np.log1p(stretch)))
        places = _places(frames * SAMPLES_PER_FRAME, speed, WOBBLE_SHARE * stretch, rng)
        # A shorter clip is placed somewhere inside, with silence around it.
        spare = len(clip.wave) - places[-1] - 1
        places += rng.uniform(min(0.0, spare), max(0.0, spare))
        waves.append(_resampled(clip.wave, places))
        middles = places.reshape(frames, FINE, -1).mean(-1)
        moments.append(middles / SAMPLE_RATE)
        chosen.append(clip)
    return chosen, torch.from_numpy(np.stack(waves)), np.stack(moments)


def _places(samples: int, speed: float, wobble: float, rng: np.random.Generator) -> np.ndarray:
    """Position in the clip of each sample of an excerpt, from 0 on, (samples,) float64."""
    step = round(WOBBLE_SECONDS * SAMPLE_RATE)
    knots = np.arange(0, samples + step, step)
    speeds = speed * np.exp(wobble * rng.standard_normal(len(knots) - 1))
    return np.interp(np.arange(samples), knots, np.concatenate([[0], np.cumsum(speeds * step)]))


def _resampled(wave: np.ndarray, places: np.ndarray) -> np.ndarray:
    first, last = max(0, int(places[0])), int(places[-1]) + 2
    piece = wave[first:last].astype(np.float32) / 2**15
    return np.interp(places - first, np.arange(len(piece)), piece, left=0, right=0).astype(np.float32)


def targets(clips: Sequence[Clip], moments: np.ndarray, symbols: Sequence[str]) -> Tensor:
    """Moments (B,T,n) in seconds of their clips -> share of each frame that each symbol has, (B,T,K) float32."""
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


def distorted(waves: Tensor, seed: int, step: int, share: float = 1.0) -> Tensor:
    """Waves (B,samples) through other microphones, with noise; loudness does not matter because encoders normalise it.

    Only `share` of them is altered; the others are only returned at the same loudness.
    """
    draw = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 1]).generate_state(1)[0]))
    count, samples = waves.shape
    clean = waves = normalize_waveform(waves)
    drive = LEAST_DRIVE + (MOST_DRIVE - LEAST_DRIVE) * torch.rand(count, 1, generator=draw)
    loud = torch.rand(count, 1, generator=draw) < OVERDRIVE_SHARE
    waves = torch.where(loud, torch.tanh(drive * waves), waves)
    spectrum = torch.fft.rfft(waves) * _curve(count, samples, COLOUR_DB, draw) * _rooms(count, samples, draw)
    limit = NARROWEST_HZ + (SAMPLE_RATE / 2 - NARROWEST_HZ) * torch.rand(count, 1, generator=draw)
    narrow = torch.rand(count, 1, generator=draw) < NARROW_SHARE
    hertz = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = spectrum * ~(narrow & (hertz > limit))
    waves = normalize_waveform(torch.fft.irfft(spectrum, samples))
    noise = torch.randn(count, samples, generator=draw)
    noise = normalize_waveform(torch.fft.irfft(torch.fft.rfft(noise) * _curve(count, samples, 8.0, draw), samples))
    ratio = LEAST_SNR + (MOST_SNR - LEAST_SNR) * torch.rand(count, 1, generator=draw)
    noisy = torch.rand(count, 1, generator=draw) < NOISE_SHARE
    waves = waves + noise * noisy * 10 ** (-ratio / 20)
    return torch.where(torch.rand(count, 1, generator=draw) < share, waves, clean)


def revoiced(waves: Tensor, seed: int, step: int, tract: float, masks: float) -> Tensor:
    """Waves (B,samples) as from other vocal tracts, by a factor of up to 1 + `tract` on the formants.

    A share `masks` of them lacks some bands and moments, so that a phoneme is not known by one of its signs alone.
    """
    draw = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step, 2]).generate_state(1)[0]))
    count, samples = waves.shape
    if tract:
        waves = moved_formants(waves, (1 + tract) ** (2 * torch.rand(count, generator=draw) - 1))
    if not masks:
        return waves
    spectra = spectrogram(waves)  # (B,F,T)
    masked = torch.rand(count, generator=draw) < masks
    for number, widest, axis in ((BAND_MASKS, WIDEST_BAND, 1), (TIME_MASKS, LONGEST_TIME, 2)):
        places = torch.arange(spectra.shape[axis])
        for _ in range(number):
            width = torch.rand(count, 1, generator=draw) * widest
            start = torch.rand(count, 1, generator=draw) * (len(places) - width)
            kept = ~((places >= start) & (places < start + width) & masked[:, None])  # (B,F) or (B,T)
            spectra = spectra * kept.unsqueeze(3 - axis)
    return waveform(spectra, samples)


def _rooms(count: int, samples: int, draw: torch.Generator) -> Tensor:
    """Spectra (count, samples // 2 + 1) of a click and its echo, which is decaying noise.

    The end of an excerpt echoes in its start.
    """
    length = min(samples, round(ROOM_SECONDS * SAMPLE_RATE))
    decay = LEAST_DECAY + (MOST_DECAY - LEAST_DECAY) * torch.rand(count, 1, generator=draw)
    echo = torch.randn(count, length, generator=draw) * torch.exp(-torch.arange(length) / SAMPLE_RATE / decay)
    echo *= 10 ** -torch.rand(count, 1, generator=draw) / torch.linalg.vector_norm(echo, dim=1, keepdim=True)
    echo *= torch.rand(count, 1, generator=draw) < ROOM_SHARE
    echo[:, 0] = 1
    return torch.fft.rfft(echo, samples)


def _curve(count: int, samples: int, decibels: float, draw: torch.Generator) -> Tensor:
    """(count, samples // 2 + 1) factors that change smoothly with the logarithm of the frequency."""
    points = torch.randn(count, BANDS, generator=draw) * decibels
    place = torch.log2(1 + torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE) / 200)
    place = place / place[-1] * (BANDS - 1)
    below = place.long().clamp(max=BANDS - 2)
    return 10 ** (torch.lerp(points[:, below], points[:, below + 1], place - below) / 20)
