"""The process that measures is replaced when a section kills it or does not end, and reports on the way."""

import os
import signal
import threading

import pytest

from jobs.bench import worker as worker_module
from jobs.bench.job import BenchmarkJob
from jobs.bench.sections import Section
from jobs.bench.worker import Worker


def dies(subject):
    subject.report({"so far": 1})
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(subject):
    subject.report({"so far": 2})
    threading.Event().wait()


def works(subject):
    subject.report({"so far": 3, "failed": subject.failed})
    return {"pid": os.getpid()}


def fails(subject):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def section(function):
    return Section(function.__name__, f"{__name__}:{function.__name__}", 0, 100, "")


@pytest.mark.slow
def test_each_section_gets_a_process_that_works(monkeypatch, capsys):
    worker = Worker(BenchmarkJob(device="cpu", threads=1))
    try:
        died = worker.run(section(dies), 100, [])
        assert (died.status, died.figures) == ("failed", {"so far": 1})
        assert "killed by signal 9 (SIGKILL)" in died.reason
        first = worker.run(section(works), 100, ["dies"])
        assert first.figures == {"so far": 3, "failed": ("dies",), "pid": first.figures["pid"]}
        broken = worker.run(section(fails), 100, [])
        assert "illegal memory access" in broken.reason
        second = worker.run(section(works), 100, [])
        assert second.figures["pid"] != first.figures["pid"]  # a GPU that is broken stays so in its process
        monkeypatch.setattr(worker_module, "TELL_SECONDS", 0.5)
        hung = worker.run(section(hangs), 2, [])  # whether it begins within 2 s or not
        assert hung.reason == "it was ended after 2 s, which is its time limit"
        assert "  hangs: 1 s of at most 2 s\n" in capsys.readouterr().out
        with pytest.raises(ProcessLookupError):
            os.kill(second.figures["pid"], 0)
    finally:
        worker.close()
