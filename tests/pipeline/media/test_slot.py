"""Slots of a programme: audio of any length becomes exactly as long as a number of frames, or is refused."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.media.slot import AT_MOST, Slot
from tests import media

RATES = (Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001))


def noise(seconds, rate=48_000, channels=1):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (channels, round(seconds * rate)))
    return samples.astype(np.float32)


def track(samples, slot, rate=48_000, sound="pcm", **limits):
    return load_audio(media.wav(samples, rate), Limits(**limits), sound=sound, slot=slot)


def refusal(samples, slot, **limits):
    with pytest.raises(ClipError) as caught:
        track(samples, slot, **limits)
    return caught.value.code, caught.value.message


def heard(track):
    """(channels, samples) float64 at the rate of the sound for delivery."""
    with av.open(io.BytesIO(track.sound)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        channels = file.streams.audio[0].channels
    whole = np.concatenate([frame.reshape(-1, channels) for frame in frames]).T
    return whole / 2**31


@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize(("frames", "on_length"), [(48, "trim"), (1, "trim"), (101, "pad"), (1001, "pad")])
def test_a_slot_has_exactly_its_frames_whatever_the_audio_lasts(frames, on_length, fps):
    slot = Slot(frames, fps, on_length)
    made = track(noise(2.6), slot)
    assert made.frames(fps) == frames
    assert made.samples == int(slot.seconds * 48_000)
    assert heard(made).shape == (1, made.samples)
    assert abs(len(made.wave) - made.seconds * 16_000) <= 1
    assert made.source.seconds == 2.6
    (note,) = made.notes
    assert note.code == {"pad": "length_padded", "trim": "length_trimmed"}[on_length]
    assert f"{frames} frame" in note.message


@pytest.mark.parametrize("rate", [7_350, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_no_rate_of_samples_gives_a_frame_too_many_or_too_few(rate):
    for fps in (*RATES, Fraction(60000, 1001), Fraction(120), Fraction(1)):
        for frames in (1, 2, 3, 47, 48, 1000, 1001, 86_399):
            samples = Slot(frames, fps).samples(rate)
            needed = [-int(-Fraction(count) * fps / rate // 1) for count in (samples, samples + 1)]
            assert needed == [frames, frames + 1]


def test_padding_is_silence_after_the_whole_recording():
    samples = noise(1.0, channels=2)
    made = heard(track(samples, Slot(75, Fraction(25), "pad")))
    np.testing.assert_allclose(made[:, :48_000], samples, atol=1e-4)
    assert made.shape == (2, 3 * 48_000)
    assert not made[:, 48_000:].any()


@pytest.mark.parametrize("frames", [25, 26, 63])
def test_a_cut_sound_is_the_recording_up_to_a_short_fade(frames):
    samples = np.full((1, 144_000), 0.5, np.float32)
    made = heard(track(samples, Slot(frames, Fraction(25), "trim")))
    end, fade = frames * 1920, 240
    assert made.shape == (1, end)
    np.testing.assert_allclose(made[:, : end - fade], 0.5, atol=1e-4)
    assert made[0, -1] == 0
    assert np.abs(np.diff(made[0])).max() < 0.5 / 200  # no step, which would be heard as a click


def test_a_cut_just_after_a_piece_of_the_reader_is_faded_too():
    samples = np.full((1, 96_000), 0.5, np.float32)
    made = heard(track(samples, Slot(251, Fraction(1000), "trim")))  # 1 ms into the second piece
    assert made.shape == (1, 251 * 48)
    assert np.abs(np.diff(made[0])).max() < 0.5 / 200
    assert made[0, -1] == 0


@pytest.mark.parametrize("on_length", ["refuse", "pad", "trim"])
@pytest.mark.parametrize("seconds", [0.961, 1.0, 1.0001, 1.04, 0.97, 0.9201])
def test_a_difference_of_one_frame_is_the_usual_rounding(seconds, on_length):
    made = track(noise(seconds), Slot(25, Fraction(25), on_length))
    assert made.frames(Fraction(25)) == 25
    assert heard(made).shape == (1, 48_000)
    assert made.notes == ()


def test_audio_that_is_longer_is_refused_with_both_lengths():
    code, message = refusal(noise(2.6), Slot(48, RATES[0]))
    assert code == "length_differs"
    assert "lasts 63 frames (2.600 s), but the row's frames are 48 frames (2.002 s) at 24000/1001 fps" in message
    assert "set frames to 63" in message
    assert "on_length to trim" in message
    assert refusal(noise(2.6), Slot(48, RATES[0], "pad"))[0] == "length_differs"


def test_audio_that_is_shorter_is_refused_unless_it_may_be_padded():
    for on_length in ("refuse", "trim"):
        code, message = refusal(noise(0.92), Slot(25, Fraction(25), on_length))
        assert code == "length_differs"
        assert "lasts 23 frames (0.920 s)" in message
        assert "on_length to pad" in message


def test_a_slot_is_not_longer_than_audio_may_be():
    code, message = refusal(noise(1.0), Slot(1501, Fraction(25), "pad"), max_audio_minutes=1)
    assert code == "audio_too_long"
    assert "1501 frames (60.040 s) is longer than limits.max_audio_minutes = 1" in message


def test_a_recording_that_begins_with_digital_silence_fills_a_short_slot_with_it():
    samples = np.concatenate([np.zeros((1, 24_000), np.float32), noise(0.5)], axis=1)
    assert not track(samples, Slot(5, Fraction(25), "trim")).wave.any()
    assert refusal(np.zeros((1, 48_000), np.float32), Slot(5, Fraction(25), "trim"))[0] == "audio_silent"


def test_aac_is_as_long_as_the_frames():
    for frames, on_length in ((20, "trim"), (60, "pad")):
        made = track(noise(1.5), Slot(frames, Fraction(25), on_length), sound="aac")
        with av.open(io.BytesIO(made.sound)) as file:
            sound = file.streams.audio[0]
            assert sound.duration * sound.time_base == Fraction(frames, 25)


def test_at_most_so_many_frames_cut_longer_audio_and_leave_shorter_audio_as_it_is():
    slot = Slot(50, Fraction(25), AT_MOST)
    longer, shorter = track(noise(2.6), slot), track(noise(1.3), slot)
    assert (longer.frames(Fraction(25)), shorter.frames(Fraction(25))) == (50, 33)
    assert (longer.seconds, shorter.seconds) == (2.0, 1.3)
    assert longer.source.seconds == 2.6
    assert (longer.notes, shorter.notes) == ((), ())
    assert np.abs(heard(longer)[:, -1]).max() < 1e-3  # it ends with a fade
    assert (slot.frames_for(65), slot.frames_for(33), Slot(50, Fraction(25), "pad").frames_for(33)) == (50, 33, 50)
