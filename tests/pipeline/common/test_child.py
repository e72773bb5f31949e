"""Work in a child process: results, exceptions, limits that native code cannot ignore, crashes, interruptions."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.common import child, child_main
from pipeline.common.child import allowed_seconds, in_child, stop_children
from pipeline.common.errors import ClipError
from pipeline.common.options import SettingError
from pipeline.media.video_reader import VideoError
from pipeline.training_data.reasons import Dropped
from tests.child_work import die_once, raises, spin
from tests.messages import faults
from tests.running import alive, press_ctrl_c_when


def test_results_and_exceptions_are_those_of_the_work_and_a_child_is_used_again():
    pids = {in_child(os.getpid), in_child(os.getpid)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    for error in (ClipError("audio_empty", "a"), SettingError("key", "is wrong"), Dropped("no_face", "none")):
        with pytest.raises(type(error)) as raised:
            in_child(raises, type(error), *error.__reduce__()[1])
        assert str(raised.value) == str(error)
    with pytest.raises(EOFError):
        in_child(raises, EOFError)
    with pytest.raises(RuntimeError, match="VideoError: cannot be sent"):
        in_child(raises, VideoError, "unreadable", "cannot be sent")
    assert {in_child(os.getpid)} == pids


def test_another_environment_is_that_of_another_child_but_another_test_is_not(monkeypatch):
    first = in_child(os.getpid)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")
    assert in_child(os.getpid) == first
    monkeypatch.setenv("FLOATCAST_TEST", "1")
    assert in_child(os.getpid) != first


def test_the_child_needs_no_pytorch():
    stop_children()  # who knows what others did in them
    names = in_child(
        eval, "__import__('pipeline.render.clip_inputs', fromlist='x') and list(__import__('sys').modules)"
    )
    assert not {"torch", "transformers", "ray", "pyarrow"} & set(names)


def test_the_limit_follows_what_was_decoded_up_to_that_of_the_stage():
    assert allowed_seconds(0, 240) == child.LEAST_SECONDS
    assert allowed_seconds(60, 240) == child.LEAST_SECONDS + 60 * child.SECONDS_PER_SECOND
    assert allowed_seconds(1e6, 0.5) == 30
    told = []
    before = child_main._parent, child_main._decoded, child_main._told
    try:
        child_main._parent, child_main._told = type("Parent", (), {"send": staticmethod(told.append)}), -1e9
        child_main._decoded = 0.0
        for seconds in (0.5, -3.0, 1e9):
            child_main._told = -1e9
            child_main.tell_decoded(seconds)
        assert [decoded for _, decoded in told] == [0.5, 0.5, 1.5]  # a time stamp may jump
    finally:
        child_main._parent, child_main._decoded, child_main._told = before


def test_native_code_that_does_not_return_is_killed_and_the_next_work_is_done(tmp_path, monkeypatch):
    file = tmp_path / "spins"
    monkeypatch.setattr(child, "allowed_seconds", lambda *of: 0.0 if file.exists() else 600.0)
    with pytest.raises(ClipError, match=r"did not end within .* so it was stopped") as raised:
        in_child(spin, str(file))
    assert raised.value.code == "timed_out"
    assert list(faults(raised.value.message)) == []
    assert not alive(int(file.read_text()))
    monkeypatch.undo()
    assert in_child(len, b"abc") == 3


def test_a_child_that_dies_is_replaced_once(tmp_path):
    assert in_child(die_once, str(tmp_path / "died")) == "alive"
    with pytest.raises(ClipError, match=r"died 2 times with it \(signal SIGABRT\)") as raised:
        in_child(os.abort)
    assert raised.value.code == "worker_died"


def test_ctrl_c_ends_the_wait_and_the_child(tmp_path):
    with pytest.raises(KeyboardInterrupt), press_ctrl_c_when(tmp_path / "spins"):
        in_child(spin, str(tmp_path / "spins"))
    assert not alive(int((tmp_path / "spins").read_text()))


def test_children_that_other_threads_wait_for_can_be_stopped(tmp_path):
    found = []

    def work():
        try:
            in_child(spin, str(tmp_path / "spins"))
        except InterruptedError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "spins").exists():
        time.sleep(0.02)
    stop_children()
    thread.join()
    assert len(found) == 1
    assert in_child(len, b"abc") == 3


ORPHAN = """
import sys
from pipeline.common.child import in_child
from tests.messages import faults
from tests.child_work import spin
from tests.messages import faults
in_child(spin, sys.argv[1])
"""


@pytest.mark.slow
def test_a_child_ends_with_its_parent_whatever_it_computes(tmp_path):
    file = tmp_path / "spins"
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(file)])
    while not file.exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(int(file.read_text())):
        time.sleep(0.02)
