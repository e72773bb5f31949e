"""A run without a cluster: it stops early where most clips fail, and every planned clip ends with one row."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.run.run import EARLY, Run
from pipeline.run.selection import Selection
from pipeline.run.summary import summary_of
from pipeline.run.tables import write_tables

MEDIA = Path(__file__).parents[3] / "jobs" / "demo" / "media"
CLIPS = 40


@pytest.fixture
def run(tmp_path):
    row = {"image": str(MEDIA / "portrait_astronaut.png"), "audio": str(MEDIA / "speech_kokoro_jf.wav")}
    lines = [json.dumps(row | {"clip_id": f"c{i}", "seed": i}) for i in range(CLIPS)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    manifest = read_manifest(str(tmp_path / "m.jsonl"))
    run = Run(Ledger(str(tmp_path / "out"), "run"), manifest, Selection(), Limits(), {}, max_failed_share=0.5)
    run.make_plan()
    run.begin()
    return run


def rows_of(run, failing):
    """A row of each planned clip, of which those in `failing` fail."""
    for i, clip in enumerate(run.plan.todo):
        bad = {"status": "failed", "error_code": "encode_failed"}
        yield clip_row(clip) | (bad if i in failing else {"status": "done", "frames": 25, "duration": 1.0})


def test_it_stops_where_more_than_the_share_has_failed_and_says_why(run):
    seen = []
    run.collect(rows_of(run, failing=range(CLIPS)), seen.append)
    assert len(seen) == EARLY
    assert run.state == "stopped"
    assert "20 of 20 clips failed, more than max_failed_share = 0.5: encode_failed x 20" in run.reason
    table = pq.read_table(write_tables(run, "stopped")).to_pylist()
    assert len(table) == CLIPS
    assert [row["error_code"] for row in table] == ["encode_failed"] * 20 + ["stopped"] * 20


def test_it_continues_where_half_fail_or_only_few_have_ended(run):
    run.collect(rows_of(run, failing=range(1, CLIPS, 2)), lambda row: None)  # never more than half
    assert run.state == "rendering"
    assert (run.tally.statuses["done"], run.tally.statuses["failed"]) == (20, 20)


def test_a_clip_that_was_committed_without_a_report_is_done_and_a_silent_one_is_lost(run, tmp_path):
    first, second = run.plan.todo[0], run.plan.todo[1]
    (tmp_path / "v.mp4").write_bytes(b"video")
    run.ledger.commit(tmp_path / "v.mp4", first, clip_row(first) | {"status": "done"})
    run.collect((row for row in rows_of(run, ()) if row["row"] > 2), lambda row: None)
    table = {row["clip_id"]: row for row in pq.read_table(write_tables(run)).to_pylist()}
    assert len(table) == CLIPS
    assert table[first.clip_id]["status"] == "done"
    assert table[first.clip_id]["uri"].endswith(f"{first.clip_id}.{first.fingerprint}.mp4")
    assert (table[second.clip_id]["status"], table[second.clip_id]["error_code"]) == ("failed", "lost")
    assert [json.loads(line)["clip_id"] for line in (tmp_path / "out" / "failed.jsonl").open()] == [second.clip_id]


def test_the_time_that_is_left_follows_the_clips_that_have_ended(run):
    assert summary_of(run)["seconds_left"] is None
    run.collect(rows_of(run, ()), lambda row: None)
    assert summary_of(run)["seconds_left"] == 0
