"""Every job with an output folder: what it refuses, what it leaves alone, and what a second Ctrl-C does not break."""

import importlib
import json
import os
import shutil
import signal

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from jobs import submit
from pipeline.common import interruptions
from pipeline.storage.run_lock import RunLock
from tests.messages import faults
from tests.running import process_as_it_was, run_job

NEEDS = ("prepare latents", "report", "rebuild", "clean", "clean --dry-run", "status")
"""Jobs that read an output folder which another one has written."""

FOREIGN = {
    "render": ("clips.parquet", "takes.parquet", "plan.parquet", "failed.jsonl", "summary.json", "report.html"),
    "prepare": ("samples.parquet", "summary.json", "splits.json", "report.html", "samples.jpg"),
    "prepare latents": ("latents.json",),
    "evaluate": ("pairs.parquet", "systems.parquet", "evaluation.html"),
    "train": ("summary.json", "curves.parquet", "curves.html", "model/config.json", "model/notes.txt"),
    "convert": ("config.json", "model.safetensors", "content_encoder/config.json"),
}
"""Files that each job replaces, written by somebody else."""

FOLDERS = {
    "render": ("videos", "done", "qc", "attempts"),
    "prepare": ("clips", "done", "tiles", "latents", "done-latents", "attempts"),
    "evaluate": ("done", "comparison"),
    "train": ("checkpoints", "tensorboard", "sheets", "start", "model"),
    "convert": ("content_encoder", "emotion_encoder"),
}


@pytest.fixture
def given(tmp_path, tiny_model):
    """A job, `stage=` left out -> the arguments with which it would begin, in a folder with its inputs."""
    inputs = tmp_path / "inputs"
    (inputs / "videos").mkdir(parents=True)
    (inputs / "videos" / "film.mp4").write_bytes(b"no film")
    (inputs / "pairs.csv").write_text("reference,generated,system\na.mp4,b.mp4,ours\n")
    (inputs / "float.pth").write_bytes(b"no weights")
    (inputs / "data" / "clips").mkdir(parents=True)
    return {
        "render": [f"model={tiny_model.path}", "executor=serial"],
        "prepare": [f"source={inputs / 'videos'}", "executor=serial"],
        "prepare latents": ["stage=latents", f"model={tiny_model.path}", "executor=serial"],
        "evaluate": [f"manifest={inputs / 'pairs.csv'}", "executor=serial"],
        "train": [
            *("stage=autoencoder", f"data={inputs / 'data'}", f"model={tiny_model.path}", "optimiser.steps=1"),
            "executor=serial",
        ],
        "convert": [f"float={inputs / 'float.pth'}"],
        "report": [],
        "rebuild": [],
        "clean": [],
        "clean --dry-run": ["--dry-run"],
        "status": [],
    }


JOBS = (*FOREIGN, *NEEDS[1:])


def refused(job, arguments, output):
    """The message with which a job refuses its output."""
    done = run_job(job.split()[0], *arguments, f"output={output}")
    assert done.returncode == 2, done.stdout + done.stderr
    message = done.stderr.strip().removeprefix("error: ")
    assert list(faults(message)) == [], message
    return message


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("below", ["", "/run/1"])
def test_an_output_that_is_a_file_or_lies_in_one_is_refused(job, below, given, tmp_path):
    (tmp_path / "out").write_text("a letter")
    before = contents(tmp_path)
    message = refused(job, given[job], f"{tmp_path / 'out'}{below}")
    assert message.startswith("output: ")
    assert f"{tmp_path / 'out'} is a file, not a folder" in message
    assert contents(tmp_path) == before


@pytest.mark.parametrize("job", NEEDS)
def test_an_output_that_must_exist_is_not_created(job, given, tmp_path):
    before = contents(tmp_path)
    message = refused(job, given[job], tmp_path / "nope" / "run")
    assert message.startswith("output: ")
    assert "does not exist" in message
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("job", "name"), [(job, name) for job, names in FOREIGN.items() for name in names])
def test_a_file_of_somebody_else_is_not_replaced(job, name, given, tmp_path):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"somebody": "else"}')
    before = contents(tmp_path)
    message = refused(job, given[job], tmp_path / "out")
    assert (
        f"output: {tmp_path / 'out'} contains {name.partition('/')[0]}, which no earlier run of this job wrote"
        in message
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("job", "name"), [(job, name) for job, names in FOLDERS.items() for name in names])
def test_a_file_in_the_place_of_a_folder_is_refused(job, name, given, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("a letter")
    before = contents(tmp_path)
    assert f"{tmp_path / 'out' / name} is a file, not a folder" in refused(job, given[job], tmp_path / "out")
    assert contents(tmp_path) == before


INPUTS = {
    "render": ("manifest", "clips.parquet"),
    "prepare": ("source", "samples.parquet"),
    "evaluate": ("manifest", "pairs.parquet"),
    "train": ("model", "model"),
    "convert": ("float", "model.safetensors"),
}


@pytest.mark.parametrize("job", INPUTS)
def test_an_input_that_the_job_would_replace_is_refused(job, given, tiny_model, tmp_path):
    key, name = INPUTS[job]
    (tmp_path / "out").mkdir()
    place = tmp_path / "out" / name
    shutil.copytree(tiny_model.path, place) if job == "train" else place.write_text("an input")
    arguments = [one for one in given[job] if not one.startswith(f"{key}=")]
    before = contents(tmp_path)
    message = refused(job, [*arguments, f"{key}={tmp_path}/./out/{name}"], tmp_path / "out")
    assert message.startswith(
        f"{key}: {place} is the {'folder' if job == 'train' else 'file'} that this job will replace"
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize("job", ["report", "rebuild", "clean", "clean --dry-run", "status"])
@pytest.mark.parametrize("other", ["prepare", "train", "evaluate", "somebody"])
def test_the_output_of_another_job_is_no_output_of_a_rendering(job, other, given, tmp_path):
    output = tmp_path / "out"
    files = {
        "prepare": {
            "summary.json": '{"run": "r", "state": "finished", "stage": "clips"}',
            "done/film-01234567.json": "{}",
        },
        "train": {"summary.json": '{"state": "finished", "steps": 3, "model": "m"}', "curves.html": "<html>"},
        "evaluate": {"done/video-0123456789abcdef.json": "{}", "pairs.parquet": "x"},
        "somebody": {"videos/holiday.mp4": "x", "plan.txt": "rest"},
    }
    for name, text in files[other].items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text)
    before = contents(tmp_path)
    assert "contains no run" in refused(job, given[job], output)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("changed", ["data=/nowhere", "model=/nowhere"])
def test_training_that_is_refused_leaves_no_folder(changed, given, tmp_path):
    key = changed.partition("=")[0]
    arguments = [one for one in given["train"] if not one.startswith(f"{key}=")]
    assert refused("train", [*arguments, changed], tmp_path / "out").startswith(f"{key}: ")
    assert not (tmp_path / "out").exists()


# --- Ctrl-C ----------------------------------------------------------------------------------------------------

STOPPED = {
    "render": "pipeline.run.run.make_plan",
    "prepare": "jobs.prepare.make_plan",
    "prepare latents": "jobs.cli.latents.plan_latents",
    "evaluate": "jobs.evaluate._measure",
    "train": "jobs.train.first_model",
    "clean": "jobs.clean.leftovers",
    "rebuild": "jobs.rebuild.rebuild_table",
    "report": "jobs.report.rebuild_table",
}
"""What each job does while it holds its output."""


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("job", STOPPED)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_a_hurry_leave_no_lock_behind(job, number, given, rendered_demo, tmp_path, monkeypatch):
    output = tmp_path / "out"
    if job in NEEDS:
        shutil.copytree(rendered_demo.output, output)
    monkeypatch.setattr(STOPPED[job], lambda *given, **more: press(number))
    leave = RunLock.__exit__

    def left(lock, *error):
        for _ in range(3):
            press(number)
        leave(lock, *error)

    monkeypatch.setattr(RunLock, "__exit__", left)
    done = run_job(job.split()[0], *given[job], f"output={output}")
    assert done.returncode == 130, done.stderr
    assert done.stderr.count(interruptions.WAITING) == 1
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(output.glob("*.lock"))


ENDS = {
    "prepare": ("jobs.prepare.write_samples", "jobs.prepare.write_report"),
    "evaluate": ("jobs.evaluate.write_pairs", "jobs.evaluate.write_page"),
    "rebuild": ("pipeline.run.maintenance.write_table",),
    "report": ("pipeline.run.maintenance.write_table",),
}
"""What writes the last files of each job."""


@pytest.mark.parametrize("job", ENDS)
def test_a_signal_while_the_last_files_are_written_waits_for_them(job, given, rendered_demo, tmp_path, monkeypatch):
    output = tmp_path / "out"
    if job in NEEDS:
        shutil.copytree(rendered_demo.output, output)
    monkeypatch.setattr("jobs.prepare._run", lambda *given: iter(()))
    monkeypatch.setattr("jobs.evaluate._measure", lambda *given: ({}, [], []))
    written = []

    def pressed(name):
        module, _, function = name.rpartition(".")
        write = getattr(importlib.import_module(module), function)

        def pressed_and_written(*given, **more):
            press()
            found = write(*given, **more)
            written.append(name)
            return found

        monkeypatch.setattr(name, pressed_and_written)

    for name in ENDS[job]:
        pressed(name)
    done = run_job(job, *given[job], f"output={output}")
    assert done.returncode in (0, 1), done.stderr
    assert set(written) == set(ENDS[job])
    assert interruptions.WAITING in done.stderr
    assert not list(output.glob("*.lock"))
    assert not list(output.rglob("*.part"))


def test_the_output_of_an_earlier_run_is_taken_up_again_by_each_job(given, tmp_path):
    for job, name, text in (
        ("evaluate", "done/video-0123456789abcdef.json", "{}"),
        ("prepare", "done/film-01234567.json", '{"key": "film-01234567", "fingerprint": "x", "rows": []}'),
    ):
        output = tmp_path / job
        (output / "done").mkdir(parents=True)
        (output / name).write_text(text)
        (output / {"evaluate": "evaluation.html", "prepare": "summary.json"}[job]).write_text("cut off")
        done = run_job(job, *given[job], f"output={output}")
        assert done.returncode == 1, done.stderr  # the inputs are no films
    assert json.loads((tmp_path / "prepare" / "summary.json").read_text())["stage"] == "clips"


def test_a_second_ctrl_c_does_not_leave_a_submitted_job_running(monkeypatch, capsys):
    asked = []

    class Client:
        """A head node that stops a job when it is asked to, while the person presses Ctrl-C again."""

        def __init__(self, address):
            pass

        def get_job_info(self, submission):
            if not asked:
                raise RuntimeError("404")
            status = JobStatus.STOPPED if "stop" in asked else JobStatus.RUNNING
            return JobDetails(type=JobType.SUBMISSION, entrypoint="x", status=status)

        def submit_job(self, **given):
            asked.append("submit")

        def tail_job_logs(self, submission):
            press()

        def stop_job(self, submission):
            press()
            asked.append("stop")
            press()

    monkeypatch.setattr(submit, "JobSubmissionClient", Client)
    monkeypatch.setattr(submit, "_no_address", lambda address: None)
    with process_as_it_was():
        assert submit.main(["--", "manifest=m.csv"]) == 130
    assert asked == ["submit", "stop"]
    assert interruptions.WAITING in capsys.readouterr().err
