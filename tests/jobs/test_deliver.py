"""Handing over: plain names, nothing overwritten unasked, nothing twice, and what is left out is said."""

import csv
import hashlib
import io
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.common.errors import RefusedError
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.done_record import stem_of_video
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import RowSpool, write_table
from pipeline.manifest.reader import read_manifest
from pipeline.run.delivery_names import delivery_names
from pipeline.storage import objects
from pipeline.storage.uris import join
from tests.running import run_job

DEMO = Path(__file__).parents[2] / "jobs" / "demo" / "manifest.jsonl"

VERDICTS = (
    {"qc_status": "pass", "review": "approved", "language": "en", "market": "=UK", "shows": ["a", "b"]},
    {"qc_status": "pass", "language": "fr"},
    {"qc_status": "review", "language": "fr"},
    {"qc_status": "pass", "review": "retake", "language": "en"},
    {"status": "rejected", "error_code": "input_not_found"},
)


@pytest.fixture
def finished(output, tmp_path):
    """An output of five clips: approved, passed, for review, to be taken again, and rejected."""
    ledger, rows = Ledger(output, "run"), []
    first = read_manifest(str(DEMO)).clips[0]
    for number, verdict in enumerate(VERDICTS, start=1):
        clip = replace(first, clip_id=f"clip-{number}", row=number, fingerprint="0123456789ab")
        row = clip_row(clip)
        if verdict.get("status") != "rejected":
            video = tmp_path / "v.mp4"
            data = b"video %d" % number
            video.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            row = ledger.commit(video, clip, row | {"status": "done", "sha256": digest, "bytes": len(data)})
        rows.append(row | verdict)
    write_table(RowSpool(rows), output)
    return output


def deliver(output, to, *more):
    return run_job("deliver", f"output={output}", f"to={to}", *more)


def names(to):
    return {path.relative_to(to).as_posix() for path in Path(to).rglob("*") if path.is_file()}


def listed(to):
    data = objects.read_bytes(join(str(to), "clips.csv")).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(data)))


def test_approved_clips_get_plain_names_with_checksums_and_a_list(finished, tmp_path):
    to = tmp_path / "to"
    done = deliver(finished, to)
    assert done.returncode == 1, done.stderr  # four of the table's five are not delivered
    assert names(to) == {"clip-1.mp4", "SHA256SUMS", "clips.csv"}
    assert (to / "clip-1.mp4").read_bytes() == b"video 1"
    assert "1 delivered" in done.stdout
    assert "2 clips, not approved by a reviewer" in done.stdout
    assert "1 clips, a reviewer has asked for another take" in done.stdout
    assert "1 clips, not rendered (rejected)" in done.stdout
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=to, check=True, stdout=subprocess.DEVNULL)
    [line] = listed(to)
    assert (line["file"], line["clip_id"], line["review"]) == ("clip-1.mp4", "clip-1", "approved")
    assert line["market"] == "'=UK"  # which a spreadsheet would run
    assert line["shows"] == "a; b"
    assert line["sha256"] == hashlib.sha256(b"video 1").hexdigest()


def test_what_is_there_stays_and_the_same_command_goes_on(finished, tmp_path):
    to = tmp_path / "to"
    template = "name={language}/{clip_id}.mp4"
    assert "1 delivered" in deliver(finished, to, template).stdout
    (to / "fr").mkdir()
    (to / "fr" / "clip-2.mp4").write_bytes(b"somebody's")
    done = deliver(finished, to, template, "only=all")
    assert done.returncode == 1
    assert "1 already there" in done.stdout
    assert "1 in the way" in done.stdout
    assert "give replace=true" in done.stdout
    assert (to / "fr" / "clip-2.mp4").read_bytes() == b"somebody's"
    assert [line["file"] for line in listed(to)] == ["en/clip-1.mp4", "fr/clip-3.mp4"]
    done = deliver(finished, to, template, "only=pass", "replace=true")
    assert "1 already there, 1 replaced" in done.stdout
    assert (to / "fr" / "clip-2.mp4").read_bytes() == b"video 2"
    assert [line["file"] for line in listed(to)] == ["en/clip-1.mp4", "fr/clip-2.mp4", "fr/clip-3.mp4"]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=to, check=True, stdout=subprocess.DEVNULL)


def test_a_review_counts_as_soon_as_it_is_written(finished, tmp_path):
    lines = b"clip_id,take,verdict,comment\nclip-2,1,approved,\nclip-1,1,retake,blinks\n"
    objects.write_bytes(lines, f"{finished}/review.csv")
    assert "1 delivered" in deliver(finished, tmp_path / "to").stdout
    assert (tmp_path / "to" / "clip-2.mp4").exists()


def test_a_copy_that_was_changed_is_found_without_the_list(finished, tmp_path):
    to = tmp_path / "to"
    deliver(finished, to)
    (to / "clip-1.mp4").write_bytes(b"VIDEO 1")
    (to / "clips.csv").unlink()
    (to / "SHA256SUMS").unlink()
    assert "1 in the way" in deliver(finished, to).stdout


def test_deliveries_go_to_object_storage(finished, s3, tmp_path):
    to = f"{s3}/deliveries/{tmp_path.name}"
    assert "2 delivered" in deliver(finished, to, "only=pass").stdout
    assert "2 already there" in deliver(finished, to, "only=pass").stdout
    assert objects.read_bytes(f"{to}/clip-2.mp4") == b"video 2"


def test_a_video_that_changed_after_it_was_rendered_is_not_delivered(finished, tmp_path):
    objects.write_bytes(b"VIDEO 1", f"{finished}/videos/clip-1.0123456789ab.mp4")
    done = deliver(finished, tmp_path / "to")
    assert done.returncode == 1
    assert "1 lost" in done.stdout
    assert "gone or has changed" in done.stdout
    assert not (tmp_path / "to").exists()


def test_a_dry_run_writes_nothing(finished, tmp_path):
    done = deliver(finished, tmp_path / "to", "only=all", "--dry-run")
    assert "clip-3 -> " in done.stdout
    assert "would deliver 3 clips" in done.stdout
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{language}.mp4", "clip-2 and clip-3 would both be fr.mp4"),
        ("{nowhere}.mp4", "no column 'nowhere'"),
        ("../{clip_id}.mp4", "not a path below"),
        ("/tmp/{clip_id}.mp4", "not a path below"),
        ("{clip_id}", "does not end in .mp4"),
        ("{clip_id!r}.mp4", "only put in"),
        ("{clip_id.__class__}.mp4", "no column"),
        ("{}.mp4", "empty braces"),
        ("{clip_id.mp4", "not a template"),
        ("{market}/{clip_id}.mp4", "clip-2 has no market; clip-3 has no market"),
        ("{input_notes}{clip_id}.mp4", "no input_notes"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_copied(tmp_path, template, problem):
    rows = [
        {"clip_id": "clip-1", "language": "en", "market": "UK", "input_notes": None},
        {"clip_id": "clip-2", "language": "fr", "market": None, "input_notes": None},
        {"clip_id": "clip-3", "language": "FR", "market": "", "input_notes": None},
    ]
    with pytest.raises(RefusedError, match="name: ") as refused:
        list(delivery_names(template, rows))
    assert problem.replace("fr.mp4", "") in str(refused.value)


def test_values_become_names_that_every_system_can_hold():
    values = ["a/b", "..", "con", "é" * 150, "x\u202ey", " . "]
    rows = [{"clip_id": f"clip {n}", "show": value} for n, value in enumerate(values)]
    made = list(delivery_names("{show}/{row}{clip_id}.mp4", [row | {"row": 7} for row in rows[:5]]))
    assert made[0] == "a_b/7clip 0.mp4"
    assert made[1] == "_/7clip 1.mp4"
    assert made[2] == "_con/7clip 2.mp4"
    assert len(made[3].split("/")[0].encode()) <= 200
    assert made[4] == "x_y/7clip 4.mp4"
    with pytest.raises(RefusedError, match="has no show"):
        list(delivery_names("{show}/{clip_id}.mp4", rows[5:]))


def test_a_file_of_another_container_has_its_own_ending():
    names = ["a.0123456789ab.mp4", "b.0123456789ab-2.mov", "c.0123456789ab.0123456789abcdef.mxf"]
    rows = [{"clip_id": name[0], "uri": f"out/videos/{name}"} for name in names]
    assert list(delivery_names("show/{clip_id}.mp4", rows)) == ["show/a.mp4", "show/b.mov", "show/c.mxf"]
    titled = [row | {"title": title} for row, title in zip(rows, ("Evening", None, None), strict=True)]
    assert list(delivery_names("{title}.mp4", titled)) == ["Evening.mp4", "b.mov", "c.mxf"]  # as the files say
    assert [stem_of_video(name) for name in names] == ["a.0123456789ab", "b.0123456789ab-2", "c.0123456789ab"]
    assert stem_of_video("a.0123456789ab.avi") is None


@pytest.mark.parametrize("name", ["clips.csv", "SHA256SUMS"])
def test_a_folder_with_somebody_elses_list_is_refused(finished, tmp_path, name):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / name).write_text("a,b\n1,2\n")
    done = deliver(finished, tmp_path / "to")
    assert done.returncode == 2
    assert name in done.stderr
    assert names(tmp_path / "to") == {name}


def test_the_output_itself_is_no_place_for_a_delivery(finished):
    done = deliver(finished, f"{finished}/delivered")
    assert done.returncode == 2
    assert "in the output folder" in done.stderr


def test_an_output_without_a_table_or_a_job_without_a_target_is_refused(finished, tmp_path):
    assert run_job("deliver", f"output={finished}").returncode == 2
    objects.remove(f"{finished}/clips.parquet")
    done = deliver(finished, tmp_path / "to")
    assert done.returncode == 2
    assert "jobs.rebuild" in done.stderr
