"""Voice quality of the corpus, on a buzz whose harmonics are known."""

import numpy as np
import pytest

from pipeline.research.corpus.quality import MIDDLE_HZ, Quality, coloured

RATE = 16_000
TIME = np.arange(2 * RATE) / RATE


def buzz(pitch=100.0):
    """Harmonics of equal strength, up to 5 kHz."""
    return (0.02 * sum(np.sin(2 * np.pi * pitch * n * TIME + n * n) for n in range(1, 51))).astype(np.float32)


def strength(wave, hertz):
    """dB of the spectrum at a frequency."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return 20 * np.log10(spectrum[round(hertz * len(wave) / RATE)])


def test_a_tilt_is_so_many_decibels_an_octave():
    made = coloured(buzz(), Quality(tilt=-4.0), 1.0, 0)
    octaves = [strength(made, 2 * f) - strength(made, f) for f in (200, 400, 800, 1600)]
    plain = [strength(buzz(), 2 * f) - strength(buzz(), f) for f in (200, 400, 800, 1600)]
    assert np.subtract(octaves, plain) == pytest.approx([-4.0] * 4, abs=0.05)


def test_half_of_a_tilt_is_half_as_steep():
    made = coloured(buzz(), Quality(tilt=-4.0), 0.5, 0)
    assert strength(made, 2 * MIDDLE_HZ) - strength(made, MIDDLE_HZ) == pytest.approx(-2.0, abs=0.05)


def test_breath_fills_the_gaps_between_harmonics_by_its_share():
    made = coloured(buzz(), Quality(breath=0.25), 1.0, 0).astype(np.float64)
    scale = np.dot(made, buzz()) / np.dot(buzz(), buzz())
    noise = made - scale * buzz()
    assert np.std(noise) / np.std(scale * buzz()) == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("rate", [8.0, 27.0, 70.0])
def test_a_shake_moves_the_level_at_its_rate_and_depth(rate):
    tone = np.sin(2 * np.pi * 2000 * TIME).astype(np.float32)
    made = coloured(tone, Quality(shake=0.6, shake_hz=rate), 1.0, 0)
    level = np.sqrt(np.convolve(np.square(made, dtype=np.float64), np.ones(32) / 32, "same"))[200:-200]
    assert level.min() / level.max() == pytest.approx(0.4, abs=0.03)
    spectrum = np.abs(np.fft.rfft(level - level.mean(), 8 * RATE))
    assert spectrum.argmax() / 8 == pytest.approx(rate, rel=0.12)


def test_a_voice_stays_as_loud_and_as_long_and_silence_stays_silent():
    made = coloured(buzz(), Quality(3.0, 0.3, 0.5, 8.0), 1.0, 0)
    assert made.dtype == np.float32
    assert made.shape == buzz().shape
    assert np.std(made) == pytest.approx(np.std(buzz()), rel=1e-4)
    silence = np.zeros(1000, np.float32)
    assert not coloured(silence, Quality(3.0, 0.3), 1.0, 0).any()


def test_the_same_seed_gives_the_same_breath_and_none_of_a_quality_leaves_the_voice_as_it_is():
    quality = Quality(3.0, 0.3, 0.5, 8.0)
    first, again, other = (coloured(buzz(), quality, 1.0, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(coloured(buzz(), quality, 0.0, 1), buzz())
