"""A clip of a programme goes on where the one before it ended: motion, speech, noise, emotion."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from models import load_float
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Programme
from pipeline.media.budget import ON_LENGTH, Budget
from pipeline.media.slot import Slot
from pipeline.media.timecode import Timecode
from pipeline.render.continuation import Ending, budgeted, ending_of, faded, is_still, last_frames, unpacked
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.emotion_track import EmotionTrack
from pipeline.render.feature_chain import continued
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs, MotionStart
from tests.tiny import CONFIG

HAPPY, SAD = np.eye(7, dtype=np.float32)[:2]


def motion_of(slots, inputs):
    slots.admit(inputs)
    parts = []
    while not parts or not parts[-1].last:
        parts += slots.advance()
    return torch.cat([part.motion for part in parts])


@pytest.mark.parametrize("cut", [50, 100])
def test_two_clips_that_end_with_a_window_are_one_clip_bit_by_bit(tiny_model, cut):
    slots = MotionSlots(ModelRunner(load_float(tiny_model)), 2)
    random = np.random.default_rng(1)
    speech = random.standard_normal((130, 16), dtype=np.float32)
    whole = MotionInputs(speech, HAPPY, torch.from_numpy(speech[0]), (2.0, 1.0, 1.0), 5, 4)
    expected = motion_of(slots, whole)
    first = motion_of(slots, replace(whole, speech=speech[:cut]))
    start = MotionStart(first[-10:].numpy(), speech[cut - 10 : cut], np.zeros((10, 6), np.float32), cut // 50)
    second = motion_of(slots, replace(whole, speech=speech[cut:], start=start))
    assert torch.equal(torch.cat([first, second]), expected)
    other = replace(start, windows=0)
    assert not torch.equal(motion_of(slots, replace(whole, speech=speech[cut:], start=other)), second)


def test_the_last_frames_lie_one_step_apart_before_the_end_of_the_clip():
    values = np.arange(20, dtype=np.float32)[:, None]
    assert last_frames(None, values, Fraction(20), 4).ravel().tolist() == [16, 17, 18, 19]
    np.testing.assert_allclose(last_frames(None, values, Fraction(77, 4), 4).ravel(), [15.25, 16.25, 17.25, 18.25])
    before = np.full((4, 1), -1, np.float32)
    assert last_frames(before, values[:2], Fraction(2), 4).ravel().tolist() == [-1, -1, 0, 1]
    assert last_frames(None, values[:1], Fraction(1), 4).ravel().tolist() == [0, 0, 0, 0]


def test_the_emotion_fades_over_from_the_row_before_even_through_a_shorter_row():
    before = ending(emotion=np.append(HAPPY, 2.0))
    track = faded(None, SAD, 10, before, fade=0.4)
    share = (np.arange(10) + 0.5) / 10
    np.testing.assert_allclose(track.emotion[:, 1], share, atol=1e-6)
    np.testing.assert_allclose(track.emotion[:, 0], 1 - share, atol=1e-6)
    np.testing.assert_allclose(track.strength, 2 - share, atol=1e-6)
    longer = faded(None, SAD, 30, before, fade=0.4)
    assert (longer.emotion[10:] == SAD).all()
    assert (longer.strength[10:] == 1).all()
    own = EmotionTrack(np.repeat(SAD[None], 10, axis=0), np.ones(10, np.float32))
    assert faded(own, SAD, 10, before, fade=0.0) is own
    assert is_still(faded(None, HAPPY, 10, ending(emotion=np.append(HAPPY, 1.0)), fade=0.3))
    assert not is_still(track)


def ending(**values):
    latents = np.ones((CONFIG.previous, CONFIG.latent_dim), np.float32)
    usual = {"emotion": np.ones(8), "speech": latents, "pose": np.zeros((CONFIG.previous, 6)), "motion": latents}
    arrays = {name: np.asarray(value, np.float32) for name, value in (usual | values).items()}
    return Ending(Fraction(16_001, 16_000), 26, 1, **arrays)


def test_an_ending_is_stored_exactly_and_anything_else_is_refused():
    stored = ending(emotion=np.linspace(0, 1, 8)).packed()
    found = unpacked(stored, CONFIG)
    assert (found.seconds, found.frames, found.windows) == (Fraction(16_001, 16_000), 26, 1)
    np.testing.assert_array_equal(found.emotion, np.linspace(0, 1, 8).astype(np.float32))
    for damaged in (b"", stored[:-40], stored[:200] + b"\0" * 50 + stored[250:]):
        with pytest.raises(ValueError, match="it is damaged"):
            unpacked(damaged, CONFIG)
    with pytest.raises(ValueError, match="its speech is not that of this model"):
        unpacked(stored, replace(CONFIG, latent_dim=32))
    with pytest.raises(ValueError, match="its motion is not that"):
        unpacked(ending(motion=np.full((CONFIG.previous, CONFIG.latent_dim), np.nan)).packed(), CONFIG)
    pickled = io.BytesIO()
    np.savez(pickled, counts=np.array([object()]))
    with pytest.raises(ValueError, match="it is damaged"):
        unpacked(pickled.getvalue(), CONFIG)


def test_an_ending_counts_time_frames_and_windows():
    budget = Budget(Fraction(25), Fraction(1, 100), 1)
    slot = Slot(60, Fraction(25), ON_LENGTH)
    speech = np.random.default_rng(0).standard_normal((60, 16), dtype=np.float32)
    track = faded(None, SAD, 60, None, 0.3)
    first = ending_of(budget, slot, Fraction(12, 5), None, track, (speech, None), CONFIG)
    assert (first.seconds, first.frames, first.windows) == (Fraction(241, 100), 61, 2)
    np.testing.assert_array_equal(first.speech, speech[-10:])
    again = ending_of(budget, slot, Fraction(12, 5), first, track, (speech[:5], None), CONFIG)
    assert again.windows == 3


def test_a_row_without_a_time_code_lasts_until_that_of_the_next_one():
    first = Timecode(0, 25)
    place = Programme("p", 2, number=1, first=first, until=40, fills=True)
    clip = Clip(1, "a", "/i.png", "/a.wav", None, 0, 10, 2.0, 1.0, 1.0, "auto", programme=place)
    placed, budget = budgeted(clip, ending(), Fraction(25))
    assert (placed.timecode, budget.room) == ("00:00:01:01", 14)
    assert budget.of(Fraction(1, 5)).frames == 14
    assert budgeted(clip, None, Fraction(25))[1].room is None  # where it begins is not known


def test_in_a_gap_the_head_stays_as_it_was_at_the_end_of_the_row_before():
    clip = Clip(1, "a", "/i.png", "", None, 0, 10, 2.0, 1.0, 1.0, "auto", programme=Programme("p"), gap_after="b")
    speech, nothing = np.zeros((5, CONFIG.latent_dim), np.float32), np.zeros((32, 32, 3), np.uint8)
    features = ClipFeatures(clip, nothing, speech, SAD, b"", 5, 0.2, None, None)
    before = ending(pose=np.arange(CONFIG.previous * 6).reshape(-1, 6))
    posed = replace(CONFIG, pose="head")
    found = continued(features, clip, before, Budget(Fraction(25), before.seconds, before.frames), posed)
    np.testing.assert_array_equal(found.pose, np.repeat(before.pose[-1:], 5, axis=0))
    assert continued(features, clip, before, Budget(Fraction(25)), CONFIG).pose is None
