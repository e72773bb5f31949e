"""A video as training sees it: 25 pictures a second by their time stamps, and its sound on the same time line."""

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

from pipeline.common.limits import Limits
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.source_video import SourceVideo, local_file
from tests import media, reels


def click(at, seconds):
    wave = np.zeros(round(seconds * 16_000), np.float32)
    wave[round(at * 16_000)] = 0.9
    return np.convolve(wave, np.hanning(33), "same").astype(np.float32)


def levels(source):
    return [(n, picture.index) for n, picture in source.pictures()]


def read_all(source):
    return list(source.pictures()), source.sound()


def nearest(times, number):
    """Index of the picture nearest to number / 25 s; of two as near, the earlier."""
    return min(range(len(times)), key=lambda k: (abs(times[k] - Fraction(number, 25)), k))


@pytest.mark.parametrize(("fps", "frames", "expected"), [(25, 50, 50), (30, 60, 50), (50, 100, 50), (24, 48, 50)])
def test_any_frame_rate_becomes_25_by_the_nearest_frame(tmp_path, fps, frames, expected):
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * frames), fps=fps)
    times = [Fraction(n, fps) for n in range(frames)]
    found = levels(SourceVideo(path, Limits()))
    assert [number for number, _ in found] == list(range(expected))
    assert [index for _, index in found] == [nearest(times, number) for number in range(expected)]


def test_a_variable_frame_rate_is_followed_by_time_stamps(tmp_path):
    steps = np.random.default_rng(0).integers(20, 70, 59).tolist()
    times = [Fraction(ms, 1000) for ms in accumulate(steps, initial=0)]
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 60), times=times)
    found = levels(SourceVideo(path, Limits()))
    number = round((times[-1] + Fraction(1, 25)) * 25)
    assert abs(len(found) - number) <= 1
    inner = [pair for pair in found if pair[0] * Fraction(1, 25) < times[-1]]
    assert inner == [(n, nearest(times, n)) for n, _ in inner]


@pytest.mark.parametrize(("sound_at", "heard_at"), [(0.0, 1.0), (0.5, 1.5)])
def test_sound_is_where_its_time_stamps_put_it(tmp_path, sound_at, heard_at):
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 75), click(1.0, 2.0), sound_at=sound_at)
    source = SourceVideo(path, Limits())
    sound = source.sound()
    assert len(levels(source)) == 75
    assert abs(int(np.abs(sound.wave.astype(int)).argmax()) / 16_000 - heard_at) < 0.002
    assert sound.spans[0][0] == pytest.approx(sound_at, abs=0.07)  # the encoder's run-in begins 64 ms earlier
    part = sound.part(10, 60)
    assert (part.dtype, len(part)) == (np.int16, 50 * 640)
    assert abs(int(np.abs(part.astype(int)).argmax()) / 16_000 - (heard_at - 0.4)) < 0.002


def test_sound_long_before_the_first_frame_is_left_out(tmp_path):
    times = [Fraction(60) + Fraction(n, 25) for n in range(3)]
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 3), click(1.0, 2.0), times=times)
    source = SourceVideo(path, Limits())
    sound = source.sound()
    assert [number for number, _ in source.pictures()] == [0, 1, 2]
    assert sound.spans == []
    assert not sound.part(0, 3).any()
    assert not sound.heard(0, 3).any()
    assert sound.describe() == "the audio ends before the first frame"


def test_a_turned_and_stretched_video_is_upright_with_square_pixels(tmp_path):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48] = (255, 0, 0)  # top left
    turned = np.ascontiguousarray(np.rot90(picture, -1))  # as a phone stores it
    path = reels.write(tmp_path / "turned.mp4", [turned] * 3, rotation=90)
    _, found = next(SourceVideo(path, Limits()).pictures())
    assert found.rgb.shape == picture.shape
    assert found.rgb[8, 8, 0] > 200
    assert found.rgb[56, 88, 0] < 50
    assert found.small.shape == (32, 32, 3)
    assert found.small[4, 4, 0] > 200
    path = reels.write(tmp_path / "narrow.mp4", [picture] * 3, aspect=Fraction(2))
    _, found = next(SourceVideo(path, Limits()).pictures())
    assert found.rgb.shape == (64, 192, 3)


def test_colours_are_those_of_the_matrix_that_the_file_names(tmp_path):
    picture = np.full((64, 64, 3), (200, 60, 40), np.uint8)
    path = reels.write(tmp_path / "a.mp4", [picture] * 3)
    _, found = next(SourceVideo(path, Limits()).pictures())
    assert np.abs(found.rgb[32, 32].astype(int) - picture[0, 0]).max() <= 4


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (media.TEXT, "unreadable"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "unreadable"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "unreadable"),
        (media.m4a(media.tone(), 16_000), "unreadable"),
        (media.cut(media.mp4(media.tone(rate=48_000)), 0.6), "unreadable"),
        (media.mp4(None), "no_audio"),
    ],
    ids=["text", "playlist", "concat", "sound alone", "half a file", "no sound"],
)
def test_anything_but_a_video_with_sound_is_dropped_with_its_reason(tmp_path, content, code):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(Dropped) as error:
        read_all(SourceVideo(path, Limits()))
    assert error.value.code == code
    assert str(tmp_path) not in error.value.message  # what a worker's disk looks like helps nobody


def test_limits_on_pixels_minutes_and_bytes_hold(tmp_path):
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 75, side=64))
    for limits, code in (
        (Limits(max_image_megapixels=0.004), "too_many_pixels"),
        (Limits(max_audio_minutes=0.01), "too_long"),
    ):
        with pytest.raises(Dropped) as error:
            list(SourceVideo(path, limits).pictures())
        assert error.value.code == code
    for uri, limits, code in (
        (str(path), Limits(max_file_megabytes=0.0001), "input_too_large"),
        (str(tmp_path / "none.mp4"), Limits(), "input_not_found"),
        ("http://127.0.0.1:1/a.mp4", Limits(), "uri_not_allowed"),
        (str(path), Limits(input_prefixes=["/elsewhere"]), "uri_not_allowed"),
    ):
        with pytest.raises(Dropped) as error, local_file(uri, limits):
            pass
        assert error.value.code == code


def test_a_frame_that_jumps_by_hours_is_not_repeated_for_hours(tmp_path):
    times = [*(Fraction(n, 25) for n in range(50)), Fraction(5 * 3600)]
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 51), times=times)
    with pytest.raises(Dropped) as error:
        list(SourceVideo(path, Limits()).pictures())
    assert error.value.code == "too_long"


def test_hdr_is_reported_and_not_taken_for_ordinary_colours(tmp_path):
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 5), color_trc=16)
    with pytest.raises(Dropped) as error:
        list(SourceVideo(path, Limits()).pictures())
    assert error.value.code == "hdr"
