"""Time codes: against the numbers of the standard, and every frame of half an hour."""

from fractions import Fraction

import pytest

from pipeline.media.timecode import Timecode, parse_timecode

NTSC = Fraction(30_000, 1001)
FILM = Fraction(24_000, 1001)


@pytest.mark.parametrize(
    ("text", "fps", "frame"),
    [
        ("00:00:00:00", Fraction(25), 0),
        ("01:00:00:00", Fraction(25), 90_000),
        ("10:00:00:24", Fraction(25), 900_024),
        ("01:00:00:00", FILM, 86_400),
        ("00:01:00;02", NTSC, 1800),  # the frame after 00:00:59;29
        ("00:10:00;00", NTSC, 17_982),
        ("01:00:00;00", NTSC, 107_892),
        ("23:59:59;29", NTSC, 2_589_407),
        ("00:01:00;04", 2 * NTSC, 3600),
        ("01:00:00;00", 2 * NTSC, 215_784),
        ("00:00:01:119", Fraction(120), 239),
    ],
)
def test_a_time_code_is_the_number_of_a_frame_and_back(text, fps, frame):
    found = parse_timecode(text, fps)
    assert (found.frame, str(found)) == (frame, text)


@pytest.mark.parametrize("rate", [30, 60])
def test_every_frame_of_an_hour_has_a_time_code_of_its_own_which_counts_up(rate):
    step = Timecode(0, rate, drop=True)
    codes = [str(step.after(n)) for n in range(0, 30 * 60 * rate, 7)]
    assert sorted(set(codes)) == codes
    fps = Fraction(rate * 1000, 1001)
    assert [parse_timecode(code, fps).frame for code in codes] == list(range(0, 30 * 60 * rate, 7))
    seconds = Fraction(parse_timecode("10:00:00;00", fps).frame) / fps
    assert abs(seconds - 36_000) < Fraction(4, 100)  # the clock's time within about a frame a day


def test_slots_of_a_programme_follow_each_other():
    start = parse_timecode("01:00:00:00", FILM)
    codes = [str(start)]
    for frames in (48, 1, 1001):
        start = start.after(frames)
        codes.append(str(start))
    assert codes == ["01:00:00:00", "01:00:02:00", "01:00:02:01", "01:00:43:18"]


def test_midnight_follows_the_last_frame_of_a_day():
    assert str(parse_timecode("23:59:59:24", Fraction(25)).after(1)) == "00:00:00:00"
    assert str(parse_timecode("23:59:59;29", NTSC).after(1)) == "00:00:00;00"


@pytest.mark.parametrize(
    ("text", "fps", "problem"),
    [
        ("1:00:00:00", Fraction(25), "not a SMPTE time code"),
        ("01:00:00.00", Fraction(25), "not a SMPTE time code"),
        ("01:00:00", Fraction(25), "not a SMPTE time code"),
        ("24:00:00:00", Fraction(25), "24 hours, and 23"),
        ("01:60:00:00", Fraction(25), "60 minutes, and 59"),
        ("01:00:60:00", Fraction(25), "60 seconds, and 59"),
        ("01:00:00:25", Fraction(25), "frame 25, and 24 is the last"),
        ("01:00:00:24", FILM, "frame 24, and 23 is the last"),
        ("01:00:00;00", Fraction(25), "left out .* alone"),
        ("01:00:00;00", FILM, "left out .* alone"),
        ("01:00:00;00", Fraction(30), "left out .* alone"),
        ("00:01:00;01", NTSC, "the next one is 00:01:00;02"),
        ("00:11:00;03", 2 * NTSC, "the next one is 00:11:00;04"),
        ("01:00:00:00", Fraction(25, 2), "have no time code"),
        ("01:00:00:00", Fraction(59, 2), "have no time code"),
    ],
)
def test_what_a_frame_rate_cannot_have_is_refused(text, fps, problem):
    with pytest.raises(ValueError, match=problem):
        parse_timecode(text, fps)
