"""`jobs.evaluate` from its arguments to tables, page, videos side by side and exit codes; on disk and on S3.

It runs in the test's own process, without Ray; what is about processes says so.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs
import torch

from jobs.cli.config import help_text
from jobs.evaluate import USAGE, EvaluateJob
from pipeline.evaluation.networks import KINDS
from pipeline.evaluation.systems import REAL
from tests import chromium, media
from tests.running import run_job
from tests.synthetic_videos import SyntheticVideo, speech
from tests.toys import exported

ROOT = Path(__file__).parents[2]
HOSTILE = "late <b onclick=x>"


def run(*arguments):
    return run_job("evaluate", "executor=serial", *arguments)


@pytest.fixture(scope="module")
def video_files(tmp_path_factory):
    """Two real videos, two of one system and one of another, and two files that are no videos of a face."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("films")
    one = speech(2.0)
    other = one[::-1].copy()
    for name, video in {
        "real_a": SyntheticVideo(wave=one),
        "real_b": SyntheticVideo(wave=other),
        "ours_a": SyntheticVideo(wave=one, edit=lambda number, picture: (picture * 0.9).astype(np.uint8)),
        "ours_b": SyntheticVideo(wave=other, edit=lambda number, picture: (picture * 0.9).astype(np.uint8)),
        "grey": SyntheticVideo(wave=one, edit=lambda number, picture: np.full_like(picture, 90)),
        "late_a": SyntheticVideo(wave=one[: 16_000 * 9 // 5]),
    }.items():
        video.write(folder / f"{name}.mp4", speed="ultrafast")
    (folder / "text.mp4").write_bytes(media.TEXT)
    return folder


def table(output, name):
    return pq.read_table(f"{output}/{name}").to_pylist()


@pytest.fixture(scope="module")
def evaluation(video_files, tmp_path_factory):
    """A run with networks on a manifest with bad rows."""
    folder = tmp_path_factory.mktemp("evaluation")
    networks = {}
    for kind in KINDS[:4]:  # without a network of head pose, and without SyncNet
        networks[kind.key] = folder / f"{kind.key}.pt2"
        networks[kind.key].write_bytes(exported(kind.shapes[0], constant=kind.key == "identity_model"))
    (folder / "pairs.csv").write_text(
        "reference,generated,system,language\n"
        f"{video_files}/real_a.mp4,{video_files}/ours_a.mp4,ours,en\n"
        f"{video_files}/real_b.mp4,{video_files}/ours_b.mp4,ours,de\n"
        f"{video_files}/real_a.mp4,{video_files}/late_a.mp4,{HOSTILE},en\n"
        f"{video_files}/real_b.mp4,{video_files}/none.mp4,{HOSTILE},de\n"
        f"{video_files}/text.mp4,{video_files}/ours_b.mp4,nothing,\n"
        f"{video_files}/real_a.mp4,,{HOSTILE},en\n"
    )
    arguments = (f"manifest={folder}/pairs.csv", f"output={folder}/out", "comparison_side=128")
    arguments += tuple(f"{key}={place}" for key, place in networks.items())
    return folder / "out", arguments, run(*arguments)


@pytest.mark.slow
def test_bad_rows_are_reported_and_the_others_are_scored(evaluation):
    output, _, done = evaluation
    assert done.returncode == 1, done.stderr
    rows = {row["row"]: row for row in table(output, "pairs.parquet")}
    assert [rows[i]["status"] for i in range(1, 7)] == ["done"] * 3 + ["rejected"] * 3
    assert [rows[i]["error_code"] for i in (4, 5, 6)] == ["input_not_found", "video_unreadable", "value_missing"]
    assert rows[4]["error_message"].startswith("generated: ")
    assert rows[5]["error_message"].startswith("reference: ")
    assert "row 6 (line 7), column generated" in rows[6]["error_message"]
    assert rows[2]["language"] == "de"
    assert 15 < rows[1]["psnr"] < 40
    assert rows[1]["lse_d"] is None
    assert "lse_d: syncnet= was not given" in rows[1]["notes"]
    hashes = json.loads(rows[1]["networks"])
    assert sorted(hashes) == ["dlib_distance", "expression", "i3d", "identity_model", "inception"]
    assert rows[1]["dlib_distance"] < 0.3  # the same person
    assert all(mark in done.stdout for mark in hashes.values())
    assert "rejected  row 4  input_not_found" in done.stdout


@pytest.mark.slow
def test_systems_have_means_distances_floors_and_reasons(evaluation):
    output, _, done = evaluation
    found = {(row["system"], row["figure"]): row for row in table(output, "systems.parquet")}
    assert {system for system, _ in found} == {"ours", HOSTILE, "nothing", REAL}
    ours = found["ours", "psnr"]
    assert ours["low"] <= ours["value"] <= ours["high"]
    assert (ours["count"], ours["unit"]) == (2, "dB")
    fid = found["ours", "fid"]
    assert (fid["count"], fid["reference_count"], fid["dimension"]) == (100, 100, 3)
    assert fid["value"] > fid["floor"]  # darker than the real ones are from one another
    assert fid["floor_counts"] == [50, 50]
    assert found["ours", "fvd"]["value"] is not None
    assert found[HOSTILE, "fid"]["floor"] is None
    assert "no floor" in found[HOSTILE, "fid"]["note"]
    assert found["nothing", "fid"]["note"] == "no pair of this system could be measured"
    assert (found["ours", "p_fid"]["value"], found["ours", "p_fid"]["note"]) == (None, "pose_model= was not given")
    assert found["ours", "pose_distance_landmarks"]["value"] is not None
    assert found[REAL, "face_share"]["value"] == 1
    assert "pose_model= was not given" in done.stdout


@pytest.mark.slow
def test_a_video_in_which_no_face_is_found_is_scored_by_what_needs_none(video_files, tmp_path):
    pair = f"{video_files}/real_a.mp4,{video_files}/grey.mp4,ours"
    (tmp_path / "pairs.csv").write_text(f"reference,generated,system\n{pair}\n")
    done = run(f"manifest={tmp_path}/pairs.csv", f"output={tmp_path}/out", "comparison_side=64")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = table(tmp_path / "out", "pairs.parquet")
    assert (row["status"], row["error_code"], row["face_share"], row["reference_face_share"]) == ("done", None, 0, 1)
    assert (row["frames"], row["duration_mismatch_s"], row["lmd"]) == (50, 0, None)
    assert row["psnr"] > 5
    assert "lmd: face_not_found: no frame of the generated video shows a face" in row["notes"]
    assert "pause_motion: face_not_found: none of its 50 frames shows a face" in row["notes"]
    assert "face_not_found" in (tmp_path / "out" / "evaluation.html").read_text()


@pytest.mark.slow
def test_side_by_side_videos_play(evaluation):
    output, _, _ = evaluation
    assert sorted(path.name for path in (output / "comparison").iterdir()) == ["real_a.mp4", "real_b.mp4"]
    assert media.pictures(output / "comparison" / "real_a.mp4").shape == (45, 156, 3 * 128, 3)  # cut to late_a
    assert media.pictures(output / "comparison" / "real_b.mp4").shape == (50, 156, 2 * 128, 3)


@pytest.mark.slow
@pytest.mark.skipif(chromium.NAME is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_shows_all_of_it_and_runs_nothing_of_a_manifest(evaluation):
    output, _, _ = evaluation
    with chromium.Browser() as browser:
        browser.resize(1280, 1000)
        browser.open(f"file://{output}/evaluation.html")
        text = browser.run("document.body.innerText")
        assert browser.errors == []
        assert browser.run("document.querySelectorAll('b, script').length") == 0
        assert "3 of 6 pairs were measured, 3 rejected" in text
        assert "Published by the authors, on other data: neither our measurements nor directly comparable" in text
        assert "119.430" in text
        assert "different real videos" in text
        assert "syncnet= was not given" in text
        heads = browser.run(
            "[...document.querySelector('table[aria-label=Systems]').querySelectorAll('thead th')].map(t=>t.innerText)"
        )
        assert "too few real videos to decide" in text  # two systems have one real video in common
        assert "None is marked" in text
        pictures = browser.run("[...document.querySelectorAll('figure img')].map(e => [e.alt, e.naturalWidth])")
        assert pictures
        assert all(alt.startswith("Row ") and width == 6 * 128 for alt, width in pictures)
        assert heads == ["Metric", HOSTILE, "nothing", "ours", "real videos, floors"]
        browser.run("document.querySelector('video').load()")
        browser.wait("document.querySelector('video').readyState >= 1")
        assert browser.run("document.querySelector('video').videoWidth") == 3 * 128
        browser.resize(390, 800, scheme="dark", phone=True)
        assert browser.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_a_second_run_measures_nothing_again(evaluation):
    output, arguments, _ = evaluation
    kept = {path: path.stat().st_mtime_ns for path in (output / "done").iterdir()}
    rows = table(output, "pairs.parquet")
    again = run(*arguments, "comparisons=0")
    assert again.returncode == 1, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (output / "done").iterdir()} == kept
    assert table(output, "pairs.parquet") == rows


@pytest.mark.slow
def test_manifest_videos_and_output_in_object_storage(video_files, s3, tmp_path):
    storage, folder = s3fs.S3FileSystem(), f"{s3}/evaluation-{tmp_path.name}"
    for name in ("real_a", "ours_a"):
        storage.put_file(str(video_files / f"{name}.mp4"), f"{folder}/{name}.mp4")
    line = {"reference": "real_a.mp4", "generated": f"{folder}/ours_a.mp4", "system": "ours"}
    storage.pipe_file(f"{folder}/pairs.jsonl", json.dumps(line).encode())
    done = run(f"manifest={folder}/pairs.jsonl", f"output={folder}/out", "comparison_side=64")
    assert done.returncode == 0, done.stderr
    with storage.open(f"{folder}/out/pairs.parquet") as file:
        (row,) = pq.read_table(file).to_pylist()
    assert (row["status"], row["frames_compared"]) == ("done", 50)
    assert row["reference"] == f"{folder}/real_a.mp4"
    assert b"<h1>Evaluation</h1>" in storage.cat_file(f"{folder}/out/evaluation.html")
    local = tmp_path / "film.mp4"
    storage.get_file(f"{folder}/out/comparison/real_a.mp4", str(local))
    assert media.pictures(local).shape == (50, 92, 128, 3)
    assert not storage.exists(f"{folder}/out/evaluate.lock")


@pytest.mark.slow
def test_a_run_that_is_stopped_says_130(video_files, tmp_path):
    generated = tmp_path / "ours_a.mp4"
    generated.write_bytes((video_files / "ours_a.mp4").read_bytes())
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(f"reference,generated,system\n{video_files}/real_a.mp4,gate://{generated},ours\n")
    arguments = [f"manifest={manifest}", f"output={tmp_path}/out", "executor=serial"]
    arguments += ["limits.allowed_schemes=[file,s3,gate]"]
    command = [sys.executable, "-m", "jobs.evaluate", *arguments]
    gates = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'poison'}:{ROOT}"}
    job = subprocess.Popen(command, env=gates, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out" / "done").glob("*.json")) and job.poll() is None:
        time.sleep(0.1)
    job.terminate()
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 130, errors
    assert "interrupted; measurements that are finished are kept" in errors
    assert len(list((tmp_path / "out" / "done").glob("*.json"))) == 1
    assert not (tmp_path / "out" / "evaluate.lock").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "manifest: give a table of pairs"),
        (["manifest=none.csv"], "does not exist"),
        (["manifest={folder}/columns.csv"], "no column system"),
        (
            ["manifest={folder}/pairs.csv", "inception={folder}/columns.csv"],
            "inception: the file was not written",
        ),
        (["manifest={folder}/pairs.csv", "syncnet=none"], "none does not exist"),
        (["manifest={folder}/pairs.csv", "comparison_side=101"], "comparison_side: 101 is not a multiple of 4"),
        (["manifest={folder}/pairs.csv", "incepton=x"], "did you mean inception?"),
    ],
)
def test_what_is_wrong_from_the_start_is_refused(tmp_path, arguments, words):
    (tmp_path / "columns.csv").write_text("reference,generated\na,b\n")
    (tmp_path / "pairs.csv").write_text("reference,generated,system\na,b,c\n")
    done = run(f"output={tmp_path}/out", *(argument.format(folder=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_says_what_each_network_gets():
    text = help_text(EvaluateJob, USAGE)
    for kind in KINDS:
        assert kind.text in text
    assert "130 interrupted" in text
    assert EvaluateJob().comparisons == 4
