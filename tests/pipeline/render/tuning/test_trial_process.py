"""Trials in another process: whatever happens there, the worker gets an outcome in time."""

import contextlib
import json
import os
import select
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from models import load_float
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.candidates import eager
from pipeline.render.tuning.trial import Meter, Trial, Workbench
from pipeline.render.tuning.trial_process import ANSWER, Task, TrialProcess, command_for
from pipeline.render.variants import Choice, Variant

CHOICE = eager(4)
READY = f"print({ANSWER + '{}'!r}, flush=True)\n"
GOOD = Trial(seconds=0.5, psnr=60.0)
ANSWERS = f"print('a compiler says hello'); print({ANSWER + json.dumps(asdict(GOOD))!r}, flush=True)\n"
FOREVER = "import signal\nwhile True: signal.pause()\n"


def process(code):
    return TrialProcess([sys.executable, "-c", code])


@pytest.fixture
def started():
    """Starts processes, and ends them."""
    processes = []

    def start(code):
        processes.append(process(code))
        return processes[-1]

    yield start
    for one in processes:
        one.close()


def test_an_answer_among_other_output_is_the_outcome(started):
    one = started(READY + "while input():\n    " + ANSWERS)
    assert one.attempt("decoder", CHOICE) == GOOD
    pid = one._process.pid
    assert one.attempt("field", CHOICE) == GOOD
    assert one._process.pid == pid


def test_the_part_and_the_choice_arrive(started, tmp_path):
    code = f"line = input()\nopen({str(tmp_path / 'seen')!r}, 'w').write(line)\n"
    started(READY + code + ANSWERS).attempt("field", CHOICE)
    part, values = json.loads((tmp_path / "seen").read_text())
    assert (part, Choice.from_values(values)) == ("field", CHOICE)


@pytest.mark.parametrize("end", ["import os; os._exit(1)", "import os; os.kill(os.getpid(), 11)", "raise SystemExit"])
def test_a_candidate_that_ends_its_process_is_refused_and_the_next_one_gets_another(started, tmp_path, end):
    code = f"import pathlib\nfirst = not pathlib.Path({str(tmp_path / 'ran')!r}).exists()\n"
    code += f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{READY}input()\nif first:\n    {end}\n"
    one = started(code + ANSWERS)
    assert one.attempt("decoder", CHOICE).problem == "its process ended"
    assert one.attempt("decoder", CHOICE) == GOOD


def test_a_candidate_that_hangs_is_ended_with_all_that_it_started(started, tmp_path):
    """What a compiler has started would keep its share of the machine."""
    child = f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])\n"
    child += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    one = started(child + READY + FOREVER)
    assert one.attempt("decoder", CHOICE, limit=0.2).problem == "its process did not answer within 0.2 s"
    assert one._process is None
    with contextlib.suppress(ProcessLookupError):  # it is gone already
        ended = os.pidfd_open(int((tmp_path / "pid").read_text()))
        assert select.select([ended], [], [], 60)[0] == [ended]
        os.close(ended)


@pytest.mark.parametrize(
    ("code", "problem"), [("raise SystemExit(1)", "its process ended"), (FOREVER, "did not answer within 0.2 s")]
)
def test_a_process_that_does_not_start_is_a_refusal(started, code, problem):
    assert started(code).attempt("decoder", CHOICE, start=0.2 if code == FOREVER else 60).problem.endswith(problem)


@pytest.mark.slow
def test_the_process_tries_engines_as_the_worker_would(tiny_model, tmp_path):
    """The real one, with a real model; it ends when its worker's end of the pipe is closed."""
    model = load_float(tiny_model)
    cpu = torch.device("cpu")
    bench = Workbench(lambda choice: ModelRunner(model, choice=choice), slots=2, solver="euler", meter=Meter(cpu))
    task = Task(str(tiny_model.path), "cpu", 1, 2, "euler", str(tmp_path / "cache"), 0)
    one = TrialProcess(command_for(task, bench.reference, tmp_path))
    try:
        for part in ("decoder", "field", "both"):
            trial = one.attempt(part, CHOICE)
            assert trial.problem == ""
            assert trial.psnr > 60
            assert trial.seconds > 0
        # A reference of other frames: the process compares with the worker's, and not with its own.
        lies = bench.reference.frames ^ np.uint8(32)
        other = TrialProcess(command_for(task, type(bench.reference)(bench.reference.motion, lies), tmp_path))
        try:
            assert "dB" in other.attempt("decoder", Choice(Variant("reference"), Variant("reference"), 4)).problem
        finally:
            other.close()
        running = one._process
        running.stdin.close()
        assert running.wait(timeout=60) == 0
    finally:
        one.close()
