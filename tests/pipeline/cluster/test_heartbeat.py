"""A worker whose process stands still is noticed and ended, and its work is done by a new one."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pipeline.cluster import heartbeat
from pipeline.cluster.heartbeat import Heartbeats, Worker
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.work_units import Unit
from pipeline.common.attempts import Place
from pipeline.common.stage import Part, Pool, Resources, Stage


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def worker(name, pid=1):
    return Worker(name, "render", Place("node", f"worker {name}"), pid)


@pytest.fixture
def clock():
    return Clock()


def ask(beats, clock, until, *reporting, seconds=20.0):
    """Ask every 5 s, as the driver does, while some workers report -> all that were silent."""
    found = []
    while clock.now < until:
        clock.now += 5
        for name in reporting:
            beats.beat(name, {})
        found += beats.silent(seconds)
    return found


def test_who_does_not_report_is_named_once_and_again_after_another_start(clock):
    beats = Heartbeats(clock)
    for name in ("a", "b"):
        beats.arrive(worker(name))
    assert ask(beats, clock, 120, "a") == []
    assert ask(beats, clock, 200, "a") == [worker("b")]
    beats.beat("b", {})  # too late: its process is being ended
    assert ask(beats, clock, 300, "a") == []
    beats.arrive(worker("b", pid=2))
    assert ask(beats, clock, 400, "a") == [worker("b", pid=2)]


def test_a_machine_that_slept_blames_nobody(clock):
    beats = Heartbeats(clock)
    beats.arrive(worker("a"))
    clock.now += 3600
    assert beats.silent(20) == []
    assert ask(beats, clock, clock.now + 20) == []
    assert ask(beats, clock, clock.now + 20) == [worker("a")]


def test_what_workers_have_in_work_is_known_until_they_are_gone(clock):
    beats = Heartbeats(clock)
    for name in ("a", "b"):
        beats.arrive(worker(name))
    beats.beat("a", {"x": Part("render", 1, 9, 1), "y": Part("render", 2, 9, 2)})
    beats.beat("b", {"z": Part("qc", 9, 9, 3)})
    beats.beat("c", {"w": Part("qc")})  # nobody knows it
    assert beats.under_way() == {
        "x": Part("render", 1, 9, 1),
        "y": Part("render", 2, 9, 2),
        "z": Part("qc", 9, 9, 3),
    }
    beats.beat("a", {})
    assert beats.under_way() == {"z": Part("qc", 9, 9, 3)}
    beats.arrive(worker("b", pid=2))  # it died, and has nothing yet
    assert beats.under_way() == {}


def test_workers_of_an_execution_that_is_over_are_forgotten(clock):
    beats = Heartbeats(clock)
    beats.arrive(worker("a"))
    beats.forget()
    assert ask(beats, clock, 200) == []


class StopsOnce(Stage):
    """The first process that gets the item `stop` stops itself, as `kill -STOP` would.

    The item `other` takes until somebody has seen it.
    """

    name, resources = "stops", Resources(0.5)

    def __init__(self, folder):
        self._mark, self._seen = Path(folder) / "stopped", Path(folder) / "seen"
        self._parts = {}

    @property
    def under_way(self):
        return self._parts

    def process(self, items):
        for item in items:
            if item == "stop" and not self._mark.exists():
                self._mark.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
            self._parts = {item: Part(self.name, 3, 7, 1)}
            while item == "other" and not self._seen.exists():
                time.sleep(0.1)
            self._parts = {}
            yield item, os.getpid()


@pytest.mark.slow
def test_a_stopped_worker_is_ended_and_its_unit_is_done_by_a_new_one(local_ray, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 12.0)
    executor, over = RayExecutor(), threading.Event()

    def look():
        while not over.wait(0.1):
            if executor.under_way() == {"other": Part("stops", 3, 7, 1)}:
                (tmp_path / "seen").touch()

    threading.Thread(target=look, daemon=True).start()
    rows = dict(executor.run([Unit(["stop"]), Unit(["other"])], [Pool(StopsOnce(tmp_path), 1)]))
    over.set()
    assert executor.under_way() == {}  # the next execution begins with nothing
    assert rows.keys() == {"stop", "other"}
    stopped = int((tmp_path / "stopped").read_text())
    assert rows["stop"] != stopped
    assert f"(process {stopped}, worker" in caplog.text
    assert "has not reported for 12 s: it is ended" in caplog.text
