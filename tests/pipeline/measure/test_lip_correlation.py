"""Lips and speech of made curves, whose lag and pauses are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.measure.lip_correlation import Speech

FPS = 25
JUDGE = Speech(SimpleNamespace(fps=FPS))


def spoken(seed, seconds, lag=0, truth=0.5):
    """Mouth (frames,) and level (frames,) in dB of syllables; the mouth is `lag` frames late and has this correlation
    with the level."""
    random, frames = np.random.default_rng(seed), round(seconds * FPS)
    own, voice = (np.convolve(random.standard_normal(frames + 40), np.ones(4), "same") / 2 for _ in range(2))
    mouth = truth * voice + np.sqrt(1 - truth**2) * own
    return mouth[20 : 20 + frames], 10 * voice[20 + lag : 20 + lag + frames] - 40


def lags(seconds, lag):
    """Of 60 clips, in ms; None where nothing correlates."""
    return [JUDGE.metrics(*spoken(seed, seconds, lag))["qc_lip_lag_ms"] for seed in range(60)]


@pytest.mark.parametrize(("seconds", "most"), [(2.0, 6), (3.0, 1)])
def test_chance_gives_few_short_clips_a_lag_to_be_reviewed_for(seconds, most):
    """The highest correlation alone gave 16 and 4 of 60 clips one."""
    assert sum(found is not None and abs(found) > 100 for found in lags(seconds, 0)) <= most


@pytest.mark.parametrize("lag", [-6, 6])
def test_a_true_lag_is_found_in_clips_of_several_seconds(lag):
    found = [one for one in lags(8.0, lag) if one is not None]
    assert len(found) >= 50
    assert sum(abs(one - 1000 * lag / FPS) <= 1000 / FPS for one in found) >= 0.95 * len(found)


def test_a_lag_of_part_of_a_frame_needs_no_lead():
    mouth, level = spoken(0, 30.0, truth=1.0)
    between = (mouth[1:] + mouth[:-1]) / 2  # half a frame early
    assert JUDGE.metrics(between, level[:-1])["qc_lip_lag_ms"] == pytest.approx(-20, abs=4)


@pytest.mark.parametrize(("seconds", "judged"), [(0.4, False), (0.49, False), (0.5, True), (1.2, True)])
def test_a_pause_is_judged_if_enough_of_it_is_left_without_its_margins(seconds, judged):
    mouth, level = np.sin(np.arange(200.0)), np.full(200, -20.0)
    found = JUDGE.metrics(mouth, level, [(4.0, 4.0 + seconds)])["qc_pause_motion"]
    assert (found is not None) == judged
    assert found is None or found > 0.4  # the mouth goes on
    mouth[100 + 3 : 100 + int((seconds - 0.12) * FPS)] = 0
    found = JUDGE.metrics(mouth, level, [(4.0, 4.0 + seconds)])["qc_pause_motion"]
    assert found == (0 if judged else None)


def test_a_clip_without_speech_has_nothing_to_compare_a_pause_with():
    assert JUDGE.metrics(np.sin(np.arange(200.0)), np.full(200, -70.0), [(0.0, 7.6)])["qc_pause_motion"] is None
