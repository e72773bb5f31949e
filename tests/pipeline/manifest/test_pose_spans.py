"""The column pose as a list of a file and spans: the same in every format, and what cannot be is refused."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.ledger.clip_row import clip_row
from pipeline.manifest.pose_spans import PoseSpan, poses_of, text_in_words, with_file
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.qc.retakes import take_clip
from tests.tiny import CONFIG

POSED = replace(CONFIG, pose="head")
SPANS = [
    {"start": 0.5, "end": 1.5, "yaw": 15},
    {"start": 1.5, "end": 2, "pitch": -8.5, "roll": 3},
]
READ = (PoseSpan(0.5, 1.5, yaw=15.0), PoseSpan(1.5, 2.0, pitch=-8.5, roll=3.0))


def read(tmp_path, pose, model=POSED, defaults=None, **more):
    row = {"image": "a.png", "audio": "a.wav", "clip_id": "a", "pose": pose, **more}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    return read_manifest(str(tmp_path / "m.jsonl"), defaults, model)


def test_a_file_with_spans_is_the_same_from_every_format(tmp_path):
    cell = [{"pose": "p.npy"}, *SPANS]
    clip = read(tmp_path, cell).clips[0]
    assert (clip.pose, clip.pose_source, clip.pose_spans, clip.pose_fade) == (f"{tmp_path}/p.npy", "array", READ, 0.5)
    as_text = json.dumps(cell).replace('"', '""')
    (tmp_path / "m.csv").write_text(f'image,audio,pose,pose_fade\na.png,a.wav,"{as_text}",1\n')
    written = read_manifest(str(tmp_path / "m.csv"), None, POSED).clips[0]
    assert (written.pose, written.pose_spans, written.pose_fade) == (clip.pose, READ, 1.0)
    # A struct column has every name in every entry, with null where it is not given.
    table = pa.table({"image": ["a.png"], "audio": ["a.wav"], "pose": [[*SPANS, {"pose": "p.npy"}]]})
    pq.write_table(table, tmp_path / "m.parquet")
    packed = read_manifest(str(tmp_path / "m.parquet"), None, POSED).clips[0]
    assert (packed.pose, packed.pose_spans) == (clip.pose, READ)


def test_the_row_has_the_list_as_a_manifest_can_have_it_and_a_person_reads_words(tmp_path):
    clip = read(tmp_path, [*SPANS, {"pose": "p.npy"}], defaults=ClipDefaults(pose_fade=0.2)).clips[0]
    row = clip_row(clip)
    assert (row["pose_source"], row["pose_fade"]) == ("array", 0.2)
    assert poses_of(row["pose"]) == (f"{tmp_path}/p.npy", READ)
    words = f"{tmp_path}/p.npy; yaw +15 from 0.5 to 1.5 s; pitch -8.5, roll +3 from 1.5 to 2 s"
    assert text_in_words(row["pose"]) == words
    plain = clip_row(read(tmp_path, "p.npy").clips[0])
    assert (plain["pose"], plain["pose_fade"]) == (f"{tmp_path}/p.npy", None)
    assert [text_in_words(text) for text in (None, "/p.npy", "[broken]")] == [None, "/p.npy", "[broken]"]
    assert take_clip(clip, 2).pose_spans == READ


def test_a_file_whose_name_begins_like_a_list_is_a_file(tmp_path):
    clip = read(tmp_path, "[old].npy").clips[0]
    assert (clip.pose, clip.pose_spans) == (f"{tmp_path}/[old].npy", ())


def test_the_file_of_a_list_is_placed_like_one_of_a_cell():
    assert with_file("p.npy", str.upper) == "P.NPY"
    assert with_file([{"pose": "p.npy"}, *SPANS], str.upper) == [{"pose": "P.NPY"}, *SPANS]
    assert with_file(json.dumps([{"pose": "p.npy"}]), str.upper) == [{"pose": "P.NPY"}]
    assert with_file("[no json]", str.upper) == "[no json]"


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([{"start": 0, "end": 1, "yaw": 1}, {"start": 0.5, "end": 2, "yaw": 1}], "span 2: it starts at 0.5 s, before "),
        ([{"start": 1, "end": 1, "yaw": 1}], "span 1: it lasts from 1 to 1 s, but a span must last at least one frame"),
        ([{"start": 0, "end": 1}], "span 1: it turns nothing: give yaw, pitch, roll, or some of them, in degrees"),
        ([{"start": 0, "end": 1, "yaw": 61}], "span 1: yaw 61 is not a number of degrees from -60 to 60"),
        ([{"start": 0, "end": 1, "yaw": True}], "span 1: yaw True is not a number"),
        ([{"start": 0, "end": 1, "gaze": 5}], "span 1: 'gaze' is not one of start, end, yaw, pitch, roll, pose"),
        ([{"start": 0, "end": 1, "pose": "b.npy"}], "span 1: pose is the file for the whole clip"),
        ([{"yaw": 5}], "span 1: start and end are missing; an entry without them gives the file"),
        ([{"pose": "p.npy", "yaw": 5}], "span 1: 'yaw' needs start and end"),
        ([{"pose": "p.npy"}, {"pose": "q.npy"}], "span 2: a second entry has neither start nor end"),
        ([{"pose": "p.txt"}], "'p.txt' is not a file of head poses"),
        ([{"end": 1, "yaw": 5}], "span 1: start is missing: give the seconds of the clip"),
    ],
)
def test_spans_that_cannot_be_are_refused_with_their_number(tmp_path, spans, message):
    error = read(tmp_path, spans).rejected[0].error
    assert error.code == "value_invalid"
    assert error.message.startswith("row 1 (line 1), column pose: ")
    assert message in error.message


def test_spans_need_a_file_and_a_model_with_poses(tmp_path):
    error = read(tmp_path, SPANS).rejected[0].error
    assert error.code == "value_missing"
    assert 'in an entry {"pose": FILE} of the list' in error.message
    error = read(tmp_path, [{"pose": "p.npy"}, *SPANS], CONFIG).rejected[0].error
    assert error.code == "value_invalid"
    assert "this model has no head pose condition" in error.message


def test_no_model_takes_a_gaze_and_none_is_passed_over_in_silence(tmp_path):
    for gaze in ("left", {"yaw": 5}, [{"start": 0, "end": 1}], 0):
        error = read(tmp_path, "p.npy", gaze=gaze).rejected[0].error
        assert error.code == "value_invalid"
        assert "column gaze: no model has a gaze condition" in error.message
    for gaze in ("", None):
        assert "gaze" not in clip_row(read(tmp_path, "p.npy", gaze=gaze).clips[0])
    assert read(tmp_path, "p.npy", game="chess").clips[0].extra == {"game": "chess"}
