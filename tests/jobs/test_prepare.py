"""`jobs.prepare` from its arguments to its output, its exit code and the files it leaves.

It runs in the test's own process, without Ray; what is about processes says so.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import s3fs
from PIL import Image

from pipeline.training_data.shards import Shards
from tests import media, reels, synthetic_videos
from tests.running import run_job

ROOT = Path(__file__).parents[2]
SMALL = [f"clips.{name}={value}" for name, value in reels.SMALL.items()]


def run(*arguments, **options):
    return run_job("prepare", "executor=serial", *arguments, **options)


def samples(output):
    return pq.read_table(output / "samples.parquet").to_pylist()


def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of good and bad videos of five speakers."""
    folder = tmp_path_factory.mktemp("source") / "videos"
    wave = synthetic_videos.speech(3.0)
    pictures = list(reels.speaker(wave))
    other = [reels.placed(p, 60, 16, 200, reels.canvas(256, 384)) for p in pictures]
    reels.write(folder / "anna/one.mp4", pictures, wave)
    shutil.copy(folder / "anna/one.mp4", folder / "anna/again.mp4")
    reels.write(folder / "ben/30.mov", pictures + other, synthetic_videos.speech(5.0), fps=30)
    reels.write(folder / "cleo/mute.mp4", pictures)
    reels.write(folder / "cleo/empty room.mp4", [reels.canvas(128, 192)] * 75, wave)
    reels.write(folder / "dora.mkv.mp4", pictures, 0 * wave)
    (folder / "emil").mkdir()
    (folder / "emil/text.mp4").write_bytes(media.TEXT)
    (folder / "emil/nothing.mp4").write_bytes(b"")
    (folder / "emil/notes.txt").write_text("no video")
    return folder


GOOD = ("anna/one.mp4", "anna/again.mp4", "ben/30.mov")


@pytest.mark.slow
def test_every_video_is_accounted_for_and_shown(videos, tmp_path):
    output = tmp_path / "out put"
    done = run(f"source={videos}", f"output={output}", *SMALL)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {}
    for row in samples(output):
        found.setdefault(row["source"].removeprefix(f"{videos}/"), []).append(row["reason"] or "accepted")
    assert found == {
        "anna/one.mp4": ["accepted"],
        "anna/again.mp4": ["accepted"],
        "ben/30.mov": ["accepted", "accepted"],
        "cleo/mute.mp4": ["no_audio"],
        "cleo/empty room.mp4": ["no_face"],
        "dora.mkv.mp4": ["silent"],
        "emil/text.mp4": ["unreadable"],
        "emil/nothing.mp4": ["input_empty"],
    }
    assert {row["speaker"] for row in samples(output)} == {"anna", "ben", "cleo", "dora.mkv", "emil"}
    shards = Shards(str(output / "clips"))
    assert len(shards) == 4
    assert {row["clip_id"] for row in shards.rows} == {r["clip_id"] for r in samples(output) if not r["reason"]}
    told = summary(output)
    assert (told["exit_code"], told["accepted"], told["dropped"], told["videos_failed"]) == (1, 4, 5, 2)
    assert told["reasons"] == dict.fromkeys(("no_audio", "no_face", "silent", "unreadable", "input_empty"), 1)
    assert sum(split["samples"] for split in told["splits"].values()) == 4
    with Image.open(output / "samples.jpg") as sheet:
        sheet.load()
        assert sheet.width > 8 * 128
        assert len(sheet.getcolors(2**24)) > 1000  # pictures, not grey tiles alone
    page = (output / "report.html").read_text()
    assert all(code in page for code in told["reasons"])
    assert "data:image/jpeg;base64," in page
    for text in ("unreadable", "input_empty", "accepted  4 samples", "jobs.train stage=autoencoder", "report.html"):
        assert text in done.stdout, done.stdout
    assert not list(output.rglob("*.part"))
    assert not list(output.glob("*.lock"))
    assert not list((output / "attempts").glob("*"))


@pytest.mark.slow
def test_a_second_run_prepares_what_is_new_or_changed_and_nothing_else(videos, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "out"
    for name in GOOD[:2]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(videos / name, source / name)
    arguments = (f"source={source}", f"output={output}", *SMALL)
    assert run(*arguments).returncode == 0
    first = samples(output)
    written = {path.name: path.stat().st_mtime_ns for path in (output / "clips").iterdir()}

    (source / "ben").mkdir()
    shutil.copy(videos / GOOD[2], source / GOOD[2])
    more = run(*arguments)
    assert "plan: 1 new, 0 changed, 2 done before" in more.stdout
    assert [row for row in samples(output) if row["speaker"] == "anna"] == first
    now = {path.name: path.stat().st_mtime_ns for path in (output / "clips").iterdir()}
    assert {name: now[name] for name in written} == written

    shutil.rmtree(source / "anna")
    changed = run(*arguments, "clips.min_face=400")
    assert changed.returncode == 0, changed.stderr
    assert "plan: 0 new, 1 changed, 0 done before" in changed.stdout
    assert "samples of 2 videos that are not in this source are kept" in changed.stdout
    assert {row["reason"] for row in samples(output) if row["speaker"] == "ben"} == {"face_too_small"}
    assert [row for row in samples(output) if row["speaker"] == "anna"] == first
    assert {row["speaker"] for row in Shards(str(output / "clips")).rows} == {"anna"}


@pytest.mark.slow
def test_both_stages_on_object_storage_from_a_table(videos, s3, tiny_model):
    fs, base = s3fs.S3FileSystem(), f"{s3}/prepare"
    for name in GOOD:
        fs.put_file(str(videos / name), f"{base}/in/{name}")
    lines = [f"{name},{speaker},en,happy" for name, speaker in zip(GOOD, ("A", "A", "B"), strict=True)]
    fs.pipe_file(f"{base}/in/videos.csv", "\n".join(["video,speaker,language,emotion", *lines]).encode())
    done = run(f"source={base}/in/videos.csv", f"output={base}/out", *SMALL, "clips.size=32")
    assert done.returncode == 0, done.stderr
    latents = (f"output={base}/out", "stage=latents", f"model={tiny_model.path}")
    encoded = run(*latents)
    assert encoded.returncode == 0, encoded.stderr
    assert "UNTRAINED" in encoded.stdout
    clips, motion = Shards(f"{base}/out/clips"), Shards(f"{base}/out/latents")
    assert len(clips) == 4
    assert clips.rows == motion.rows
    assert {(row["speaker"], row["language"], row["emotion"]) for row in clips.rows} == {
        ("A", "en", "happy"),
        ("B", "en", "happy"),
    }
    assert motion.read(0, "motion")["motion"].shape == (motion.rows[0]["frames"], 16)
    assert motion.metadata["model_hash"] == tiny_model.hash
    again = run(*latents)
    assert again.returncode == 0, again.stderr
    assert "plan: 0 shards to encode, 3 done before" in again.stdout


@pytest.mark.slow
def test_a_video_that_kills_its_worker_is_left_out_and_the_others_are_prepared(videos, tmp_path, local_ray):
    rows = [{"video": "poison://film.mp4"}, *({"video": str(videos / name)} for name in GOOD[:2])]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = (f"source={tmp_path / 't.jsonl'}", f"output={tmp_path / 'out'}", *SMALL)
    arguments += ("limits.allowed_schemes=[file,s3,poison]", "workers.workers=1", "workers.unit_megabytes=100")
    done = run_job("prepare", "executor=ray", *arguments)
    assert done.returncode == 1, done.stderr
    assert sorted(row["reason"] for row in samples(tmp_path / "out")) == ["", "", "worker_died"]
    again = run(*arguments)
    assert "3 done before" in again.stdout
    assert again.returncode == 1
    assert "worker_died" in again.stdout


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_with_130_and_the_next_one_resumes(videos, tmp_path):
    output, last = tmp_path / "out", tmp_path / "last.mp4"
    shutil.copy(videos / GOOD[0], last)
    rows = [{"video": str(videos / name)} for name in GOOD[:2]] + [{"video": f"gate://{last}"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [f"source={tmp_path / 't.jsonl'}", f"output={output}", *SMALL, "executor=serial"]
    arguments += ["limits.allowed_schemes=[file,s3,gate]", "workers.unit_megabytes=0.01"]
    command = [sys.executable, "-m", "jobs.prepare", *arguments]
    gates = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'poison'}:{ROOT}"}
    job = subprocess.Popen(command, env=gates, stderr=subprocess.PIPE, text=True)
    while len(list((output / "done").glob("*.json"))) < 2 and job.poll() is None:
        time.sleep(0.1)
    job.terminate()
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 130, errors
    assert sorted(row["reason"] for row in samples(output)) == ["", "", "interrupted"]
    assert summary(output)["state"] == "interrupted"
    assert not list(output.glob("*.lock"))
    (tmp_path / "last.mp4.open").touch()
    second = run(*arguments)
    assert second.returncode == 0, second.stderr
    assert "2 done before" in second.stdout
    assert [row["reason"] for row in samples(output)] == [""] * 3


def test_what_cannot_be_is_refused_with_2_before_anything_starts(tmp_path):
    output = f"output={tmp_path / 'out'}"
    (tmp_path / "t.csv").write_text("video,emotion\na.mp4,joyful\n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(media.TEXT)
    source = f"source={tmp_path / 'videos'}"
    for arguments, message in (
        ([output], "source: stage=clips needs a value"),
        ([source], "output: stage=clips needs a value"),
        (["stage=latents", output], "model: stage=latents needs a value"),
        ([f"source={tmp_path / 'nowhere'}", output], "does not exist"),
        ([f"source={tmp_path / 't.csv'}", output], "row 1 (line 2), column emotion: 'joyful' is not one of"),
        ([source, output, "clip.size=64"], "did you mean clips.size?"),
        ([source, output, "clips.size=66"], "clips.size: 66 is not a multiple of 4"),
        ([source, output, "clips.syncnet=/no/file"], "clips.syncnet: /no/file does not exist"),
        (["stage=latents", output, "model=/no/model"], f"output: {tmp_path / 'out'} does not exist"),
        (["stage=latents", f"output={tmp_path}", "model=/no/model"], "/no/model is not a model folder"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_latents_of_an_output_without_samples_are_refused(tiny_model, tmp_path):
    done = run("stage=latents", f"output={tmp_path}", f"model={tiny_model.path}")
    assert done.returncode == 2
    assert "run stage=clips first" in done.stderr


def test_help_names_every_setting():
    done = run_job("prepare", "--help")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for text in (
        "clips.min_seconds",
        "split.validation",
        "workers.num_gpus",
        "the file's name without its suffix",
        "130",
    ):
        assert text in said
