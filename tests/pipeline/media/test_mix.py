"""The sum of several sounds: lengths, rates and channels, and that two speakers at once do not clip."""

import numpy as np
import pytest

from pipeline.common.limits import Limits
from pipeline.media.audio import track_of
from pipeline.media.mix import MixReader, Voice
from pipeline.media.sound_reader import SoundReader
from tests import media

QUIET = 0.25


def mixed(*files):
    """(the mix, its reader)."""
    reader = MixReader([Voice(file) for file in files])
    return np.concatenate(list(reader.pieces()), axis=1), reader


def alone(file):
    return np.concatenate(list(SoundReader(file).pieces()), axis=1)


def test_sounds_of_one_rate_are_added_sample_by_sample_and_the_shorter_ends_in_silence():
    one, two = (media.wav(QUIET * media.tone(hz, seconds)) for hz, seconds in ((300, 1.0), (700, 0.6)))
    mix, reader = mixed(one, two)
    expected = alone(one)
    expected[:, : alone(two).shape[1]] += alone(two)
    np.testing.assert_array_equal(mix, expected)
    assert (reader.rate, reader.channels, reader.samples, reader.gain) == (16_000, 1, 16_000, 1.0)
    assert reader.notes == ()


def test_different_rates_and_channels_become_stereo_at_48_khz():
    left = QUIET * media.tone(440, 0.5, 44_100, channels=2)
    left[1] = 0
    mix, reader = mixed(media.wav(left, 44_100), media.wav(QUIET * media.tone(1_000, 0.25)))
    assert (reader.rate, reader.layout, mix.shape) == (48_000, "stereo", (2, 24_000))
    power = np.abs(np.fft.rfft(mix[:, :12_000], axis=1)) / 6_000
    hertz = [round(hz * 12_000 / 48_000) for hz in (440, 1_000)]
    assert power[0, hertz] == pytest.approx([QUIET / 2, QUIET / 2], rel=0.05)
    assert power[1, hertz] == pytest.approx([0, QUIET / 2], abs=0.01)
    assert np.abs(mix[:, 12_100:][1]).max() < 1e-3


def test_only_a_sum_that_would_clip_is_lowered_by_one_factor_for_the_whole_mix():
    loud = media.wav(media.tone(300, 0.5))
    mix, reader = mixed(loud, loud, media.wav(np.pad(media.tone(300, 0.2), ((0, 0), (0, 16_000)))))
    assert float(np.abs(mix).max()) == reader.peak == pytest.approx(10 ** (-1 / 20), rel=1e-3)
    assert [note.code for note in reader.notes] == ["mix_lowered"]
    assert "+3.5 dBFS" in reader.notes[0].message
    np.testing.assert_allclose(mix[:, 4_000:8_000], reader.gain * 2 * alone(loud)[:, 4_000:], atol=1e-6)


def test_speakers_of_full_level_who_take_turns_keep_their_level():
    full = 2 * media.tone(300, 0.25)
    first, second = np.pad(full, ((0, 0), (0, 4_000))), np.pad(full, ((0, 0), (4_000, 0)))
    mix, reader = mixed(media.wav(first), media.wav(second))
    assert reader.gain == 1
    assert float(np.abs(mix).max()) > 0.99


def test_one_sound_alone_stays_as_it_is():
    file = media.wav(2 * media.tone(300, 0.25))
    mix, reader = mixed(file)
    np.testing.assert_array_equal(mix, alone(file))
    assert reader.notes == ()


@pytest.mark.parametrize("sound", ["aac", "pcm"])
def test_a_mix_becomes_a_track_like_a_file(sound):
    files = [media.wav(QUIET * media.tone(300, 1.0)), media.wav(QUIET * media.tone(500, 0.6, 48_000), 48_000)]
    track = track_of(MixReader([Voice(file) for file in files]), Limits(), sound=sound)
    assert (track.rate, track.samples, len(track.wave)) == (48_000, 48_000, 16_000)
    kept = alone(track.sound)
    assert kept.shape == (1, 48_000)
    assert kept[:, 4_800:24_000].std() == pytest.approx(QUIET / 2, rel=0.05)  # two tones of 0.125
    assert kept[:, 31_200:45_600].std() == pytest.approx(QUIET / 2 / 2**0.5, rel=0.05)
