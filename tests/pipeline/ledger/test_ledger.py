"""The ledger: a clip is done once, whoever comes second; and a quarantined clip stays so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.common.errors import ClipError
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.storage import objects

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture
def clip():
    return replace(read_manifest(str(DEMO)).clips[0], clip_id="a.b c", fingerprint="0123456789ab")


@pytest.fixture
def video(tmp_path):
    file = tmp_path / "local.mp4"
    file.write_bytes(b"video")
    return file


def test_a_committed_clip_is_done_with_its_row_and_its_video(output, clip, video):
    ledger = Ledger(output, "run")
    assert list(ledger.done()) == []
    assert ledger.read(clip.clip_id, clip.fingerprint) is None
    row = ledger.commit(video, clip, {"status": "done", "frames": 3})
    assert list(ledger.done()) == [("a.b c", "0123456789ab")]
    assert ledger.read(clip.clip_id, clip.fingerprint) == row
    assert objects.read_bytes(row["uri"]) == b"video"
    assert row["uri"].endswith("/videos/a.b c.0123456789ab.mp4")


def test_who_comes_second_gets_the_first_ones_row_and_leaves_nothing(output, clip, video, tmp_path):
    ledger = Ledger(output, "run")
    first = ledger.commit(video, clip, {"status": "done", "frames": 3})
    other = tmp_path / "other.mp4"
    other.write_bytes(b"another")
    assert ledger.commit(other, clip, {"status": "done", "frames": 4}) == first
    assert objects.read_bytes(first["uri"]) == b"video"
    assert list(objects.list_folder(f"{output}/videos")) == ["a.b c.0123456789ab.mp4"]


def test_a_video_of_a_dead_attempt_is_not_in_the_way(output, clip, video):
    objects.write_bytes(b"left behind", f"{output}/videos/a.b c.0123456789ab.mp4")
    ledger = Ledger(output, "run")
    assert list(ledger.done()) == []
    row = ledger.commit(video, clip, {"status": "done"})
    assert objects.read_bytes(row["uri"]) == b"video"


def test_two_versions_of_a_clip_are_kept_next_to_each_other(output, clip, video):
    ledger = Ledger(output, "run")
    ledger.commit(video, clip, {"status": "done", "seed": 1})
    ledger.commit(video, replace(clip, fingerprint="ba9876543210"), {"status": "done", "seed": 2})
    assert sorted(ledger.done()) == [("a.b c", "0123456789ab"), ("a.b c", "ba9876543210")]
    found = ledger.read(clip.clip_id, clip.fingerprint)
    assert found is not None
    assert found["seed"] == 1


def test_a_quarantined_clip_stays_so_in_later_runs_until_it_is_forgiven(output, clip):
    ledger = Ledger(output, "run")
    assert ledger.quarantined() == set()
    error = ledger.quarantine(clip, "render")
    assert (error.code, error.status) == ("worker_died", "quarantined")
    assert "in the render stage" in error.message
    assert "only=a.b c tries it again" in error.message
    assert Ledger(output, "next run").quarantined() == {("a.b c", "0123456789ab")}
    ledger.forgive(clip)
    assert Ledger(output, "next run").quarantined() == set()


def test_notes_of_attempts_that_earlier_versions_left_quarantine_nothing(output, clip):
    objects.write_bytes(b'{"run": "old", "tries": 1}', f"{output}/attempts/a.b c.0123456789ab.render.json")
    assert Ledger(output, "run").quarantined() == set()


def test_files_that_are_being_written_are_not_done(tmp_path, clip):
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / ".a.0123.json.77.part").write_text(json.dumps({}))
    assert list(Ledger(str(tmp_path)).done()) == []


def test_an_output_that_cannot_be_written_is_a_storage_error(tmp_path, clip, video):
    (tmp_path / "videos").write_text("a file where the folder should be")
    with pytest.raises(ClipError) as error:
        Ledger(str(tmp_path), "run").commit(video, clip, {"status": "done"})
    assert error.value.code == "storage_error"


def test_a_quarantine_that_cannot_be_noted_is_a_storage_error(tmp_path, clip):
    (tmp_path / "attempts").write_text("a file where the folder should be")
    with pytest.raises(ClipError) as error:
        Ledger(str(tmp_path), "run").quarantine(clip, "render")
    assert error.value.code == "storage_error"


@pytest.mark.parametrize("clip_id", ["é" * 200, "日" * 100, "x" * 200])
def test_a_long_name_is_shortened_and_two_that_differ_at_their_ends_stay_apart(output, clip, video, clip_id):
    ledger = Ledger(output, "run")
    one, other = (replace(clip, clip_id=f"{clip_id[:-1]}{end}") for end in "ab")
    rows = [ledger.commit(video, long, {"status": "done"}) for long in (one, other)]
    assert [ledger.read(long.clip_id, long.fingerprint) for long in (one, other)] == rows
    assert len({row["uri"] for row in rows}) == len(list(ledger.done())) == 2
    for long in (one, other):
        ledger.quarantine(long, "features")
        ledger.write_qc(long.clip_id, long.fingerprint, b"{}", b"jpeg")
    assert ledger.quarantined() == set(ledger.done())
    for folder in ("done", "videos", "attempts", "qc"):
        assert all(len(name.encode()) <= 255 for name in objects.list_folder(f"{output}/{folder}"))
    if len(clip_id.encode()) <= 200:
        assert rows[0]["uri"].endswith(f"/{one.clip_id}.0123456789ab.mp4")


def test_a_damaged_row_is_moved_aside_by_the_next_commit(output, clip, video):
    ledger = Ledger(output, "run")
    objects.write_bytes(b'{"clip_id": "a', f"{output}/done/a.b c.0123456789ab.json")
    assert ledger.read(clip.clip_id, clip.fingerprint) is None
    row = ledger.commit(video, clip, {"status": "done"})
    assert ledger.read(clip.clip_id, clip.fingerprint) == row
    (kept,) = objects.list_folder(f"{output}/damaged/done")
    assert objects.read_bytes(f"{output}/damaged/done/{kept}") == b'{"clip_id": "a'


def test_a_row_belongs_to_the_output_in_which_it_is(tmp_path, clip, video):
    ledger = Ledger(str(tmp_path / "one"), "run")
    ledger.commit(video, clip, {"status": "done"})
    (tmp_path / "one").rename(tmp_path / "two")
    row = Ledger(str(tmp_path / "two")).read(clip.clip_id, clip.fingerprint)
    assert row["uri"] == f"{tmp_path}/two/videos/a.b c.0123456789ab.mp4"
