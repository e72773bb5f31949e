"""A programme is rendered as one: rows go on from one another, over runs that stop too, and a bad row ends no other."""

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.media.settings import parse_fps
from pipeline.media.xmp import read_mark
from tests import media
from tests.running import run_job

LENGTHS = (9_001, 11_111, 7_000, 8_500)
"""Samples of the rows, at 16 kHz: none ends with a frame."""


@dataclass
class Studio:
    """Where programmes are rendered, and what their rows are."""

    folder: Path
    model: Path

    def render(self, output, *arguments):
        job = ("render", f"manifest={self.folder / 'm.jsonl'}", f"model={self.model}", f"output={self.folder / output}")
        settings = ("executor=serial", "render.mode=eager", "qc.enabled=false", "video.fps=29.97")
        done = run_job(*job, *settings, *arguments)
        table = self.folder / output / "clips.parquet"
        assert table.exists(), done.stdout + done.stderr
        return done, {row["clip_id"]: row for row in pq.read_table(table).to_pylist()}

    def give(self, number):
        """Put the sound of a row where the manifest has it."""
        shutil.copy(self.folder / f"sound{number}.wav", self.folder / f"row{number}.wav")


@pytest.fixture(scope="module")
def studio(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("programme")
    samples, rate = media.speech()
    rows, at = [], 0
    for number, length in enumerate(LENGTHS):
        (folder / f"sound{number}.wav").write_bytes(media.wav(samples[:, at : at + length], rate))
        row = {"clip_id": f"c{number}", "image": str(media.PORTRAIT), "audio": f"row{number}.wav"}
        rows.append(row | {"programme": "Night show", "order": number, "emotion": ("happy", "sad")[number % 2]})
        at += length
    rows[0]["timecode"] = "10:00:00;00"
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return Studio(folder, tiny_model.path)


@pytest.fixture(scope="module")
def runs(studio):
    """What the same programme is in an output where row 1 came late, and in one where the run was stopped."""
    for number in (0, 2, 3):
        studio.give(number)
    broken = studio.render("late")
    again = studio.render("late")
    studio.give(1)
    whole = studio.render("late")
    studio.render("stopped", "only=c0,c1")
    for file in (studio.folder / "stopped" / "motion").glob("c1.*"):
        file.unlink()
    resumed = studio.render("stopped")
    return {"broken": broken, "again": again, "whole": whole, "resumed": resumed}


@pytest.mark.slow
def test_rows_have_the_frames_of_their_total_and_the_time_codes_that_follow(runs):
    done, rows = runs["whole"]
    assert done.returncode == 0, done.stdout + done.stderr
    ordered = [rows[f"c{number}"] for number in range(4)]
    total = -int(-sum(LENGTHS) * parse_fps("29.97") // 16_000)
    assert sum(row["frames"] for row in ordered) == total == 67
    starts = np.cumsum([0] + [row["frames"] for row in ordered])[:4].tolist()
    assert [row["programme_frame"] for row in ordered] == starts
    assert [row["timecode"] for row in ordered] == [f"10:00:{n // 30:02};{n % 30:02}" for n in starts]
    for before, row in pairwise(ordered):
        assert row["continues"] == f"{before['clip_id']}.{before['fingerprint']}"
        assert before["timecode_after"] == row["timecode"]
    assert [row["order"] for row in ordered] == [0, 1, 2, 3]
    assert {row["frames_wanted"] for row in ordered} == {None}


@pytest.mark.slow
def test_a_row_after_one_that_failed_begins_anew_and_says_so_and_the_next_one_goes_on(runs):
    done, rows = runs["broken"]
    assert done.returncode == 1
    assert [rows[f"c{number}"]["status"] for number in range(4)] == ["done", "rejected", "done", "done"]
    assert rows["c2"]["input_notes"] == ["programme_broken"]
    assert rows["c2"]["input_messages"] == [
        "the row was begun anew, so that a seam may show at its start: "
        "the row before it, c1, ended with input_not_found"
    ]
    assert (rows["c2"]["continues"], rows["c2"]["programme_frame"], rows["c2"]["timecode"]) == (None, 0, None)
    assert rows["c3"]["continues"] == f"c2.{rows['c2']['fingerprint']}"
    assert rows["c3"]["input_notes"] == []


@pytest.mark.slow
def test_rows_that_began_anew_are_kept_until_the_failed_one_is_there(runs):
    _, before = runs["broken"]
    _, again = runs["again"]
    assert {name: row["committed"] for name, row in again.items()} == {
        name: row["committed"] for name, row in before.items()
    }
    _, whole = runs["whole"]
    assert [name for name in sorted(whole) if whole[name]["committed"] != before[name]["committed"]] == [
        "c1",
        "c2",
        "c3",
    ]
    assert all(row["input_notes"] == [] for row in whole.values())


@pytest.mark.slow
def test_a_run_that_was_stopped_in_the_middle_gives_the_same_files(runs):
    """Of the last row before the stop it is not even known any more how it ended: it is rendered once more."""
    done, resumed = runs["resumed"]
    _, whole = runs["whole"]
    assert done.returncode == 0
    assert "plan: 3 new, 0 changed, 1 done before" in done.stdout
    assert {name: row["sha256"] for name, row in resumed.items()} == {
        name: row["sha256"] for name, row in whole.items()
    }


@pytest.mark.slow
def test_what_is_left_of_old_versions_is_cleaned_and_what_is_continued_is_kept(runs, studio, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(studio.folder / "late", output)
    assert len(list((output / "motion").iterdir())) == 6
    cleaned = run_job("clean", f"output={output}", "versions=true")
    assert cleaned.returncode == 0, cleaned.stderr
    _, rows = runs["whole"]
    began_anew = {"c2", "c3"}
    kept = sorted(file.name for file in (output / "motion").iterdir())
    assert len(kept) >= 4
    assert {f"{name}.{row['fingerprint']}.npz" for name, row in rows.items()} <= set(kept)
    assert {name.split(".")[0] for name in kept} == {"c0", "c1"} | began_anew


@pytest.mark.slow
def test_a_programme_is_joined_without_encoding_its_pictures_again(runs, studio, tmp_path):
    _, rows = runs["whole"]
    job = ("join", f"output={studio.folder / 'late'}", f"to={tmp_path / 'joined'}")
    refused = run_job(*job)
    assert refused.returncode == 1
    assert "Night show was not joined: c3 (not approved by a reviewer), c2" in refused.stdout
    joined = run_job(*job, "only=all")
    assert joined.returncode == 0, joined.stdout + joined.stderr
    file = tmp_path / "joined" / "Night show.mp4"
    assert joined.stdout.splitlines()[0] == f"{file}: 4 clips, 67 frames"
    assert "note" not in joined.stdout
    parts = [media.planes(rows[f"c{number}"]["uri"]) for number in range(4)]
    np.testing.assert_array_equal(media.planes(file), np.concatenate(parts))
    with av.open(str(file)) as found:
        assert found.streams.video[0].metadata["timecode"] == "10:00:00;00"
        sound = found.streams.audio[0]
        assert sound.duration * sound.time_base == pytest.approx(67 * 1001 / 30_000, abs=1e-3)
    assert read_mark(file)["title"] == "Night show"
    again = run_job(*job, "only=all")
    assert again.returncode == 1
    assert "is there already: give replace=true to replace it" in again.stdout
    assert run_job(*job, "only=all", "replace=true", "programme=[Night show]").returncode == 0
    assert run_job(*job, "programme=[Day show]").returncode == 2
