"""A preview: which clips it chooses, and that they are cheap and short while the whole run stays what it is."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest

from pipeline.common.limits import Limits
from pipeline.manifest.clip import Clip
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.manifest.pose_spans import PoseSpan
from pipeline.manifest.spans import check_length
from pipeline.media.audio import load_audio
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import AT_MOST, EITHER, Slot
from pipeline.run.preview import PreviewSettings, fewer, shortened
from pipeline.run.sample import choose
from tests import media


def clip(row=1, **more):
    base = Clip(row, f"c{row}", "/i.png", "/a.wav", None, 0, 10, 2.0, 1.0, 1.0, "auto")
    return replace(base, **more)


def chosen(clips, number):
    sample = choose(clips, enumerate(clips), number)
    return [one.clip.row for one in sample.chosen], sample


MIXED = [
    *(clip(row, language="en", speaker="anna") for row in range(1, 8)),
    clip(8, language="en", speaker="ben", emotion={"happy": 0.7, "sad": 0.3}),
    clip(9, language="de", speaker="ben"),
    clip(10, language="de", speaker="anna", frame="full", emotion={"sad": 1.0}),
    clip(11, language="en", speaker="anna"),
]


def test_few_clips_show_what_most_rows_have_first_and_then_everything():
    rows, sample = chosen(MIXED, 3)
    assert rows == [1, 10, 8]  # the most frequent values, then three new ones, then a new speaker and emotion
    assert sample.chosen[0].reason.startswith("language en (9 rows), speaker anna (9 rows)")
    assert sample.chosen[1].reason == "language de (2 rows), emotion sad (1 row), frame full (1 row)"
    assert sample.chosen[2].reason == "speaker ben (2 rows), emotion happy (1 row)"
    assert sample.missing == []
    assert "every language, speaker, emotion, frame, preset and kind" in sample.describe()
    assert chosen(MIXED, 3) == chosen(MIXED, 3)


def test_presets_of_rows_are_shown_too():
    clips = [clip(1), clip(2), clip(3, preset="av1"), clip(4, preset="av1"), clip(5, preset="av1")]
    rows, sample = chosen(clips, 2)
    assert rows == [3, 1]
    assert [one.reason for one in sample.chosen] == ["preset av1 (3 rows)", "preset of the run (2 rows)"]


def test_what_too_few_clips_do_not_show_is_named():
    _, sample = chosen(MIXED, 1)
    assert sample.missing[:2] == [("language", "de"), ("speaker", "ben")]
    assert "1 of 11 clips; they do not show language de, speaker ben, emotion happy" in sample.describe()


def test_more_clips_are_other_combinations_and_then_rows_from_all_parts_of_the_manifest():
    rows, sample = chosen(MIXED, 6)
    assert rows[:4] == [1, 10, 8, 9]
    assert sample.chosen[3].reason.startswith("another combination: language de, speaker ben")
    assert rows[4:] == [3, 7]
    assert chosen(MIXED, 99)[0][4:] == [2, 3, 4, 5, 6, 7, 11]


def test_clips_that_are_alike_are_one_kind_and_no_clips_no_preview():
    rows, sample = chosen([clip(1), clip(2), clip(3)], 2)
    assert rows == [1, 3]
    assert "alike" in sample.chosen[0].reason
    assert chosen([], 3)[0] == []


@pytest.mark.parametrize(
    ("sampler", "nfe", "wanted", "expected"),
    [("euler", 10, 4, 4), ("euler", 3, 4, 3), ("heun", 10, 3, 4), ("ddim", 50, 20, 20), ("rk4", 4, 2, 4)],
)
def test_the_steps_are_fewer_if_the_sampler_can_take_them(sampler, nfe, wanted, expected):
    assert fewer(sampler, nfe, wanted) == expected


def short(one, fps="25", **preview):
    prepared = SimpleNamespace(
        settings=SimpleNamespace(video=VideoSettings(fps=fps)), wanted=SimpleNamespace(sampler="euler")
    )
    return shortened(one, PreviewSettings(**preview), prepared)


def test_a_clip_of_a_preview_is_the_beginning_of_the_real_one_with_fewer_steps():
    spans = (EmotionSpan(0.5, 1.5, {"sad": 1.0}), EmotionSpan(1.9, 4.0, {"happy": 1.0}), EmotionSpan(5, 6, {"sad": 1}))
    turns = (PoseSpan(0.2, 4.0, yaw=10.0), PoseSpan(4.5, 5.0, pitch=3.0))
    more = {"spans": spans, "pose_spans": turns, "timecode": "10:00:00:00", "seed": 7}
    real = clip(frame="full", framing={"video.width": 0}, **more)
    seen = short(real, seconds=2.0)
    assert (seen.slot, seen.nfe, seen.frame, seen.framing) == (Slot(50, Fraction(25), AT_MOST), 4, "crop", {})
    assert [(span.start, span.end) for span in seen.spans] == [(0.5, 1.5), (1.9, 2.0)]
    assert seen.pose_spans == (PoseSpan(0.2, 2.0, yaw=10.0),)
    assert (seen.seed, seen.timecode, seen.row) == (7, "10:00:00:00", 1)
    assert short(real, fps="24000/1001").slot.frames == 72  # 3 s are 71.9 frames
    assert short(clip(nfe=8), nfe=20).nfe == 8


def test_a_slot_that_is_shorter_than_the_preview_stays_as_its_row_has_it():
    slot = Slot(20, Fraction(25), "pad")
    assert short(clip(slot=slot)).slot == slot
    padded = short(clip(slot=replace(slot, frames=200))).slot
    assert padded == Slot(75, Fraction(25), EITHER)  # what it has after its audio is seen too
    assert short(clip(slot=Slot(200, Fraction(25), "trim"))).slot == Slot(75, Fraction(25), AT_MOST)


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_the_preview_of_a_padded_row_is_as_long_as_its_slot_would_be_by_then(seconds):
    audio = media.wav(media.tone(seconds=seconds), 16_000)
    slot = short(clip(slot=Slot(200, Fraction(25), "pad"))).slot
    track = load_audio(audio, Limits(), slot=slot)
    assert (track.frames(Fraction(25)), track.notes) == (75, ())
    check_length((EmotionSpan(1.9, 2.9, {"sad": 1.0}),), track.seconds, 75)
