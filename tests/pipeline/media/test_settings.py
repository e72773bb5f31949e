"""Settings of the delivered file: frame rates of broadcasting, and what players play."""

from fractions import Fraction

import pytest

from pipeline.common.options import SettingError
from pipeline.media.settings import VideoSettings, parse_fps


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        *((text, Fraction(24_000, 1001)) for text in ("23.976", "23.98", "23.97", "23.976024", " 23.976 ")),
        *((text, Fraction(30_000, 1001)) for text in ("29.97", "29.970", "29.97002997")),
        *(("47.952", Fraction(48_000, 1001)), ("59.94", Fraction(60_000, 1001)), ("14.985", Fraction(15_000, 1001))),
        *(("119.88", Fraction(120_000, 1001)), ("11.988", Fraction(12_000, 1001))),
    ],
)
def test_a_rounded_rate_of_broadcasting_is_the_exact_one(text, rate):
    assert parse_fps(text) == rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        *(("25", 25), ("25.0", 25), ("5.00", 5), ("1.00", 1), ("24.00", 24), ("12.5", Fraction(25, 2)), ("1e1", 10)),
        *(("29.9", Fraction(299, 10)), ("29.95", Fraction(599, 20)), ("23.977", Fraction(23_977, 1000))),
        *(("2997/125", Fraction(2997, 125)), ("24000/1001", Fraction(24_000, 1001)), ("12.50", Fraction(25, 2))),
    ],
)
def test_any_other_rate_is_what_it_says(text, rate):
    assert parse_fps(text) == rate


@pytest.mark.parametrize("crf", [0, -1, 52])
def test_lossless_video_is_refused_because_players_do_not_play_it(crf):
    with pytest.raises(SettingError, match="1 to 51") as refused:
        VideoSettings(crf=crf)
    assert "0 would be lossless H.264" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"width": 641}, "width: 641 is not allowed; it must be 0, or an even number from 64 on"),
        ({"height": 32}, "height: 32 is not allowed"),
        ({"width": 9000}, "width"),
        ({"fit": "pad", "width": 640}, "fit: pad needs both video.width and video.height"),
        ({"hold_rim": 1.5}, "hold_rim"),
        ({"frame": "half"}, "frame"),
    ],
)
def test_a_frame_that_cannot_be_is_refused_with_the_settings_name(given, said):
    with pytest.raises(SettingError) as refused:
        VideoSettings(**given)
    assert said in str(refused.value)
