"""Voice quality: how tense, breathy or unsteady a voice is, in addition to what a synthesiser can be asked for.

Pitch, speed and level reveal an emotion only to listeners who know the speaker's normal ones; in people the sound of
the voice itself reveals much of the rest (Gobl and Ni Chasaide 2003, Speech Communication 40).
"""

from dataclasses import dataclass

import numpy as np

from models import SAMPLE_RATE

MIDDLE_HZ = 700.0
"""Frequency at which a tilt changes nothing."""
TILTED_HZ = (120.0, 6000.0)
"""Below and above these frequencies, the tilt does not continue."""
ENVELOPE_SECONDS = 0.008
"""Breath follows the loudness of the voice within a period or two."""


@dataclass(frozen=True)
class Quality:
    """Quality of a voice; all zeros leave it unchanged."""

    tilt: float = 0.0
    """dB per octave on the spectrum: a tense voice is bright (above 0), a lax one dull."""
    breath: float = 0.0
    """Aspiration noise, relative to the voice's own level."""
    shake: float = 0.0
    """Depth of a modulation of the level, 0 to 1."""
    shake_hz: float = 0.0
    """Its rate: below 15 Hz a tremor, 20 to 40 Hz a creak, 50 to 90 Hz harsh."""


def coloured(wave: np.ndarray, quality: Quality, amount: float, seed: int) -> np.ndarray:
    """A voice (n,) float32 at 16 kHz with `amount` (0 to 1) of a quality, as long and as loud (RMS) as before.

    `seed` determines the breath noise, and how steady the rate of the modulation is.
    """
    before = float(np.sqrt(np.square(wave, dtype=np.float64).mean()))
    if amount == 0 or before == 0 or quality == Quality():
        return wave
    rng = np.random.default_rng([seed, 7])
    voice = _tilted(wave.astype(np.float64), amount * quality.tilt)
    if quality.breath:
        voice = voice + amount * quality.breath * _envelope(voice) * _hiss(len(voice), rng)
    if quality.shake:
        voice = voice * _modulation(len(voice), amount * quality.shake, quality.shake_hz, rng)
    return (voice * (before / np.sqrt(np.square(voice).mean()))).astype(np.float32)


def _tilted(wave: np.ndarray, slope: float) -> np.ndarray:
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE).clip(*TILTED_HZ)
    gain = 10 ** (slope * np.log2(hertz / MIDDLE_HZ) / 20)
    return np.fft.irfft(np.fft.rfft(wave) * gain, len(wave))


def _envelope(wave: np.ndarray) -> np.ndarray:
    """(n,): RMS of the neighbourhood."""
    window = np.hanning(round(2 * ENVELOPE_SECONDS * SAMPLE_RATE) + 2)
    return np.sqrt(np.convolve(np.square(wave), window / window.sum(), "same").clip(0))


def _hiss(samples: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) of power 1, little of it below 1 kHz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * hertz / (hertz + 2000), samples)
    return noise / max(float(noise.std()), 1e-9)


def _modulation(samples: int, depth: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) from 1 - depth to 1. Its rate drifts by a tenth, because no throat is a clock."""
    steps = np.interp(np.arange(samples) / SAMPLE_RATE, *_wander(samples / SAMPLE_RATE, rng))
    phase = 2 * np.pi * np.cumsum(rate * steps) / SAMPLE_RATE + rng.uniform(0, 2 * np.pi)
    return 1 - depth * (0.5 + 0.5 * np.cos(phase))


def _wander(seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Moments 0.2 s apart, and factors around 1."""
    moments = np.arange(0, seconds + 0.4, 0.2)
    return moments, rng.uniform(0.9, 1.1, len(moments))
