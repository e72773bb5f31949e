"""Work units and the reconciliation of plan and results."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.manifest import read_manifest
from pipeline.plan import estimate_seconds, make_units, reconcile
from pipeline.settings import Limits
from pipeline.status import clip_row

DEMO = Path(__file__).parents[2] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clips():
    return read_manifest(str(DEMO)).clips


@pytest.mark.parametrize("unit_seconds", [0.1, 7.0, 10.0, 1000.0])
def test_every_clip_is_in_one_unit_longest_first(clips, unit_seconds):
    seconds = [4.0, 3.0, 7.0, 7.5, 7.2, 6.5]
    units = make_units(clips, seconds, unit_seconds)
    by_id = dict(zip((clip.clip_id for clip in clips), seconds, strict=True))
    lengths = [[by_id[clip.clip_id] for clip in unit.items] for unit in units]
    assert [length for unit in lengths for length in unit] == sorted(seconds, reverse=True)
    assert all(len(unit) == 1 or sum(unit) <= unit_seconds for unit in lengths)


def test_no_clips_are_no_units():
    assert make_units([], [], 10.0) == []


def test_lengths_are_guessed_from_files_and_a_missing_one_does_not_matter(clips, tmp_path):
    missing = replace(clips[0], audio=str(tmp_path / "none.wav"))
    forbidden = replace(clips[0], audio="http://127.0.0.1:1/a.wav")
    guessed = estimate_seconds([clips[0], clips[3], missing, forbidden], Limits())
    assert 0 < guessed[0] < guessed[1]
    assert guessed[2:] == [0, 0]


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
