"""What the bar and the lines of a job say about items that have ended and items in work."""

import io
import re
import sys
from threading import Event

import pytest

from pipeline.common import progress
from pipeline.common.progress import Progress
from pipeline.common.stage import Part

LENGTHS = {1: 80.0, 2: 20.0}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self):
        return True


def length_of(row):
    return LENGTHS[row["row"]]


@pytest.fixture
def work(monkeypatch):
    """A clock, the parts in work, and the progress of two clips of 80 s and 20 s that is told about them."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock, parts = Clock(), {}
    bar = Progress(2, 100.0, length_of, under_way=lambda: dict(parts), first="waiting", clock=clock)
    return clock, parts, bar


def ended(number):
    return {"status": "done", "clip_id": f"c{number}", "row": number}


def test_a_long_clip_moves_the_progress_frame_by_frame_and_has_an_eta(work):
    clock, parts, bar = work
    assert bar.state() == "waiting"
    clock.now += 60  # workers start, which says nothing about the speed
    parts["c1"] = Part("features")
    assert bar.state() == "features: c1"
    parts["c1"] = Part("render", 0, 2000, 1)
    clock.now += 10
    parts["c1"] = Part("render", 500, 2000, 1)
    assert bar.state() == "render: c1 500 of 2000 frames, 2.00 s of video per s, ETA 0:00:40"
    clock.now += 10
    parts["c1"] = Part("qc", 2000, 2000, 1)
    assert bar.state() == "qc: c1, 4.00 s of video per s, ETA 0:00:05"


def test_clips_in_work_are_counted_together(work):
    _, parts, bar = work
    parts |= {"c1": Part("render", 10, 100, 1), "c2": Part("render", 5, 50, 2), "c3": Part("features")}
    assert bar.state() == "render: 2 clips 15 of 150 frames, features: c3"


def test_what_has_ended_is_not_counted_twice_by_a_report_of_before(work):
    clock, parts, bar = work
    parts["c1"] = Part("render", 0, 2000, 1)
    bar.state()
    clock.now += 10
    parts["c1"] = Part("render", 1900, 2000, 1)
    bar.add(ended(1))
    assert bar.state() == "1 done, 8.00 s of video per s, ETA 0:00:02"


def test_it_never_goes_back_and_is_complete_only_when_all_have_ended(work):
    clock, parts, bar = work
    parts["c1"] = Part("render", 0, 2000, 1)
    bar.state()
    clock.now += 10
    parts["c1"] = Part("render", 1000, 2000, 1)
    before = bar.state()
    parts.clear()  # its worker has died, or quality control has not taken the clip yet
    assert before.endswith(bar.state())
    parts |= {"c1": Part("qc", 2000, 2000, 1), "c2": Part("qc", 500, 500, 2)}
    assert "9.90 s of video per s" in bar.state()  # 99 of 100
    bar.add(ended(1))
    bar.add(ended(2))
    assert bar.state() == "2 done, 10.00 s of video per s, ETA 0:00:00"


def test_a_terminal_sees_no_escapes_of_a_name_and_only_a_bar_that_stays(monkeypatch):
    parts = {"\x1b[2Jプ": Part("render", 1, 3, 1)}
    for stays in (True, False):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        with Progress(2, 100.0, length_of, doing="rendering", under_way=parts.copy, stays=stays) as bar:
            bar.add(ended(2))
        shown = screen.getvalue()
        assert "rendering, 0 of 2 clips:  27%|" in shown
        assert "rendering, 1 of 2 clips:  47%|" in shown
        assert r"render: \x1b[2J\u30d7 1 of 3 frames" in shown
        assert "\x1b" not in shown
        assert "100%" not in shown
        last = re.split(r"[\r\n]", shown.rstrip("\r\n"))[-1]
        assert bool(last.strip()) == stays


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    asked = Event()

    def under_way():
        asked.set()
        return {"c1": Part("render", 5, 20, 1)}

    with Progress(2, 100.0, length_of, under_way=under_way) as bar:
        bar.add(ended(2))
        asked.clear()
        assert asked.wait(60)
    assert "] 1 of 2 clips: 1 done, render: c1 5 of 20 frames" in capsys.readouterr().out
