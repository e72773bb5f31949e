"""Running a job inside the test's own process: as fast as its work, where a process of its own costs seconds."""

import contextlib
import importlib
import io
import logging
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    returncode: int
    stdout: str
    stderr: str


def run_job(job: str, *arguments: object, cwd: Path | None = None, **environment: str) -> Ended:
    """Run `jobs.<job>` with its arguments -> exit code and what it printed, its log included.

    What a job changes in its process (handlers of signals and of the log, threads, environment) is put back.
    """
    main = importlib.import_module(f"jobs.{job}").main
    stdout, stderr = io.StringIO(), io.StringIO()
    with process_as_it_was(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        os.environ.update(environment)
        if cwd is not None:
            os.chdir(cwd)
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # --help, and a configuration that is refused
            code = ended.code
    return Ended(code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def process_as_it_was():
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root = logging.getLogger()
    handlers, level, threads, cwd, environment = (
        list(root.handlers),
        root.level,
        torch.get_num_threads(),
        Path.cwd(),
        dict(os.environ),
    )
    root.handlers.clear()  # the job sets up its own, on the standard error that is recorded here
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)


def results(stage, items):
    """What a stage makes of items, set up in this process and closed again."""
    stage.setup()
    try:
        return list(stage.process(items))
    finally:
        stage.close()


@contextlib.contextmanager
def press_ctrl_c_when(file: Path):
    """Send SIGINT to this process as soon as `file` is there."""

    def press():
        while not file.exists():
            if over.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    over = threading.Event()
    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
