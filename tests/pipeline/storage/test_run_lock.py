"""One run at a time, and a dead run is in nobody's way."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs import submit
from pipeline.common.errors import ClusterError
from pipeline.storage import objects, run_lock
from pipeline.storage.replacing import replace_bytes
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


def test_an_earlier_try_of_the_same_submission_is_no_final_refusal(output, monkeypatch):
    assert run_lock.SUBMITTER == submit.SUBMITTER
    monkeypatch.setenv(run_lock.SUBMITTER, "floatcast-render-1")
    with RunLock(output, "first"):
        with pytest.raises(ClusterError, match="run first, an earlier try of the same submission, is still using"):
            RunLock(output, "second").__enter__()
        monkeypatch.setenv(run_lock.SUBMITTER, "floatcast-render-2")
        with pytest.raises(LockedError):
            RunLock(output, "other").__enter__()


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


@pytest.mark.parametrize("writer", ["create_bytes", "replace_bytes"])
def test_an_answer_that_is_lost_does_not_lock_a_run_out_of_its_own_output(writer, output, monkeypatch):
    # The storage's client tries a conditional write again that has succeeded, and is told that the file is there.
    if writer == "replace_bytes":
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            pass
        lock = {"run": "dead", "host": socket.gethostname(), "pid": dead.pid, "beat": 3}
        objects.write_bytes(json.dumps(lock).encode(), f"{output}/run.lock")
    write = getattr(run_lock, writer)
    monkeypatch.setattr(run_lock, writer, lambda *arguments: write(*arguments) and False)
    with RunLock(output, "mine") as lock:
        assert json.loads(objects.read_bytes(f"{output}/run.lock"))["run"] == "mine"
        assert not lock.lost
    assert objects.read_bytes(f"{output}/run.lock") is None


def test_shards_have_locks_of_their_own(output):
    with RunLock(output, "first", "run.1-of-2"), RunLock(output, "second", "run.2-of-2"):
        pass


def test_a_run_that_was_taken_for_dead_finds_out_and_leaves_the_others_lock_alone(output, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 1.5)
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(RunLock, "_died_here", lambda self, other: False)
    with RunLock(output, "slow") as slow:
        slow.check()
        with RunLock(output, "second") as second:  # before the first one's beat
            end = time.monotonic() + 60
            while not slow.lost and time.monotonic() < end:
                time.sleep(0.1)
            with pytest.raises(LockedError, match="run second has taken over this output"):
                slow.check()
            slow.__exit__(None, None, None)
            assert json.loads(objects.read_bytes(f"{output}/run.lock"))["run"] == "second"
            second.check()
        assert objects.read_bytes(f"{output}/run.lock") is None


def test_what_is_replaced_is_exactly_what_was_seen(output):
    uri = f"{output}/value"
    assert not replace_bytes(b"new", uri, b"old")
    objects.write_bytes(b"old", uri)
    assert not replace_bytes(b"new", uri, b"another")
    assert objects.read_bytes(uri) == b"old"
    assert replace_bytes(b"new", uri, b"old")
    assert objects.read_bytes(uri) == b"new"


def test_of_many_writers_at_once_one_replaces(output):
    uri = f"{output}/value"
    objects.write_bytes(b"old", uri)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: replace_bytes(f"{i}".encode(), uri, b"old"), range(8)))
    assert sum(done) == 1
    assert objects.read_bytes(uri) == f"{done.index(True)}".encode()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"[]", b'{"run": 1, "host": null, "pid": "x"}'])
def test_a_damaged_lock_is_taken_over_after_a_while(content, output, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.2)
    objects.write_bytes(content, f"{output}/run.lock")
    with RunLock(output, "mine"):
        assert json.loads(objects.read_bytes(f"{output}/run.lock"))["run"] == "mine"


@pytest.mark.parametrize("damage", ["removed", "garbage"])
def test_a_lock_that_somebody_removes_or_damages_is_written_again(damage, output):
    with RunLock(output, "mine") as held:
        if damage == "removed":
            objects.remove(f"{output}/run.lock")
        else:
            objects.write_bytes(b"garbage", f"{output}/run.lock")
        end = time.monotonic() + 60
        while b"mine" not in (objects.read_bytes(f"{output}/run.lock") or b"") and time.monotonic() < end:
            time.sleep(0.05)
        held.check()
    assert objects.read_bytes(f"{output}/run.lock") is None


def test_a_link_in_the_place_of_the_guard_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".value.guard").symlink_to(tmp_path / "precious")
    objects.write_bytes(b"old", f"{tmp_path}/out/value")
    assert replace_bytes(b"new", f"{tmp_path}/out/value", b"old")
    assert (tmp_path / "precious").read_text() == "precious"
