"""Work on files of strangers in a child process, because nothing else stops a library call that does not return.

A decoder may loop in native code, where neither a thread nor a signal of Python reaches it, and may hold Python's lock
meanwhile, so that not even a watchdog of its own process runs. So whatever decodes is called through `in_child`: the
child gets a function and its arguments, sends back the result or the exception, and is killed when its time is up. The
other clips then get another child. A decoder that crashes takes only its child with it.

The limit follows the length of what was decoded, which readers report (`child_main.tell_decoded`). What a header
declares does not count.

A process keeps its idle children for the next calls, because starting one takes a second. A child ends when its parent
does, in whatever way: the kernel sends it a signal when the other end of a pipe is closed.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar, TypeVarTuple, cast

from pipeline.common.child_main import BEGUN, DECODED, RETURNED
from pipeline.common.errors import ClipError

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

LEAST_SECONDS = 120.0
"""Limit for what decodes nothing. An image of 100 megapixels takes about 4 s."""
SECONDS_PER_SECOND = 30.0
"""Added for each second of decoded sound or pictures; pictures that networks look at are the slowest."""
START_SECONDS = 300.0
"""Limit for the start of a child and its imports, which a slow network disk delays."""
LOOK_SECONDS = 1.0
"""How often a waiting parent looks at the clock."""
TRIES = 2
"""A child that died may have been killed for the memory of others, so another one tries the same work once more."""
MOST_MINUTES = 240.0
"""Upper limit where a stage has no setting for it."""
KILLED = ("timed_out", "worker_died")
"""Codes of what `in_child` itself raises."""
NAME_OF_TEST = "PYTEST_CURRENT_TEST"
"""Set by pytest in its own process, to another value in each test: no reason for another child."""


class _DiedError(Exception):
    """A child ended without an answer."""


class _Child:
    """One child process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        near, far = socket.socketpair()
        watched, self._lifeline = os.pipe()
        code = "from pipeline.common.child_main import main; main()"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(far.fileno()), str(watched)],
                pass_fds=(far.fileno(), watched),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                process_group=0,  # Ctrl-C is for the parent, which then ends the child
            )
        finally:
            far.close()
            os.close(watched)
        self._connection = Connection(near.detach())

    def call(self, work: Callable[..., object], arguments: tuple[object, ...], minutes: float) -> tuple[bool, Any]:
        """(True, result) or (False, exception) of the work. Raises ClipError timed_out, and _DiedError."""
        decoded = 0.0
        try:
            self._connection.send((work, arguments))
            kind, value = self._wait(lambda: START_SECONDS)
            start = time.monotonic()  # it has the arguments now, and has imported the function
            while kind in (BEGUN, DECODED):
                decoded = value
                kind, value = self._wait(partial(allowed_seconds, decoded, minutes), start)
            return kind == RETURNED, value
        except TimeoutError:
            raise ClipError(
                "timed_out",
                f"reading it did not end within {allowed_seconds(decoded, minutes):.0f} s, in which {decoded:.1f} s of "
                "sound or pictures were decoded, so it was stopped: the file is probably damaged; export it again",
            ) from None
        except (EOFError, OSError) as error:
            raise _DiedError from error

    def _wait(self, allowed: Callable[[], float], start: float | None = None) -> tuple[str, Any]:
        """The next message. Raises TimeoutError if it does not come, and EOFError or OSError if the child died."""
        start = time.monotonic() if start is None else start
        while (left := start + allowed() - time.monotonic()) > 0:
            if self._connection.poll(min(LOOK_SECONDS, left)):
                return self._connection.recv()
        raise TimeoutError

    def kill(self) -> str:
        """End the child at once, whatever it does; returns how it ended, in words."""
        self._process.kill()
        code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"

    def close(self) -> None:
        """End the child, if it is idle in its own time, and free what belongs to it."""
        self._connection.close()
        try:
            self._process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def allowed_seconds(decoded: float, minutes: float) -> float:
    """Limit for work that has decoded so many seconds up to now."""
    return min(60 * minutes, LEAST_SECONDS + SECONDS_PER_SECOND * decoded)


class _Children:
    """The children of this process. Thread-safe."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._lock = threading.Lock()
        self._stops = 0

    def call(self, work: Callable[..., object], arguments: tuple[object, ...], minutes: float) -> tuple[bool, Any]:
        stops, end = self._stops, ""
        for _ in range(TRIES):
            child = self._taken()
            kept = False
            try:
                answer = child.call(work, arguments, minutes)
                kept = True
                return answer
            except _DiedError:
                end = child.kill()
                if self._stops != stops:
                    raise InterruptedError("the work was stopped") from None
            finally:
                self._given_back(child, kept and self._stops == stops)
        raise ClipError(
            "worker_died",
            f"the process that reads files died {TRIES} times with it ({end}): the file is probably damaged, or this "
            "machine has too little memory; export the file again, or use a machine with more memory",
        )

    def _taken(self) -> _Child:
        """A child with the environment that this process has now, which may have changed since others were started."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        environment.pop(NAME_OF_TEST, None)
        with self._lock:
            idle, self._idle = self._idle, [child for child in self._idle if child.environment == environment]
            others = [child for child in idle if child not in self._idle]
            child = self._idle.pop() if self._idle else _Child(environment)
            self._busy.add(child)
        for other in others:
            other.close()
        return child

    def _given_back(self, child: _Child, good: bool) -> None:
        with self._lock:
            self._busy.discard(child)
            if good:
                self._idle.append(child)
        if not good:
            child.kill()
            child.close()

    def stop(self) -> None:
        with self._lock:
            self._stops += 1
            idle, self._idle = self._idle, []
            for child in self._busy:  # who waits for it closes it
                child.kill()
        for child in idle:
            child.close()


_children = _Children()
atexit.register(_children.stop)


def in_child(work: Callable[[*Ts], R], *arguments: *Ts, minutes: float = MOST_MINUTES) -> R:
    """`work(*arguments)`, computed in a child process; `work` is a function at the top of a module.

    `minutes` is the upper limit. Raises what the work raises, and ClipError timed_out, or worker_died if the child
    crashed. If the wait is interrupted, the child is killed.
    """
    returned, value = _children.call(work, arguments, minutes)
    if not returned:
        raise cast(Exception, value)
    return cast(R, value)


def stop_children() -> None:
    """Kill the children of this process, also those that other threads wait for: these get InterruptedError."""
    _children.stop()
