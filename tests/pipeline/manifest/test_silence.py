"""The column silence in every form, what cannot be, and clips without speech."""

import json
from pathlib import Path

import pytest

from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.requests import row_of
from pipeline.manifest.settings import ClipDefaults
from pipeline.manifest.silence import Pause, Silence, silence_of, silence_text, text_in_words
from pipeline.manifest.spans import check_length
from pipeline.media.settings import VideoSettings
from pipeline.render.clip_inputs import load_inputs

SPANS = [{"start": 0, "end": "0.8"}, {"start": 3.1, "end": 5.0, "silence": "idle"}]
READ = Silence("model", (Pause(0.0, 0.8), Pause(3.1, 5.0, "idle")))
PORTRAIT = Path("jobs/demo/media/portrait_2011.png").absolute()


def read(tmp_path, defaults=None, **row):
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "a.png", "clip_id": "a", **row}))
    return read_manifest(str(tmp_path / "m.jsonl"), defaults)


def test_a_cell_is_a_word_or_a_list_of_pauses_and_reads_back_as_it_is_written():
    assert silence_of(None, "closed") == silence_of([], "closed") == Silence("closed")
    assert silence_of("idle", "model") == Silence("idle")
    assert silence_of(SPANS, "closed") == silence_of(json.dumps(SPANS), "model") == READ
    assert silence_of(silence_text(READ), "model") == READ
    assert text_in_words(silence_text(READ)) == "closed from 0 to 0.8 s; idle from 3.1 to 5 s"
    assert text_in_words("closed") == "closed"
    assert READ.changes
    assert Silence("closed").changes
    assert not Silence().changes
    assert not Silence("closed", (Pause(0, 1, "model"),)).changes


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("shut", "'shut' is not one of model, closed, idle"),
        ([{"start": 1}], "span 1: end is missing: give the seconds of the clip"),
        ([{"start": 0, "end": 1}, {"start": 0.5, "end": 2}], "span 2: it starts at 0.5 s, before span 1 ends"),
        ([{"start": 1, "end": 1.01}], "span 1: it lasts from 1 to 1.01 s, but a span must last at least one frame"),
        ([{"start": 0, "end": 1, "emotion": "sad"}], "span 1: 'emotion' is not one of start, end, silence"),
        ([{"start": 0, "end": 1, "silence": "off"}], "span 1: 'off' is not one of model, closed, idle"),
        ([3], "span 1: it is"),
    ],
)
def test_what_cannot_be_is_rejected_with_the_number_of_the_span(tmp_path, value, problem):
    (rejected,) = read(tmp_path, audio="a.wav", silence=value).rejected
    assert rejected.error.code == "value_invalid"
    assert f"column silence: {problem}" in rejected.error.message


def test_a_pause_after_the_end_of_the_audio_is_rejected():
    check_length([Pause(1, 2.04)], 2.0, 50, "silence")
    with pytest.raises(ClipError, match="span 1 of the column silence lasts from 1") as late:
        check_length([Pause(1, 2.1, number=1)], 2.0, 50, "silence")
    assert late.value.code == "silence_span_too_late"


def test_a_row_has_a_length_instead_of_an_audio(tmp_path):
    clip = read(tmp_path, seconds="4.5").clips[0]
    assert (clip.audio, clip.seconds, clip.silence) == ("", 4.5, Silence("idle"))
    row = clip_row(clip)
    assert row_of(clip) == {**row_of(clip), "seconds": 4.5, "silence": "idle"}
    assert "audio" not in row_of(clip)
    assert (row["audio"], row["seconds"], row["silence"]) == (None, 4.5, "idle")
    assert row["emotion_source"] == "neutral"  # there is no speech that would have one
    assert clip_row(read(tmp_path, seconds=4, emotion="sad").clips[0])["emotion_source"] == "manifest"
    assert read(tmp_path, ClipDefaults(silence="closed"), audio="a.wav").clips[0].silence == Silence("closed")
    assert read(tmp_path, seconds=4, silence="model").clips[0].silence == Silence()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"seconds": 4, "audio": "a.wav"}, "column seconds: the row has an audio, which says how long the clip is"),
        ({"seconds": None, "audio": ""}, "column audio: a value is required"),
        ({"seconds": -1}, "column seconds: -1 is not a number from 0"),
    ],
)
def test_a_row_needs_one_of_the_two(tmp_path, row, problem):
    (rejected,) = read(tmp_path, **row).rejected
    assert problem in rejected.error.message


def test_a_table_without_both_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="no column audio"):
        read(tmp_path)


def test_a_clip_without_speech_has_silence_of_its_length_and_a_limit(tmp_path):
    clip = read(tmp_path, image=str(PORTRAIT), seconds=1.5).clips[0]
    track = load_inputs(clip, Limits(), 64, VideoSettings()).track
    assert track.seconds == 1.5
    assert not track.wave.any()
    with pytest.raises(ClipError, match="more than limits") as long:
        load_inputs(clip, Limits(max_audio_minutes=0.01), 64, VideoSettings())
    assert long.value.code == "audio_too_long"
