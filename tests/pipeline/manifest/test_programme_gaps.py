"""Gaps between the time codes of a programme's rows: which are filled, by what, and which are left."""

import json
from fractions import Fraction

import pytest

from pipeline.common.errors import ManifestError
from pipeline.manifest.programme_gaps import with_gaps
from pipeline.manifest.reader import read_manifest
from pipeline.media.settings import VideoSettings, parse_fps


def filled(folder, fps, *rows):
    lines = [
        json.dumps({"clip_id": f"c{n}", "image": "/i.png", "audio": "/a.wav", "programme": "p", **row})
        for n, row in enumerate(rows)
    ]
    (folder / "m.jsonl").write_text("\n".join(lines))
    read = read_manifest(str(folder / "m.jsonl"), video=VideoSettings(fps=fps))
    return with_gaps(read, parse_fps(fps))


def test_a_row_lasts_until_the_next_one_and_a_clip_follows_a_row_with_frames(tmp_path):
    rows = (
        {"order": 1, "timecode": "10:00:00:00", "audio": None, "seconds": 2},
        {"order": 2, "timecode": "10:00:03:00", "frames": 50, "title": "Hi", "emotion": "happy", "mine": "x"},
        {"order": 3, "timecode": "10:00:06:00", "frames": 25},
        {"order": 4, "timecode": "10:00:07:00", "frames": 25},
        {"order": 5, "frames": 25},
        {"order": 6, "timecode": "10:00:20:00"},
    )
    manifest = filled(tmp_path, "25", *rows)
    clips = list(manifest.clips)
    assert [clip.programme.fills for clip in clips] == [True, False, False, False, False, False, False]
    gap = clips[-1]
    assert (gap.clip_id, gap.row, gap.gap_after) == ("c1-gap", 7, "c1")
    assert (gap.slot.frames, gap.timecode) == (25, "10:00:05:00")
    assert (gap.audio, gap.seconds, gap.emotion, gap.title) == ("", 1.0, {"happy": 1.0}, None)
    assert gap.extra == {"order": 2.5}
    assert manifest.notes == ("1 of them fill gaps after rows with frames (programme.gaps=idle): c1-gap ...",)


@pytest.mark.parametrize("fps", ["23.976", "25", "29.97", "59.94"])
def test_clips_and_gaps_have_exactly_the_frames_between_their_time_codes(fps, tmp_path):
    rate = round(parse_fps(fps))
    digits = f"{{:0{len(str(rate - 1))}}}".format
    codes = [f"10:{n // 12:02}:{n % 12 * 5:02}:{digits(n % rate)}" for n in range(40)]
    manifest = filled(tmp_path, fps, *({"timecode": code, "frames": 20 + n} for n, code in enumerate(codes)))
    clips = sorted(manifest.clips, key=lambda clip: clip.programme.timecode.frame)
    assert sum(clip.gap_after is not None for clip in clips) == 39
    at = clips[0].programme.timecode
    for clip in clips:
        assert str(at) == clip.timecode
        at = at.after(clip.slot.frames)
        if clip.gap_after is not None:
            assert clip.seconds == float(Fraction(clip.slot.frames) / parse_fps(fps))


@pytest.mark.parametrize("rejected", [{"order": 2, "nfe": "x"}, {"nfe": "x"}])
def test_a_gap_that_may_be_the_place_of_a_rejected_row_is_left(rejected, tmp_path):
    codes = ({"order": n, "timecode": f"10:00:0{n}:00"} for n in (1, 4, 6))
    fills = [clip.programme.fills for clip in filled(tmp_path, "25", *codes, rejected).clips]
    assert fills == ([False, True, False] if "order" in rejected else [False] * 3)


def test_rows_without_time_codes_have_no_gaps_and_a_name_that_is_taken_is_refused(tmp_path):
    manifest = filled(tmp_path, "25", {"order": 1, "frames": 5}, {"order": 2})
    assert not any(clip.programme.fills or clip.gap_after for clip in manifest.clips)
    taken = {"clip_id": "C0-GAP", "timecode": "10:00:02:00"}
    with pytest.raises(ManifestError, match="give the row another clip_id"):
        filled(tmp_path, "25", {"timecode": "10:00:00:00", "frames": 5}, taken)
