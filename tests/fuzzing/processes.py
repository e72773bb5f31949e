"""Mutants are read in processes of their own, with limits: what kills or stops one of these is a finding, too."""

import faulthandler
import os
import pickle
import resource
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.memory import growth

CPU_SECONDS = 10
"""Most time of one core for a mutant."""

WALL_SECONDS = 120
"""Most time for a mutant on a busy machine: whoever waits longer waits for ever."""

MEGABYTES = 1_000
"""Most memory for a mutant."""

ADDRESSES = 6 << 30
"""Address space beyond what the process has, which keeps a mutant from taking the machine's memory."""

Mutant = tuple[str, bytes]
"""The name of a file, and what is in it."""

Reader = Callable[[str, bytes], object]


@dataclass(frozen=True)
class Result:
    """What a reader made of a mutant."""

    outcome: str
    """`read`, `refused: <code>`, or what it has done wrong."""
    details: str = ""
    megabytes: float = 0.0
    seconds: float = 0.0
    """Of one core."""

    @property
    def is_harm(self) -> bool:
        """Whether a person must look at it."""
        return not self.outcome.startswith(("read", "refused"))


def results(read: Reader, mutants: Sequence[Mutant], refusals: tuple[type[Exception], ...]) -> Iterator[Result]:
    """One result per mutant. They are read in one process after another: a new one begins where one has died."""
    done = 0
    while done < len(mutants):
        child, pipe = _process(read, mutants[done:], refusals)
        result, waited = None, False
        while done < len(mutants):
            result, waited = _next(pipe)
            if result is None:
                break
            done += 1
            yield result
        if waited:
            os.kill(child, signal.SIGKILL)
        os.close(pipe)
        status = os.waitpid(child, 0)[1]
        if result is None:
            done += 1
            yield _death(status, waited)


def _process(read: Reader, mutants: Sequence[Mutant], refusals: tuple[type[Exception], ...]) -> tuple[int, int]:
    """(number of a new process, end of the pipe from which its results come)."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _read_all(read, mutants, refusals, theirs)
        finally:
            os._exit(1)
    os.close(theirs)
    return child, ours


def _next(pipe: int) -> tuple[Result | None, bool]:
    """(the next result, False), or (None, whether there was none in time)."""
    end = time.monotonic() + WALL_SECONDS
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
        ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None, True
        wanted = 4 - len(data) if len(data) < 4 else 4 + struct.unpack("<I", data[:4])[0] - len(data)
        part = os.read(pipe, wanted)
        if not part:
            return None, False
        data += part
    return pickle.loads(data[4:]), False  # written by our own process


def _death(status: int, waited: bool) -> Result:
    if waited:
        return Result(f"hangs: no result in {WALL_SECONDS} s")
    if not os.WIFSIGNALED(status):
        return Result(f"ends its process with exit code {os.WEXITSTATUS(status)}")
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return Result(f"hangs: more than {CPU_SECONDS} s of one core")
    return Result(f"kills its process by {signal.Signals(number).name}")


def _read_all(read: Reader, mutants: Sequence[Mutant], refusals: tuple[type[Exception], ...], pipe: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.disable()  # a death is reported by the parent
    for mutant in mutants:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        packed = pickle.dumps(_one(read, mutant, refusals))
        os.write(pipe, struct.pack("<I", len(packed)) + packed)
    os._exit(0)


def _one(read: Reader, mutant: Mutant, refusals: tuple[type[Exception], ...]) -> Result:
    outcome, details = "read", ""

    def watched() -> None:
        nonlocal outcome, details
        try:
            read(*mutant)
        except refusals as error:
            outcome = f"refused: {getattr(error, 'code', type(error).__name__)}"
        except BaseException as error:
            outcome = f"raises {type(error).__name__}"
            details = "".join(traceback.format_exception(error))[-3000:]

    before = time.process_time()
    megabytes = growth(watched)
    if megabytes > MEGABYTES and not outcome.startswith("raises"):
        outcome = f"takes {megabytes:.0f} MB ({outcome})"
    return Result(outcome, details, megabytes, time.process_time() - before)
