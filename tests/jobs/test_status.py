"""`jobs.status` tells how a run stands from what it wrote, and when it has fallen silent."""

import json
import time
from dataclasses import replace

import pytest

from jobs import status
from pipeline.common.disk_collections import Spool
from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import Manifest
from pipeline.run.run import Run
from pipeline.run.selection import Selection
from pipeline.run.summary import summary_of, write_summary
from tests.running import run_job


def told_of(output, *flags):
    """What the job prints."""
    done = run_job("status", *flags, f"output={output}")
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def run(tmp_path):
    run = Run(
        Ledger(str(tmp_path), "20261124T000000Z-abcdef"), Manifest("m", Spool(), Spool()), Selection(), Limits(), {}
    )
    run.add({"row": 1, "clip_id": "a", "status": "failed", "error_code": "timed_out"})
    return run


def test_a_run_at_work_a_silent_one_and_an_ended_one(run, tmp_path):
    run.state = "rendering"
    write_summary(run)
    told = told_of(tmp_path)
    assert "run 20261124T000000Z-abcdef: rendering\n" in told
    assert "0 done, 1 failed, 0 rejected, 0 quarantined" in told
    assert "timed_out x 1" in told
    later = status.describe(summary_of(run), time.time() + 3600)
    assert "SILENT for 1:00:00" in later
    run.close("stopped", 1, "too many failed")
    write_summary(run)
    told = told_of(tmp_path)
    assert "stopped with exit code 1" in told
    assert "too many failed" in told
    assert "SILENT" not in status.describe(summary_of(run), time.time() + 3600)


def test_shards_are_reported_one_by_one_and_as_json(run, tmp_path):
    for part in (1, 2):
        run.selection = Selection(shard=f"{part}/2")
        write_summary(run)
    assert [json.loads(line)["failed"] for line in told_of(tmp_path, "--json").splitlines()] == [1, 1]
    assert "summary.2-of-2.json: run" in told_of(tmp_path)


def test_the_summary_says_what_was_noticed_about_the_manifest(run):
    run.manifest = replace(run.manifest, notes=("column 'Seed' is read as seed",))
    assert summary_of(run)["notes"] == ["column 'Seed' is read as seed"]


def test_where_no_run_has_begun_the_message_names_the_folder(tmp_path):
    done = run_job("status", f"output={tmp_path / 'none'}")
    assert done.returncode == 2
    assert f"{tmp_path / 'none'} contains no run" in done.stderr


def test_a_clock_that_is_put_back_makes_no_duration_wrong(run, tmp_path, monkeypatch):
    before = summary_of(run)
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)  # in 1970
    after = summary_of(run)
    assert before["started"] == after["started"]
    assert before["seconds"] <= after["seconds"] < before["seconds"] + 600
    write_summary(run)
    assert "SILENT" not in told_of(tmp_path)
    run.close("finished", 0)
    assert "exit code 0, 0:00:00 ago" in status.describe(summary_of(run), time.time() - 3600)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", "Infinity"), ("updated", "NaN"), ("seconds", "-1.0"), ("seconds_left", "[]"), ("done", "null")],
)
def test_numbers_that_no_run_writes_are_damage_and_no_traceback(name, value, run, tmp_path):
    write_summary(run)
    known = json.loads((tmp_path / "summary.json").read_text()) | {name: "HERE"}
    (tmp_path / "summary.json").write_text(json.dumps(known).replace('"HERE"', value))
    told = run_job("status", f"output={tmp_path}")
    assert "Traceback" not in told.stdout + told.stderr
    assert "is damaged" in told.stdout + told.stderr


@pytest.mark.parametrize(("limit", "said"), [("encoder", True), (None, False), (["of a later version"], False)])
def test_what_limits_the_speed_is_said_if_it_is_known(run, limit, said):
    shown = status.describe(summary_of(run) | {"limited_by": limit}, time.time())
    assert ("the video encoders limit the speed" in shown) == said
