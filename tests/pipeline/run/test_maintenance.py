"""What dead attempts leave is found, what readers see stays; the table comes out of the ledger again."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.qc.retakes import take_clip
from pipeline.run.plan import make_plan, write_plan
from pipeline.run.selection import Selection
from pipeline.storage import objects
from pipeline.storage.run_lock import RunLock
from tests.running import run_job

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


def call(job, *arguments):
    """What a job prints that ends well."""
    done = run_job(job, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(output):
    return {
        f"{folder}/{name}"
        for folder in ("videos", "done", "attempts")
        for name in objects.list_folder(f"{output}/{folder}")
    }


def deliver(ledger, clips, job, tmp_path):
    """Plan, and commit the planned clips -> them."""
    plan = make_plan(clips, ledger, job, Limits(), Selection(), {})
    write_plan(plan, ledger.output, job)
    video = tmp_path / "v.mp4"
    video.write_bytes(b"video")
    for clip in plan.todo:
        ledger.commit(video, clip, clip_row(clip) | {"status": "done", "frames": 3})
    return list(plan.clips)


def test_orphans_go_and_what_readers_see_stays(output, tmp_path):
    ledger = Ledger(output, "run")
    objects.write_bytes(b"left behind", f"{output}/videos/en-1.0123456789ab.mp4")
    clips = read_manifest(str(DEMO)).clips[:2]
    done = deliver(ledger, clips, {}, tmp_path)
    seen = files(output) - {"videos/en-1.0123456789ab.mp4"}
    name = f"{done[0].clip_id}.{done[0].fingerprint}"
    objects.write_bytes(b"of a dead attempt", f"{output}/videos/{name}.abcdef.mp4")
    ledger.quarantine(done[1], "render")
    ledger.quarantine(replace(done[1], clip_id="other"), "render")  # not done: it stays quarantined
    before = files(output)
    told = call("clean", "--dry-run", f"output={output}")
    assert files(output) == before
    assert f"{name}.abcdef.mp4" in told
    told = call("clean", f"output={output}")
    kept = f"attempts/other.{done[1].fingerprint}.render.json"
    assert files(output) == seen | {kept}
    assert "removed 3 files" in told
    assert list(objects.list_folder(output)) == ["plan.parquet"]  # no lock is left


def test_versions_that_the_last_plan_does_not_have_go_where_they_are_named(output, tmp_path):
    ledger, clips = Ledger(output, "run"), read_manifest(str(DEMO)).clips[:2]
    deliver(ledger, clips, {"video.crf": 18}, tmp_path)
    now = deliver(ledger, clips, {"video.crf": 20}, tmp_path)
    other = replace(now[0], clip_id="of another manifest")
    ledger.commit(tmp_path / "v.mp4", other, {"status": "done"})
    now.append(other)
    assert len(list(ledger.done())) == 5
    call("clean", f"output={output}")
    assert len(list(ledger.done())) == 5
    call("clean", f"output={output}", "versions=true")
    call("clean", f"output={output}")  # their videos
    marks = {f"{clip.clip_id}.{clip.fingerprint}" for clip in now}
    assert files(output) == {f"done/{mark}.json" for mark in marks} | {f"videos/{mark}.mp4" for mark in marks}


def test_takes_stay_with_their_clip_and_metrics_go_with_it(output, tmp_path):
    ledger, clips = Ledger(output, "run"), read_manifest(str(DEMO)).clips[:1]
    deliver(ledger, clips, {"video.crf": 18}, tmp_path)
    [now] = deliver(ledger, clips, {"video.crf": 20}, tmp_path)
    second = take_clip(now, 2)
    (tmp_path / "v.mp4").write_bytes(b"video")
    ledger.commit(tmp_path / "v.mp4", second, clip_row(second) | {"status": "done"})
    for mark in (now.fingerprint, second.fingerprint, "0123456789ab"):
        ledger.write_qc(now.clip_id, mark, b"{}", b"jpeg")
    told = call("clean", f"output={output}", "versions=true")
    assert "metrics and contact sheets of clips that are not done" in told
    marks = {f"{now.clip_id}.{mark}" for mark in (now.fingerprint, second.fingerprint)}
    assert {name for name in files(output) if name.startswith("done/")} == {f"done/{mark}.json" for mark in marks}
    assert set(objects.list_folder(f"{output}/qc")) == {f"{mark}.{kind}" for mark in marks for kind in ("json", "jpg")}


def test_a_clip_whose_video_is_missing_is_rendered_again(output, tmp_path):
    ledger, clips = Ledger(output, "run"), read_manifest(str(DEMO)).clips[:2]
    lost, kept = deliver(ledger, clips, {}, tmp_path)
    objects.remove(f"{output}/videos/{lost.clip_id}.{lost.fingerprint}.mp4")
    assert "clips whose video is missing" in call("clean", f"output={output}")
    plan = make_plan(clips, ledger, {}, Limits(), Selection(), {})
    assert ([clip.clip_id for clip in plan.todo], [clip.clip_id for clip in plan.done]) == (
        [lost.clip_id],
        [kept.clip_id],
    )


def test_nothing_is_removed_while_a_run_is_active(tmp_path, monkeypatch):
    objects.write_bytes(b"being committed", f"{tmp_path}/videos/a.0123456789ab.mp4")
    monkeypatch.setattr("pipeline.storage.run_lock.BEAT_SECONDS", 0.2)
    with RunLock(str(tmp_path), "render", "run.2-of-3.lock"):
        refused = [run_job(job, f"output={tmp_path}") for job in ("clean", "rebuild")]
    assert files(tmp_path) == {"videos/a.0123456789ab.mp4"}
    for done in refused:
        assert done.returncode == 2
        assert "run render is using this output" in done.stderr


def test_a_failure_of_another_clip_that_had_the_row_before_is_not_taken(tmp_path):
    output, clip = str(tmp_path / "out"), read_manifest(str(DEMO)).clips[0]
    plan = make_plan([clip], Ledger(output, "run"), {}, Limits(), Selection(), {})
    write_plan(plan, output, {})
    old = {"clip_id": "was here before", "row": clip.row, "status": "failed", "error_code": "timed_out"}
    objects.write_bytes(json.dumps(old).encode(), f"{output}/failed.jsonl")
    call("rebuild", f"output={output}")
    (row,) = pq.read_table(f"{output}/clips.parquet").to_pylist()
    assert (row["clip_id"], row["error_code"]) == (clip.clip_id, "lost")


def test_the_table_comes_out_of_the_ledger_again(output, tmp_path):
    ledger, clips = Ledger(output, "run"), list(read_manifest(str(DEMO)).clips[:4])
    deliver(ledger, clips[:3], {"video.crf": 18}, tmp_path)
    deliver(ledger, clips[:2], {"video.crf": 20}, tmp_path)
    plan = make_plan(clips, ledger, {"video.crf": 20}, Limits(), Selection(), {})
    write_plan(plan, output, {"video.crf": 20})
    failed = {"clip_id": "bad", "row": 9, "status": "rejected", "error_code": "value_missing"}
    late = {"clip_id": clips[2].clip_id, "row": clips[2].row, "status": "failed", "error_code": "timed_out"}
    objects.write_bytes("".join(json.dumps(row) + "\n" for row in (late, failed)).encode(), f"{output}/failed.jsonl")
    call("rebuild", f"output={output}")
    fs, path = objects.filesystem(f"{output}/clips.parquet")
    with fs.open(path) as file:
        rows = pq.read_table(file).to_pylist()
    assert [(row["clip_id"], row["status"], row["error_code"]) for row in rows] == [
        (clips[0].clip_id, "done", None),
        (clips[1].clip_id, "done", None),
        (clips[2].clip_id, "failed", "timed_out"),  # its other version is not what is planned
        (clips[3].clip_id, "failed", "lost"),
        ("bad", "rejected", "value_missing"),
    ]
    planned = {clip.clip_id: clip.fingerprint for clip in plan.clips}
    assert all(row["fingerprint"] == planned[row["clip_id"]] for row in rows[:2])
