"""One run at a time, and a dead run is in nobody's way."""

import json
import os
import subprocess
import sys
import time

import pytest

from pipeline.storage import objects, run_lock
from pipeline.storage.run_lock import LockedError, RunLock


@pytest.fixture(params=["disk", "s3"])
def output(request, tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.2)
    if request.param == "disk":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('s3')}/lock/{tmp_path.name}"


def test_a_second_run_is_refused_while_the_first_lives(output):
    beats = []
    refused = pytest.raises(LockedError, match=f"run first is using this output .process {os.getpid()}")
    with RunLock(output, "first", on_beat=lambda: beats.append(1)), refused:
        RunLock(output, "second").__enter__()
    assert beats
    with RunLock(output, "second"):  # free again
        pass
    assert objects.read_bytes(f"{output}/run.lock") is None


def test_the_lock_of_a_dead_process_is_taken_over_at_once(output):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = RunLock(output, "mine")
    objects.write_bytes(json.dumps(mine._content | {"run": "dead", "pid": dead.pid}).encode(), f"{output}/run.lock")
    with mine:
        assert json.loads(objects.read_bytes(f"{output}/run.lock"))["run"] == "mine"


def test_the_lock_of_a_dead_machine_is_taken_over_when_it_has_not_beaten_for_a_while(output, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 1.0)
    other = {"run": "dead", "host": "another", "pid": 1, "beat": 7}
    objects.write_bytes(json.dumps(other).encode(), f"{output}/run.lock")
    start = time.monotonic()
    with RunLock(output, "mine"):
        assert time.monotonic() - start >= 1
        assert json.loads(objects.read_bytes(f"{output}/run.lock"))["run"] == "mine"


def test_shards_have_locks_of_their_own(output):
    with RunLock(output, "first", "run.1-of-2"), RunLock(output, "second", "run.2-of-2"):
        pass
