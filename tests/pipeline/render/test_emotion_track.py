"""The emotion of each frame: exact where no fade is, and a cross-fade around each border."""

import numpy as np
import pytest

from models import EMOTIONS
from pipeline.manifest.emotion_spans import EmotionSpan, vector_of
from pipeline.render.emotion_track import emotion_track

HEARD = np.array([0.1, 0.05, 0.2, 0.15, 0.3, 0.1, 0.1], dtype=np.float32)
HAPPY, SAD = vector_of({"happy": 1.0}), vector_of({"sad": 1.0})


def span(start, end, name, strength=1.0):
    return EmotionSpan(start, end, {name: 1.0}, strength)


def test_without_spans_there_is_no_track():
    assert emotion_track((), 0.3, HEARD, 50) is None


def test_without_a_fade_each_frame_belongs_to_the_span_that_holds_its_middle():
    track = emotion_track([span(0.4, 0.8, "happy", 2.0), span(0.8, 1.6, "sad", 0.5)], 0.0, HEARD, 50)
    expected = [HEARD] * 10 + [HAPPY] * 10 + [SAD] * 20 + [HEARD] * 10
    assert np.array_equal(track.emotion, np.stack(expected))
    assert track.strength.tolist() == [1.0] * 10 + [2.0] * 10 + [0.5] * 20 + [1.0] * 10


@pytest.mark.parametrize("fade", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("end", [2.0, 1.97, 2.04])
def test_a_span_over_the_whole_clip_is_the_named_emotion(fade, end):
    track = emotion_track([span(0, end, "happy")], fade, HEARD, 50)
    assert np.array_equal(track.emotion, np.stack([HAPPY] * 50))
    assert track.strength.tolist() == [1.0] * 50


@pytest.mark.parametrize("fade", [0.0, 0.3])
def test_two_spans_that_meet_in_the_last_frame_share_it(fade):
    track = emotion_track([span(0.0, 0.3, "happy", 0.0), span(0.3, 0.34, "sad", 2.0)], fade, HEARD, 8)
    np.testing.assert_allclose(track.emotion.sum(1), 1, atol=1e-6)
    assert 0 < track.strength[-1] <= 2


def test_a_fade_is_a_straight_line_around_the_border_and_nothing_beyond_it():
    track = emotion_track([span(1.0, 3.0, "happy", 3.0)], 0.4, HEARD, 100)
    happy = track.emotion[:, EMOTIONS.index("happy")]
    middles = (np.arange(100) + 0.5) / 25
    share = np.clip((middles - 0.8) / 0.4, 0, 1) * np.clip((3.2 - middles) / 0.4, 0, 1)
    heard = HEARD[EMOTIONS.index("happy")]
    np.testing.assert_allclose(happy, heard + share * (1 - heard), atol=1e-6)
    np.testing.assert_allclose(track.strength, 1 + 2 * share, atol=1e-6)
    assert np.array_equal(track.emotion[:20], np.stack([HEARD] * 20))
    assert np.array_equal(track.emotion[30:70], np.stack([HAPPY] * 40))
    assert np.array_equal(track.emotion[80:], np.stack([HEARD] * 20))
    assert track.strength[:20].tolist() == [1.0] * 20


def test_spans_shorter_than_the_fade_and_neighbours_keep_a_sum_of_one():
    parts = [span(0.5, 0.54, "happy"), span(0.54, 0.7, "sad"), span(0.8, 0.9, "angry"), span(1.9, 2.0, "fear")]
    track = emotion_track(parts, 0.6, HEARD, 50)
    np.testing.assert_allclose(track.emotion.sum(1), 1, atol=1e-6)
    assert track.emotion.min() >= 0
    np.testing.assert_allclose(track.strength, 1, atol=1e-6)
    assert 0 < track.emotion[13, EMOTIONS.index("happy")] < 0.2  # 0.04 s of 0.6, and what is heard
    assert np.abs(np.diff(track.emotion, axis=0)).max() < 0.04 / 0.6 + 1e-6


def test_a_window_beyond_the_ends_repeats_the_first_and_the_last_frame():
    track = emotion_track([span(0, 0.4, "happy"), span(0.4, 0.8, "sad", 2.0)], 0.0, HEARD, 20)
    window = track.window(-2, 25)
    assert np.array_equal(window.emotion, np.stack([HAPPY] * 12 + [SAD] * 13))
    assert window.strength.tolist() == [1.0] * 12 + [2.0] * 13
