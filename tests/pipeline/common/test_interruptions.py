"""Signals of a person who is in a hurry do not break the end of a run."""

import os
import signal
import time

import pytest

from pipeline.common import interruptions
from pipeline.common.interruptions import Interruptions


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def test_the_first_signal_stops_the_work_and_the_next_ones_wait(capsys, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with Interruptions():
        with pytest.raises(KeyboardInterrupt):
            press()
        for _ in range(5):  # at once
            press()
        assert capsys.readouterr().err == interruptions.WAITING + "\n"
        monkeypatch.setattr(interruptions, "CALM_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) == before


def test_work_that_must_not_stop_halfway_is_not_stopped():
    with Interruptions() as interruptions:
        with interruptions.held():
            press()
            press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_signals_that_a_process_ignores_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruptions():
            press()
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)
