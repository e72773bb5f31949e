"""Continuous batching: a clip's motion is its own, whatever is sampled with it and whenever it joins."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from models import load_float
from models.flow import NfeExhaustedError
from pipeline.manifest.emotion_spans import EmotionSpan, vector_of
from pipeline.render import model_runner
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.emotion_track import emotion_track
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs
from pipeline.render.variants import Choice, Variant
from tests.pipeline.render.test_model_runner import Replayed


@pytest.fixture(scope="module")
def runner(tiny_model):
    return ModelRunner(load_float(tiny_model), mode="eager", frame_batch=4)


def clip(number, frames, nfe=4, scales=(2.0, 1.0, 1.0)):
    random = np.random.default_rng(number)
    return MotionInputs(
        speech=random.standard_normal((frames, 16), dtype=np.float32),
        emotion=np.roll(np.eye(7, dtype=np.float32)[0], number),
        reference_motion=torch.from_numpy(random.standard_normal(16, dtype=np.float32)),
        scales=scales,
        seed=number,
        nfe=nfe,
    )


def run(slots, clips):
    """Motion of each clip, or its error; a clip joins as soon as a slot is free."""
    waiting, where = list(enumerate(clips)), {}
    motion = [[] for _ in clips]
    while waiting or where:
        while waiting and slots.free:
            number, one = waiting.pop(0)
            where[slots.admit(one)] = number
        for advance in slots.advance():
            motion[where[advance.slot]].append(advance.error or advance.motion)
            if advance.last:
                del where[advance.slot]
    return [windows[-1] if isinstance(windows[-1], Exception) else torch.cat(windows) for windows in motion]


def whole(runner, one):
    """The same clip by the plain model."""
    emotion, scale = torch.from_numpy(one.emotion), one.scales[1]
    if one.track is not None:
        emotion, scale = torch.from_numpy(one.track.emotion), torch.from_numpy(one.track.strength)[None] * scale
    return runner.model.sample_motion(
        torch.from_numpy(one.speech)[None],
        one.reference_motion[None],
        emotion[None],
        nfe=one.nfe,
        audio_scale=one.scales[0],
        emotion_scale=scale,
        reference_scale=one.scales[2],
        seeds=[one.seed],
    )[0]


MIXED = [
    clip(0, 170),
    clip(1, 50),
    clip(2, 1),
    clip(3, 101, nfe=2),
    clip(4, 60, scales=(1.0, 1.0, 1.0)),
    clip(5, 220, scales=(2.0, 1.5, 1.2)),
    clip(6, 49),
]


def test_clips_of_all_lengths_and_settings_are_what_the_plain_model_makes_of_each(runner):
    for one, motion in zip(MIXED, run(MotionSlots(runner, 3), MIXED), strict=True):
        torch.testing.assert_close(motion, whole(runner, one), atol=1e-4, rtol=1e-4)


def test_in_the_same_slot_neighbours_change_nothing(runner):
    first = MIXED[0]
    alone = run(MotionSlots(runner, 3), [first])[0]
    for others in ([MIXED[1]], [MIXED[5], MIXED[1], MIXED[2]], [MIXED[3], MIXED[4]]):
        assert torch.equal(run(MotionSlots(runner, 3), [first, *others])[0], alone)


def test_in_any_slot_a_clip_is_the_same_up_to_rounding(runner):
    alone = run(MotionSlots(runner, 3), [MIXED[0]])[0]
    for place in range(3):
        others = [MIXED[5]] * place
        torch.testing.assert_close(run(MotionSlots(runner, 3), [*others, MIXED[0]])[place], alone, atol=1e-5, rtol=1e-5)


def test_a_slot_that_is_used_again_keeps_nothing_of_the_clip_before(runner):
    slots = MotionSlots(runner, 1)
    run(slots, [MIXED[5]])
    again = run(slots, [MIXED[0]])[0]
    assert torch.equal(again, run(MotionSlots(runner, 1), [MIXED[0]])[0])


def test_a_clip_that_leaves_early_frees_its_slot(runner):
    slots = MotionSlots(runner, 2)
    gone = slots.admit(MIXED[0])
    stays = slots.admit(MIXED[1])
    slots.release(gone)
    assert slots.free == [gone]
    assert [advance.slot for advance in slots.advance()] == [stays]


def test_an_error_ends_the_clip_that_caused_it_only(runner):
    slots = MotionSlots(runner, 3, solver="dopri5", tolerance=1e-3)
    enough, short = clip(0, 80, nfe=500), clip(1, 80, nfe=7)
    failed, motion = run(slots, [short, enough])
    assert isinstance(failed, NfeExhaustedError)
    assert motion.shape == (80, 16)
    assert slots.free == [0, 1, 2]


def test_one_failure_in_a_batch_does_not_fail_the_others(runner, monkeypatch):
    good, bad = clip(0, 120), clip(1, 120)
    alone = run(MotionSlots(runner, 2), [good])[0]
    plain = runner.window_field

    def fails_for_bad(branches, known):
        if (known.reference_motion == bad.reference_motion).all(dim=1).any():
            raise RuntimeError("no memory")
        return plain(branches, known)

    monkeypatch.setattr(runner, "window_field", fails_for_bad)
    motion, failed = run(MotionSlots(runner, 2), [good, bad])
    assert isinstance(failed, RuntimeError)
    assert torch.equal(motion, alone)


def test_speech_of_another_model_is_refused(runner):
    with pytest.raises(ValueError, match=r"speech must be \(T,16\)"):
        MotionSlots(runner, 1).admit(MotionInputs(np.zeros((10, 3), np.float32), *([None] * 5)))


def test_without_memory_for_all_half_of_the_clips_go_at_a_time(runner, monkeypatch):
    """A machine without a GPU runs out of memory in another way, so the error is made here."""
    clips = [clip(number, 60) for number in range(4)]
    expected = run(MotionSlots(runner, 4), clips)
    plain, sizes = runner.window_field, []

    def fits_two(branches, known):
        sizes.append(len(known.speech))
        if len(known.speech) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(branches, known)

    monkeypatch.setattr(runner, "window_field", fits_two)
    for motion, whole_batch in zip(run(MotionSlots(runner, 4), clips), expected, strict=True):
        torch.testing.assert_close(motion, whole_batch, atol=1e-5, rtol=1e-5)
    assert sizes == [4, 2, 2, 4, 2, 2]


def test_what_a_failed_batch_held_is_free_before_its_halves_are_tried(runner, monkeypatch):
    held, plain = [], runner.window_field

    def fits_one(branches, known):
        assert [one for one in held if one() is not None] == []
        activations = known.speech.clone()  # stands for gigabytes
        if len(known.speech) > 1:
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(branches, known)

    monkeypatch.setattr(runner, "window_field", fits_one)
    ends = run(MotionSlots(runner, 4), [clip(number, 50) for number in range(4)])
    assert [motion.shape for motion in ends] == [(50, 16)] * 4
    assert len(held) == 3  # batches of 4, 2 and 2


def test_a_clip_that_does_not_fit_alone_fails_alone(runner, monkeypatch):
    def never_fits(branches, known):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner, "window_field", never_fits)
    assert all(isinstance(end, torch.OutOfMemoryError) for end in run(MotionSlots(runner, 2), MIXED[:3]))


# --- Emotion spans ---------------------------------------------------------------------------------------------


def spanned(one, *spans, fade=0.3):
    """A clip with spans (start, end, emotion, strength)."""
    parts = [EmotionSpan(start, end, {name: 1.0}, strength) for start, end, name, strength in spans]
    return replace(one, track=emotion_track(parts, fade, one.emotion, len(one.speech)))


LATER = (4.5, 6.0, "angry", 2.0)
"""In the third and fourth window of 2 s; its fade begins in the third."""


@pytest.mark.parametrize("scales", [(2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.5, 1.2)])
def test_the_windows_before_the_first_span_are_those_of_the_clip_without(runner, scales):
    """Also where the span needs branches that the rest does not: with scales of 1 there is one, in the span three."""
    plain = clip(0, 200, scales=scales)
    expected, found = run(MotionSlots(runner, 2), [plain])[0], run(MotionSlots(runner, 2), [spanned(plain, LATER)])[0]
    assert torch.equal(found[:100], expected[:100])
    assert not torch.allclose(found[100:], expected[100:], atol=1e-3)


def test_a_span_over_the_whole_clip_is_its_named_emotion(runner):
    happy = replace(clip(0, 170), emotion=vector_of({"happy": 1.0}))
    covered = spanned(clip(3, 170), (0.0, 6.8, "happy", 1.0))
    covered = replace(happy, emotion=clip(3, 170).emotion, track=covered.track)
    for count in (1, 2):
        expected, found = (run(MotionSlots(runner, count), [one])[0] for one in (happy, covered))
        assert torch.equal(found, expected)


def test_neighbours_with_spans_change_nothing_and_neither_does_their_absence(runner):
    plain, marked = MIXED[0], spanned(MIXED[5], (0.0, 1.0, "sad", 3.0), (3.0, 3.04, "happy", 0.0), LATER)
    alone = [run(MotionSlots(runner, 3), [one])[0] for one in (plain, marked)]
    assert torch.equal(run(MotionSlots(runner, 3), [plain, marked, MIXED[3]])[0], alone[0])
    assert torch.equal(run(MotionSlots(runner, 3), [marked, plain, MIXED[1]])[0], alone[1])


def test_clips_with_spans_are_what_the_plain_model_makes_of_each(runner):
    """The frames before a window have their own emotion there too: the plain field has one per token."""
    clips = [spanned(one, (0.5, 1.9, "sad", 2.0), (3.9, 4.3, "happy", 0.0)) for one in (MIXED[0], MIXED[5], MIXED[4])]
    for one, motion in zip(clips, run(MotionSlots(runner, 3), [*clips, MIXED[1]]), strict=False):
        torch.testing.assert_close(motion, whole(runner, one), atol=1e-4, rtol=1e-4)


def test_the_frames_before_a_window_keep_their_own_emotion(runner, monkeypatch):
    seen, plain = [], runner.window_field
    monkeypatch.setattr(runner, "window_field", lambda branches, known: seen.append(known) or plain(branches, known))
    one = spanned(clip(0, 120), (0.0, 2.0, "sad", 1.0), fade=0.0)
    run(MotionSlots(runner, 1), [one])
    emotion = torch.cat([known.emotion for known in seen])  # (3 windows, 10 + 50, 7)
    sad, rest = torch.from_numpy(vector_of({"sad": 1.0})), torch.from_numpy(one.emotion)
    assert torch.equal(emotion[0], sad.expand(60, -1))
    assert torch.equal(emotion[1], torch.cat([sad.expand(10, -1), rest.expand(50, -1)]))
    assert torch.equal(emotion[2], rest.expand(60, -1))


def test_clips_without_spans_have_one_emotion_and_one_weight_per_clip(runner, monkeypatch):
    seen, plain = [], runner.window_field

    def watched(branches, known):
        seen.append((known.emotion.shape, branches[0].weight.shape))
        return plain(branches, known)

    monkeypatch.setattr(runner, "window_field", watched)
    run(MotionSlots(runner, 2), [clip(0, 60), clip(1, 60)])
    run(MotionSlots(runner, 2), [spanned(clip(0, 60), (1.5, 2.0, "sad", 1.0))])
    assert set(seen[:2]) == {((2, 7), (2,))}
    assert set(seen[2:]) == {((2, 60, 7), (2, 50))}


def test_a_track_of_another_length_is_refused(runner):
    one = replace(clip(0, 60), track=spanned(clip(0, 50), (0.0, 1.0, "sad", 1.0)).track)
    with pytest.raises(ValueError, match="50 frames of emotion for 60 of speech"):
        MotionSlots(runner, 1).admit(one)


def test_a_graph_is_replayed_for_windows_with_and_without_spans(tiny_model, monkeypatch):
    monkeypatch.setattr(model_runner, "Recorded", Replayed)
    model = load_float(tiny_model)
    graphs = ModelRunner(model, choice=Choice(Variant("eager"), Variant("eager", graph=True), 16))
    clips = [MIXED[0], spanned(MIXED[5], LATER), MIXED[4]]
    found = run(MotionSlots(graphs, 2), clips)
    for motion, expected in zip(found, run(MotionSlots(ModelRunner(model), 2), clips), strict=True):
        torch.testing.assert_close(motion, expected, atol=1e-5, rtol=1e-5)
    shapes = {key[1] for key in graphs._graphs}
    assert {shape[2] for shape in shapes} == {1, 50}
