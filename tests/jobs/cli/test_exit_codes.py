"""What ends a job has the same exit code in every job, and a person reads why."""

import os
import re
import signal
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from ray.exceptions import RayActorError

from jobs.cli.exit_codes import ended, told
from jobs.submit import ENDED
from pipeline.common.errors import ClusterError, ManifestError, StorageError
from pipeline.common.options import SettingError
from pipeline.run.exit_codes import BUG, DONE, INCOMPLETE, INFRASTRUCTURE, INTERRUPTED, REFUSED, code_of
from pipeline.storage import objects
from tests import media
from tests.running import process_as_it_was, run_job

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestError("m.csv has no rows"), REFUSED),
        (SettingError("crf", "no"), REFUSED),
        (StorageError("s3 is down"), INFRASTRUCTURE),
        (ClusterError("too small"), INFRASTRUCTURE),
        (OSError(28, "No space left on device"), INFRASTRUCTURE),
        (NoCredentialsError(), INFRASTRUCTURE),
        (EndpointConnectionError(endpoint_url="http://x"), INFRASTRUCTURE),
        (RayActorError(), INFRASTRUCTURE),
        (KeyboardInterrupt(), INTERRUPTED),
        (KeyError("x"), BUG),
        (ValueError("x"), BUG),
        (AssertionError(), BUG),
    ],
)
def test_each_kind_of_exception_has_its_exit_code(error, code, capsys):
    assert code_of(error) == told(error) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == BUG and error.__traceback__ is not None)


def test_a_bug_is_reported_with_its_traceback_and_how_to_report_it_and_without_secrets(capsys):
    def buggy():
        raise KeyError("s3://user:hidden@bucket/x")

    assert ended(buggy) == BUG
    text = capsys.readouterr().err
    assert "in buggy" in text
    assert "please report it" in text
    assert "hidden" not in text


def test_after_an_interruption_another_signal_does_not_change_the_exit_code(tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    with process_as_it_was():
        assert ended(stopped) == INTERRUPTED
        os.kill(os.getpid(), signal.SIGINT)


def manifest(folder):
    (folder / "m.jsonl").write_text(f'{{"image": "{media.PORTRAIT}", "audio": "{media.SPEECH}", "emotion": "sad"}}')
    return f"manifest={folder / 'm.jsonl'}"


PLANNING = "pipeline.run.run.make_plan"


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyError("bug"), BUG), (OSError("the disk is gone"), INFRASTRUCTURE), (NoCredentialsError(), INFRASTRUCTURE)],
)
def test_what_fails_while_planning_is_no_refusal(error, code, tiny_model, tmp_path, monkeypatch):
    def failing(*arguments, **more):
        raise error

    monkeypatch.setattr(PLANNING, failing)
    arguments = [manifest(tmp_path), f"output={tmp_path / 'out'}", f"model={tiny_model.path}", "executor=serial"]
    done = run_job("render", *arguments)
    assert done.returncode == code
    assert "is not writable" not in done.stderr
    assert ("Traceback" in done.stderr) == (code == BUG)


def test_a_bug_while_rendering_still_leaves_a_row_for_every_clip(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cluster.serial.SerialExecutor.run", lambda *arguments: 1 / 0)
    output = tmp_path / "out"
    done = run_job("render", manifest(tmp_path), f"output={output}", f"model={tiny_model.path}", "executor=serial")
    assert done.returncode == BUG
    assert "ZeroDivisionError" in done.stderr
    assert '"error_code": "lost"' in (output / "failed.jsonl").read_text()
    assert '"state": "failed"' in (output / "summary.json").read_text()


@pytest.mark.parametrize("job", ["clean", "rebuild", "status", "report", "evaluate", "prepare"])
def test_a_storage_that_fails_is_3_in_every_job(job, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 1)
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:9"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    objects.fsspec.get_filesystem_class("s3").clear_instance_cache()
    more = {"evaluate": ["manifest=s3://bucket/pairs.csv"], "prepare": ["source=s3://bucket/films.csv"]}
    done = run_job(job, "output=s3://bucket/out", *more.get(job, ()))
    objects.fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert done.returncode == INFRASTRUCTURE, done.stderr
    assert "Traceback" not in done.stderr


def test_submit_tries_again_what_another_try_may_mend():
    assert {DONE, INCOMPLETE, REFUSED, BUG} == set(ENDED)


def test_every_job_documents_the_codes():
    for file in (ROOT / "jobs").rglob("*.py"):
        text = file.read_text()
        if "USAGE = " in text:
            assert re.search(r"Exit codes?: |\{CODES\}", text), file.name
