"""The process that measures. If a section hangs, kills it or breaks its GPU, the next section gets a new process."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from jobs.bench.job import BenchmarkJob, Figures, Outcome, say
from jobs.bench.sections import Section
from pipeline.common.broken_device import is_device_failure
from pipeline.common.redaction import redacted
from pipeline.common.terminal import filter_output

if TYPE_CHECKING:
    from jobs.bench.subject import Subject

TELL_SECONDS = 15.0
"""How often a section that reports nothing is said to go on."""

TRACE = 12
"""Last lines of a traceback that are kept with the figures."""


def new_subject(job: BenchmarkJob) -> "Subject":
    """What is measured; imported late, because the process that waits does not need it."""
    from jobs.bench.subject import Subject

    return Subject(job)


class Here:
    """Measures in this process: nothing ends a section that hangs."""

    def __init__(self, job: BenchmarkJob, subject: Callable[[BenchmarkJob], Any] = new_subject) -> None:
        self._subject = subject(job)

    def run(self, section: Section, seconds: float, failed: Sequence[str]) -> Outcome:
        """As `Runner.run`."""
        return _measured(section, self._subject, failed)[0]

    def close(self) -> None:
        """As `Runner.close`."""


class Worker:
    """Measures in another process, which is replaced when it has ended or must end."""

    def __init__(self, job: BenchmarkJob) -> None:
        self._job = job
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, section: Section, seconds: float, failed: Sequence[str]) -> Outcome:
        """As `Runner.run`."""
        pipe = self._pipe or self._start()
        found: Figures = {}
        """Figures that it has reported so far."""
        try:
            pipe.send((section, list(failed)))
            begun = time.monotonic()
            while (left := begun + seconds - time.monotonic()) > 0:
                if not pipe.poll(min(left, TELL_SECONDS)):
                    say(f"  {section.name}: {time.monotonic() - begun:.0f} s of at most {seconds:.0f} s")
                    continue
                answer = pipe.recv()
                if isinstance(answer, dict):
                    found |= answer
                    continue
                outcome, usable = answer
                if not usable:
                    self.close()
                outcome.figures = found | outcome.figures
                return outcome
            self.close()
            return Outcome("failed", found, f"it was ended after {seconds:.0f} s, which is its time limit")
        except (EOFError, OSError):
            return Outcome("failed", found, self._how_it_ended())

    def _start(self) -> Connection:
        # A fork would inherit threads and the state of the GPU.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._job), name="benchmark", daemon=False)
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _how_it_ended(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        self.close()
        if code is not None and code < 0:
            return f"its process was killed by signal {-code} ({signal.Signals(-code).name}); see the lines above"
        return f"its process ended with exit code {code}; see the lines above"

    def close(self) -> None:
        """End the process, and those that it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection, job: BenchmarkJob) -> None:
    """Measure what is asked for until the other end is closed."""
    os.setsid()  # a group of its own: Ctrl-C reaches the process that waits, which then ends this one
    filter_output()
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
    subject: Any = None
    while True:
        try:
            section, failed = pipe.recv()
        except EOFError:
            return
        try:
            subject = subject or new_subject(job)
            subject.report = pipe.send
        except Exception as error:
            pipe.send((_failed(error), False))
            continue
        pipe.send(_measured(section, subject, failed))


def _measured(section: Section, subject: Any, failed: Sequence[str]) -> tuple[Outcome, bool]:
    """The outcome, and whether this process can go on."""
    subject.failed = tuple(failed)
    try:
        return Outcome("done", section.measure(subject)), True
    except Exception as error:
        return _failed(error), not is_device_failure(error)


def _failed(error: Exception) -> Outcome:
    lines = [redacted(line) for part in traceback.format_exception(error) for line in part.rstrip().split("\n")]
    print("\n".join(lines), file=sys.stderr, flush=True)
    said = " ".join(redacted(str(error)).split())[:300] or "there is no message; see the traceback"
    return Outcome("failed", {"traceback": lines[-TRACE:]}, said)
