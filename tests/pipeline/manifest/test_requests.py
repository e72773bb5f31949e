"""Rows that are rejected say again what they asked for; tables of a run are no requests for what was made."""

import json
from dataclasses import replace

import pytest

from pipeline.ledger.clip_row import clip_row, rejected_row
from pipeline.ledger.columns import OURS
from pipeline.ledger.table import RowSpool, write_table
from pipeline.ledger.table_csv import write_csv
from pipeline.manifest.clip import COLUMNS
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.requests import WANTED
from pipeline.manifest.settings import ConsentSettings

FULL = {
    "clip_id": "a", "image": "/i.png", "audio": "/a.wav", "speaker": "Anna", "language": "de", "seed": 7, "nfe": 20,
    "a_cfg_scale": 3.0, "e_cfg_scale": 0.5, "r_cfg_scale": 1.5, "frame": "full", "face": 2, "timecode": "10:00:00:00",
    "frames": 48, "on_length": "pad", "audio_stream": 2, "title": "Größe", "preset": "ffv1", "tags": {"x": 1},
    "emotion": [{"start": 0, "end": 1, "emotion": "happy", "strength": 2}, {"emotion": "sad"}], "emotion_fade": 0.1,
    "audio_tracks": [{"uri": "/m.wav", "language": "fr"}], "scene": "own",
    "silence": [{"start": 0, "end": 0.5, "silence": "idle"}, {"start": 0.5, "end": 0.7, "silence": "closed"}],
}  # fmt: skip
IN_PROGRAMME = {"clip_id": "c", "image": "/i.png", "audio": "/a.wav", "speaker": "Anna", "programme": "p", "order": 3.0}
PLAIN = {"clip_id": "b", "image": "/i.png", "audio": "/a.wav", "speaker": "Anna", "crop": "none", "emotion": "happy"}


def read(tmp_path, *rows, name="m.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_manifest(str(tmp_path / name))


def without_consent(tmp_path, *rows):
    (tmp_path / "r.csv").write_text("consent_ref,speaker\nc-1,Anna\n")
    return check_consent(read(tmp_path, *rows), ConsentSettings(["Anna"], str(tmp_path / "r.csv"))).rejected


def duplicates(tmp_path, *rows):
    return [one for row in rows for one in read(tmp_path, row, row).rejected[:1]]


@pytest.mark.parametrize("refused", [without_consent, duplicates])
def test_a_clip_that_is_refused_can_be_rendered_again_as_it_was(refused, tmp_path):
    asked = read(tmp_path, FULL, PLAIN, IN_PROGRAMME).clips
    others = {"programme", "order", "crop", "pose", "pose_fade", "gaze", "seconds", "consent_ref", "faces"}
    assert set(FULL) | others == {*COLUMNS, "scene"}  # a new column has to come back, too
    again = [{**one.values, "clip_id": one.clip_id} for one in refused(tmp_path, FULL, PLAIN, IN_PROGRAMME)]
    assert json.loads(json.dumps(again)) == again
    for one, clip in zip(read(tmp_path, *again).clips, asked, strict=True):
        assert replace(one, row=clip.row) == clip
    row = rejected_row(refused(tmp_path, FULL)[0])
    assert (row["frames_wanted"], row["preset_wanted"], row["audio_stream_wanted"]) == (48, "ffv1", "2")
    assert json.loads(row["audio_tracks"]) == FULL["audio_tracks"]


MADE = {
    "status": "done", "fingerprint": "0123456789ab", "frames": 91, "preset": "hevc", "emotion": '{"sad": 0.9}',
    "emotion_source": "speech", "audio_stream": "number 2 (ger), because of language=de",
}  # fmt: skip


def table_of(tmp_path, kind, *rows):
    """A manifest that somebody makes of a table of ours."""
    uri = write_table(RowSpool(rows), str(tmp_path))
    if kind == "csv":
        write_csv(uri)
        return str(tmp_path / "clips.csv")
    return uri


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_of_a_run_is_read_as_what_was_asked_for(kind, tmp_path):
    clips = read(tmp_path, PLAIN | {"crop": "auto", "emotion": None}, FULL).clips
    rows = [clip_row(clip) | MADE for clip in clips]
    rows[1] |= {"emotion_source": "manifest", "emotion": clip_row(clips[1])["emotion"]}
    rows.append(
        rows[1] | {"row": 3, "clip_id": "c", "status": "rejected", "frames": None, "audio_stream": None, "preset": None}
    )
    manifest = read_manifest(table_of(tmp_path, kind, *rows))
    assert not list(manifest.rejected), manifest.rejected[0].error
    assert sum("rows that a run wrote are read as what they asked for" in note for note in manifest.notes) == 1
    for one, clip in zip(manifest.clips, [*clips, replace(clips[1], clip_id="c", row=3)], strict=True):
        known = {"extra": {}, "tags": None, "line": 0, "short": ""}
        assert replace(one, **known) == replace(clip, **known)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("status", ["done", "failed"])
def test_time_codes_that_follow_from_other_rows_are_not_asked_for(kind, status, tmp_path):
    first, second = read(
        tmp_path, IN_PROGRAMME | {"timecode": "10:00:00:00"}, IN_PROGRAMME | {"clip_id": "d", "order": 4}
    ).clips
    made = MADE if status == "done" else {"status": status}
    rows = [clip_row(clip) | made for clip in (first, replace(second, timecode="10:00:09:00"))]
    assert rows[1]["timecode"] == "10:00:09:00"
    again = read_manifest(table_of(tmp_path, kind, *rows))
    assert not list(again.rejected), again.rejected[0].error
    again = again.clips
    assert [clip.timecode for clip in again] == ["10:00:00:00", None]
    earlier = [{name: value for name, value in row.items() if name != "timecode_wanted"} for row in rows]
    assert [clip.timecode for clip in read(tmp_path, *earlier).clips] == ["10:00:00:00", "10:00:09:00"]


def test_a_table_of_an_earlier_version_asks_for_no_number_of_frames(tmp_path):
    (clip,) = read(tmp_path, PLAIN | {"crop": "auto"} | MADE).clips
    assert (clip.slot, clip.audio_stream, clip.preset, clip.emotion) == (None, None, None, None)
    for own in ({"status": "done"}, {"fingerprint": "0123456789ab"}, {"status": "open", "fingerprint": "x"}):
        (clip,) = read(tmp_path, PLAIN | own | {"frames": 91, "preset": "hevc"}).clips
        assert (clip.slot.frames, clip.preset, clip.emotion) == (91, "hevc", {"happy": 1.0})


def test_a_row_of_failed_jsonl_asks_for_what_somebody_has_written_into_it(tmp_path):
    """It has a fingerprint and a status, but no column that tells what was made."""
    failed = PLAIN | {"status": "rejected", "fingerprint": "0123456789ab", "frames": 50, "preset": None}
    (clip,) = read(tmp_path, failed).clips
    assert (clip.slot.frames, clip.preset) == (50, None)
    assert read(tmp_path, failed | {"frames": None}).clips[0].slot is None


def test_columns_that_mean_other_things_in_a_table_are_all_known():
    same = {"clip_id", "image", "audio", "language", "speaker", "seed", "nfe", "a_cfg_scale", "e_cfg_scale"}
    same |= {"r_cfg_scale", "crop", "frame", "face", "pose", "consent_ref", "emotion_fade", "on_length"}
    same |= {"audio_tracks", "title", "pose_fade", "silence", "seconds", "programme", "faces"}
    assert OURS & set(COLUMNS) == same | {"emotion", *WANTED}
