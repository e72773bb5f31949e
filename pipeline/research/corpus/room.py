"""The place where a voice is recorded: a short reverberation, background noise and a recording level, from a seed."""

from dataclasses import dataclass

import numpy as np

from models import SAMPLE_RATE
from pipeline.research.corpus.prosody import levels

FULL = 0.99


@dataclass(frozen=True)
class Room:
    """A place and a recorder."""

    reverberation: float = 0.25
    """Seconds until the echo is 60 dB down (RT60)."""
    direct_db: float = 12.0
    """Level of the voice itself over its echo, dB."""
    snr_db: float = 35.0
    """Level of the voice's loud frames over the noise, dB."""
    slope: float = 1.0
    """Of the noise's power over frequency, 1 / f^slope: 0 hisses, 1 is pink, 2 rumbles."""
    gain_db: float = 0.0


def draw_room(seed: int) -> Room:
    """Rooms in which people record: RT60 0.1 to 0.5 s, noise 15 to 45 dB below the voice, gain -10 to 4 dB."""
    rng = np.random.default_rng([seed, 2])
    return Room(
        reverberation=float(rng.uniform(0.1, 0.5)),
        direct_db=float(rng.uniform(6, 20)),
        snr_db=float(rng.uniform(15, 45)),
        slope=float(rng.uniform(0, 1.6)),
        gain_db=float(rng.uniform(-10, 4)),
    )


def record(wave: np.ndarray, room: Room, seed: int = 0) -> np.ndarray:
    """A dry voice (n,) at 16 kHz -> as recorded, (n,) float32 and not delayed.

    The echo is noise that decays exponentially (Schroeder 1962). The gain is lowered where the sound would be clipped.
    `seed` gives echo and noise; the same arguments give the same samples, to the last digit on one kind of machine.
    """
    rng = np.random.default_rng([seed, 3])
    size = 1 << (len(wave) + round(room.reverberation * SAMPLE_RATE) - 1).bit_length()
    echo = _echo(room, rng)
    spectrum = np.fft.rfft(wave, size) * np.fft.rfft(np.concatenate([[1.0], echo]), size)
    heard = np.fft.irfft(spectrum, size)[: len(wave)]
    noise = _noise(len(wave), room.slope, rng)
    loud = 10 ** (np.percentile(levels(wave), 90) / 20)
    heard = (heard + noise * loud * 10 ** (-room.snr_db / 20)) * 10 ** (room.gain_db / 20)
    peak = np.abs(heard).max(initial=0.0)
    return (heard * min(1.0, FULL / max(peak, 1e-9))).astype(np.float32)


def _echo(room: Room, rng: np.random.Generator) -> np.ndarray:
    """Impulse response after the first sample; its energy is `direct_db` below 1."""
    time = np.arange(1, max(2, round(room.reverberation * SAMPLE_RATE))) / SAMPLE_RATE
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / room.reverberation)
    return echo / np.linalg.norm(echo) * 10 ** (-room.direct_db / 20)


def _noise(samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) of power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 50.0) ** (-slope / 2)  # below 50 Hz no more than there
    noise = np.fft.irfft(spectrum, samples)
    return noise / max(float(noise.std()), 1e-9)
