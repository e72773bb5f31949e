"""Trials in a process of their own, so that a hang, a crash or a broken device costs that process and nothing else."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from models import ModelFolder, load_float
from pipeline.common.broken_device import is_device_failure
from pipeline.common.malloc import keep_memory
from pipeline.media.pixel_layout import BY_NAME, YUV420P
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.trial import Meter, Reference, Trial, Workbench
from pipeline.render.variants import Choice

logger = logging.getLogger(__name__)

START_SECONDS = 300.0
"""Limit for importing PyTorch and loading the model."""
TRIAL_SECONDS = 300.0
"""Limit for one trial; compiling takes one to two minutes."""
ANSWER = "floatcast-trial "
"""Start of a line that is an answer; compilers print others."""


@dataclass(frozen=True)
class Task:
    """What the process needs, besides the reference, to try engines as this worker would run them."""

    model: str
    """The model's folder."""
    device: str
    threads: int
    slots: int
    solver: str
    cache: str
    available: int
    """Bytes of memory; see `Meter`."""
    layout: str = YUV420P.name
    """Name of the `PixelLayout` of the frames."""


class TrialProcess:
    """Starts the process when it is first needed, and again after it had to be ended."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is that of `command_for`."""
        self._command = list(command)
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def attempt(
        self, part: str, choice: Choice, *, limit: float = TRIAL_SECONDS, start: float = START_SECONDS
    ) -> Trial:
        """Like `Workbench.attempt`; a process that ends or does not answer within the limit (s) is a refusal."""
        if self._process is None:
            self._start()
            if (problem := self._wait(start)[1]) is not None:
                return Trial(f"before it was tried, {problem}")
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([part, choice.values()]) + "\n")
            self._process.stdin.flush()
        except OSError:
            logger.info("the process for trials has ended")  # which is what the wait finds
        answer, problem = self._wait(limit)
        return Trial(**json.loads(answer)) if problem is None else Trial(problem)

    def _start(self) -> None:
        paths = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()

    def _wait(self, limit: float) -> tuple[str, str | None]:
        """The next answer, or why there is none; the process is then ended."""
        try:
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            self.close()
            return "", f"its process did not answer within {limit:g} s"
        if answer is None:
            self.close()
            return "", "its process ended"
        return answer, None

    def close(self) -> None:
        """End the process and those that it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):  # what it has not read
                    self._process.stdin.close()
            self._process = None


def _read(lines: IO[str], answers: "queue.SimpleQueue[str | None]") -> None:
    with lines:
        for line in lines:
            if line.startswith(ANSWER):
                answers.put(line.removeprefix(ANSWER))
    answers.put(None)


def command_for(task: Task, reference: Reference, folder: Path) -> list[str]:
    """The command of a process that tries engines; the reference goes through a file in `folder`."""
    np.savez(folder / "reference.npz", motion=reference.motion, frames=reference.frames)
    (folder / "task.json").write_text(json.dumps(asdict(task)))
    code = f"from {__name__} import main; main({str(folder)!r})"
    return [sys.executable, "-c", code]


# --- In the process ----------------------------------------------------------------------------------------------


def main(folder: str) -> None:
    """Answer each line of standard input, a part and a choice, with a trial, until there are no more."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_take_over, args=(waiting,), daemon=True).start()
    task = Task(**json.loads((Path(folder) / "task.json").read_text()))
    with np.load(Path(folder) / "reference.npz") as file:
        reference = Reference(file["motion"], file["frames"])
    device = torch.device(task.device)
    torch.set_num_threads(task.threads)
    if device.type == "cpu":
        keep_memory()
    torch.backends.cudnn.benchmark = device.type == "cuda"  # as the worker has it
    folder_of_model = ModelFolder.open(Path(task.model))
    model = load_float(folder_of_model, device)

    layout = BY_NAME[task.layout]

    def make(choice: Choice) -> ModelRunner:
        return ModelRunner(model, choice=choice, weights=folder_of_model.hash, cache=Path(task.cache), layout=layout)

    bench = Workbench(
        make, slots=task.slots, solver=task.solver, meter=Meter(device, task.available), reference=reference
    )
    _say({})
    while True:
        part, values = json.loads(waiting.get())
        try:
            _say(asdict(bench.attempt(part, Choice.from_values(values))[0]))
        except Exception as error:
            if not is_device_failure(error):
                raise
            os._exit(1)


def _take_over(waiting: "queue.SimpleQueue[str]") -> None:
    """Read the requests; at their end the worker has ended, and this process must not survive it."""
    for line in sys.stdin:
        waiting.put(line)
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    print(ANSWER + json.dumps(answer), flush=True)
