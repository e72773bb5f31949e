"""Work units and the reconciliation of plan and results."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.cluster.work_units import Units
from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.media.slot import AT_MOST, Slot
from pipeline.run.lengths import estimate_seconds
from pipeline.run.plan import make_plan, reconcile, write_plan
from pipeline.run.plan_rows import Identifier
from pipeline.run.selection import Earlier, Selection, SelectionError

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clips():
    return list(read_manifest(str(DEMO)).clips)


@pytest.mark.parametrize("unit_seconds", [0.1, 7.0, 10.0, 1000.0])
def test_every_clip_is_in_one_unit_longest_first(clips, unit_seconds):
    seconds = [4.0, 3.0, 7.0, 7.5, 7.2, 6.5]
    units = Units(clips, seconds, unit_seconds)
    by_id = dict(zip((clip.clip_id for clip in clips), seconds, strict=True))
    lengths = [[by_id[clip.clip_id] for clip in unit.items] for unit in units]
    assert [length for unit in lengths for length in unit] == sorted(seconds, reverse=True)
    assert all(len(unit) == 1 or sum(unit) <= unit_seconds for unit in lengths)


def test_a_unit_has_as_many_clips_as_a_worker_renders_together(clips):
    units = Units(clips, [30.0] * 6, 60.0, least=4)
    assert [len(unit.items) for unit in units] == [4, 2]
    assert [len(unit.items) for unit in Units(clips, [30.0] * 6, 60.0)] == [2, 2, 2]


def test_units_keep_their_length_however_many_clips_there_are():
    units = Units(range(100_000), [30.0] * 100_000, 60.0)
    assert len(units) == 50_000
    assert len(units[0].items) == 2


def test_no_clips_are_no_units():
    assert len(Units([], [], 10.0)) == 0


def test_lengths_are_guessed_from_files_and_a_missing_one_does_not_matter(clips, tmp_path):
    missing = replace(clips[0], audio=str(tmp_path / "none.wav"))
    forbidden = replace(clips[0], audio="http://127.0.0.1:1/a.wav")
    guessed = estimate_seconds([clips[0], clips[3], missing, forbidden], Limits())
    assert 0 < guessed[0] < guessed[1]
    assert guessed[2:] == [0, 0]


def test_a_clip_with_a_slot_is_as_long_as_that_whatever_its_file(clips):
    asked = estimate_seconds([clips[0]], Limits())[0]
    slots = [Slot(750, Fraction(25), "pad"), Slot(1, Fraction(25), "trim"), Slot(100_000, Fraction(25), AT_MOST)]
    guessed = estimate_seconds([replace(clips[0], slot=slot) for slot in slots], Limits())
    assert guessed == [30.0, 0.04, asked]
    identities = (Identifier(Limits(), {})(replace(clips[0], slot=slot)) for slot in slots)
    assert [identity.seconds for identity in identities] == guessed


def test_planned_clips_without_a_row_get_one(clips):
    rows = [clip_row(clip) | {"status": "done"} for clip in clips[:4]]
    added = list(reconcile(clips, {row["row"] for row in rows}))
    assert [(row["clip_id"], row["status"], row["error_code"]) for row in added] == [
        (clip.clip_id, "failed", "lost") for clip in clips[4:]
    ]
    assert list(reconcile(clips, {clip.row for clip in clips})) == []
    assert [row["error_code"] for row in reconcile(clips[:1], (), "interrupted")] == ["interrupted"]


def test_a_lost_clip_is_missed_although_a_rejected_row_has_its_clip_id(clips):
    assert [row["row"] for row in reconcile(clips[:1], {99})] == [clips[0].row]


def taken(selection, clips, statuses=None):
    return [clip for _, clip in selection.of(clips, statuses or {})]


def test_shards_together_are_the_whole_and_share_nothing(clips):
    parts = [taken(Selection(shard=f"{i}/3"), clips) for i in (1, 2, 3)]
    assert sorted(clip.clip_id for part in parts for clip in part) == sorted(clip.clip_id for clip in clips)
    assert Selection(shard="2/3").name("clips.parquet") == "clips.2-of-3.parquet"
    assert Selection().name("clips.parquet") == "clips.parquet"


@pytest.mark.parametrize("shard", ["0/3", "4/3", "2", "a/b", "1/0", "-1/2"])
def test_a_shard_that_cannot_be_is_refused(clips, shard):
    with pytest.raises(SelectionError, match="is not i/n"):
        taken(Selection(shard=shard), clips)


def test_only_takes_clips_by_what_became_of_them_or_by_name(clips):
    ended = ("failed", "quarantined", "done", "rejected")
    statuses = {clip.clip_id: Earlier(status) for clip, status in zip(clips, ended, strict=False)}
    assert taken(Selection("failed"), clips, statuses) == [clips[0], clips[3]]
    assert taken(Selection("quarantined"), clips, statuses) == [clips[1]]
    assert taken(Selection("rejected"), clips, statuses) == [clips[3]]
    assert taken(Selection(f"{clips[3].clip_id}, {clips[4].clip_id}"), clips) == clips[3:5]
    with pytest.raises(SelectionError, match="no clip 'nobody'"):
        taken(Selection("nobody"), clips)


def test_a_rejected_clip_is_tried_with_the_failed_ones_once_something_has_changed(clips, tmp_path):
    ledger, job = Ledger(str(tmp_path), "run"), {"video.crf": 18}
    mark = make_plan(clips[:1], ledger, job, Limits(), Selection(), {}).todo[0].fingerprint
    statuses = {clips[0].clip_id: Earlier("rejected", mark), clips[1].clip_id: Earlier("rejected")}
    plan = make_plan(clips, ledger, job, Limits(), Selection("failed"), statuses)
    assert [clip.clip_id for clip in plan.todo] == [clips[1].clip_id]  # its row itself was refused, and now is not
    assert "1 rejected before and not changed since" in plan.describe()
    changed = [replace(clips[0], emotion={"happy": 1.0})]
    assert len(make_plan(changed, ledger, job, Limits(), Selection("failed"), statuses).todo) == 1
    assert len(make_plan(clips, ledger, job, Limits(), Selection("rejected"), statuses).todo) == 2


def test_a_clip_is_new_changed_or_done(clips, tmp_path):
    ledger, job = Ledger(str(tmp_path), "run"), {"video.crf": 18}
    plan = make_plan(clips, ledger, job, Limits(), Selection(), {})
    assert (len(plan.todo), plan.changed_clips) == (len(clips), 0)
    write_plan(plan, str(tmp_path), job)
    video = tmp_path / "v.mp4"
    video.write_bytes(b"v")
    for clip in plan.todo:
        ledger.commit(video, clip, {"status": "done"})
    again = make_plan(clips, ledger, job, Limits(), Selection(), {})
    assert (len(again.todo), len(again.done)) == (0, len(clips))
    happier = [replace(clips[0], emotion={"happy": 1.0}), *clips[1:]]
    plan = make_plan(happier, ledger, job, Limits(), Selection(), {})
    assert [clip.clip_id for clip in plan.todo] == [clips[0].clip_id]
    assert plan.changed == {"emotion": 1}
    plan = make_plan(clips, ledger, {"video.crf": 20}, Limits(), Selection(limit=4), {})
    assert (len(plan.todo), plan.left, plan.changed) == (4, 2, {"video.crf": 4})


def test_columns_that_change_no_image_change_no_fingerprint(clips, tmp_path):
    other = replace(clips[0], row=99, language="xx", speaker="s", tags=["t"], extra={"note": 1})
    marks = {
        make_plan([clip], Ledger(str(tmp_path)), {}, Limits(), Selection(), {}).todo[0].fingerprint
        for clip in (clips[0], other)
    }
    assert len(marks) == 1


def test_in_object_storage_what_is_done_is_compared_by_two_listings_and_the_table(s3, tmp_path):
    from jobs.bench.requests import RequestLog
    from pipeline.ledger.clip_row import clip_row
    from pipeline.ledger.table import RowSpool, write_table
    from pipeline.storage import objects

    output = f"{s3}/plan-{tmp_path.name}"
    ledger, clips = Ledger(output, "run"), read_manifest(str(DEMO)).clips[:3]
    plan = make_plan(clips, ledger, {}, Limits(), Selection(), {})
    (tmp_path / "v.mp4").write_bytes(b"video")
    rows = [ledger.commit(tmp_path / "v.mp4", c, clip_row(c) | {"status": "done", "bytes": 5}) for c in plan.todo]
    write_table(RowSpool(rows), output)
    with RequestLog() as log:
        plan = make_plan(clips, ledger, {}, Limits(), Selection(), {})
    assert (len(plan.todo), len(plan.done)) == (0, 3)
    assert not [request for request in log.requests if request.kind == "GET" and "/done/" in request.key]
    objects.write_bytes(b"vid", rows[0]["uri"])
    objects.remove(rows[1]["uri"])
    objects.write_bytes(b"", ledger.done_uri(rows[2]["clip_id"], rows[2]["fingerprint"]))
    plan = make_plan(clips, ledger, {}, Limits(), Selection(), {})
    assert [len(plan.todo), len(plan.done)] == [3, 0]  # the third one's row has no hash with which it could be restored
    said = [str(finding) for finding in plan.before.findings]
    assert f"{rows[0]['uri']} has 3 bytes instead of 5: the clip {rows[0]['clip_id']} is rendered again" in said
    assert any("is missing" in text for text in said)
    assert any("is damaged (it is empty)" in text for text in said)
