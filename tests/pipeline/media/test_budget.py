"""A programme has the frames of its total length, however its rows are cut."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.media.budget import Budget
from pipeline.media.settings import parse_fps
from pipeline.media.slot import Slot
from tests import media


@pytest.mark.parametrize("fps", ["23.976", "25", "29.97", "59.94"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_200_rows_have_exactly_the_frames_of_their_total(fps, rate):
    rate_of_frames = parse_fps(fps)
    lengths = np.random.default_rng(7).integers(rate // 5, 4 * rate, 200)
    budget, frames, rounded = Budget(rate_of_frames), 0, 0
    for samples in lengths:
        seconds = Fraction(int(samples), rate)
        slot = budget.of(seconds)
        assert abs(slot.frames - seconds * rate_of_frames) < 1
        frames += slot.frames
        rounded += -int(-seconds * rate_of_frames // 1)
        budget = Budget(rate_of_frames, budget.after(slot, seconds), frames)
    total = Fraction(int(lengths.sum()), rate) * rate_of_frames
    assert frames == -int(-total // 1)
    assert rounded > frames + 80  # what rounding up each row would give


def test_a_row_counts_on_from_a_slot_and_from_the_time_code_of_the_next_row():
    fps = Fraction(25)
    assert Budget(fps, Fraction(1, 100), 1).after(Slot(10, fps, "pad"), Fraction(3)) == Fraction(11, 25)
    tight = Budget(fps, room=25)
    assert tight.of(Fraction(2501, 2500)).frames == 25  # a frame of rounding is cut
    assert tight.of(Fraction(1, 2)).frames == 13  # a gap follows
    with pytest.raises(ClipError, match="needs 28 frames, but the next row of its programme begins 25 frames after it"):
        tight.of(Fraction(11, 10))
    filled = replace(tight, fills=True)
    assert filled.of(Fraction(1, 2)) == Slot(25, fps, "pad")
    assert filled.after(filled.of(Fraction(1, 2)), Fraction(1, 2)) == 1
    with pytest.raises(ClipError, match="end within the last frame of the row before it"):
        Budget(fps, Fraction(1, 100), 1).of(Fraction(1, 100))


def test_the_sound_of_a_row_is_as_long_as_its_frames():
    data = media.wav(media.tone(seconds=1.01), 16_000)
    fps = parse_fps("29.97")
    slot = Budget(fps, Fraction(1, 100), 1).slot(data, Limits())
    track = load_audio(data, Limits(), slot=slot)
    assert track.frames(fps) == slot.frames == 30
    assert track.notes == ()
    assert track.source.samples == 16_160
