"""The voice activity detector: the pauses that were put into speech are found, with noise and without."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.limits import Limits
from pipeline.media import voice_activity
from pipeline.media.audio import load_audio
from pipeline.media.voice_activity import BLOCK_SECONDS, pauses, pauses_of, voice_probability

SPEECH = Path("jobs/demo/media/speech_en_arctic_a0009.wav")
GAP = (1.0, 2.2)


@pytest.fixture(scope="module")
def speech():
    """Speech at 16 kHz with 1.2 s of silence from 1.0 s on."""
    wave = load_audio(SPEECH.read_bytes(), Limits()).wave[2400:]  # it begins with a short silence
    return np.concatenate([wave[:16_000], np.zeros(round(1.2 * 16_000), np.float32), wave[16_000:]])


def noisy(wave, snr):
    random = np.random.default_rng(0)
    level = np.sqrt((wave[:16_000] ** 2).mean()) * 10 ** (-snr / 20)
    return (wave + level * random.standard_normal(len(wave))).astype(np.float32)


@pytest.mark.parametrize("snr", [60, 20, 10, 5])
def test_a_pause_is_found_in_speech_with_noise(speech, snr):
    start, end = max(pauses(noisy(speech, snr)), key=lambda pause: pause[1] - pause[0])
    assert GAP[0] - 0.1 <= start <= GAP[0] + 0.2
    assert GAP[1] - 0.1 <= end <= GAP[1] + 0.15


def test_noise_alone_is_one_pause_and_speech_has_none(speech):
    assert pauses(noisy(np.zeros(16_000, np.float32) + 1e-3, 0)) == [(0.0, 1.0)]
    assert pauses(speech[:16_000]) == []
    assert pauses(np.zeros(0, np.float32)) == []


def test_samples_may_be_integers_and_parts_do_not_change_the_result(speech, monkeypatch):
    whole = voice_probability(speech)
    assert len(whole) == -(-len(speech) // 512)
    np.testing.assert_allclose(voice_probability((speech * 32767).round().astype(np.int16)), whole, atol=0.05)
    monkeypatch.setattr(voice_activity, "_BATCH", 7)
    np.testing.assert_allclose(voice_probability(speech), whole, atol=1e-4)


def test_short_sounds_and_short_pauses_are_left_out():
    def found(*runs):
        blocks = np.concatenate([np.full(round(seconds / BLOCK_SECONDS), value) for seconds, value in runs])
        return [tuple(round(t, 1) for t in pause) for pause in pauses_of(blocks, len(blocks) * BLOCK_SECONDS)]

    assert found((1, 0.9), (0.2, 0.1), (1, 0.9)) == []
    assert found((1, 0.9), (0.4, 0.1), (1, 0.9)) == [(1.0, 1.4)]
    assert found((1, 0.9), (0.4, 0.1), (0.06, 0.9), (0.4, 0.1)) == [(1.0, 1.8)]
    assert found((1, 0.9), (0.4, 0.4), (1, 0.9)) == []  # between the two thresholds a voice goes on


def test_the_weights_are_those_that_the_readme_names():
    folder = Path(voice_activity.__file__).parent / "voice_model"
    digest = hashlib.sha256((folder / "silero_vad_16k.safetensors").read_bytes()).hexdigest()
    assert f"{digest}  silero_vad_16k.safetensors" in (folder / "README.md").read_text()
