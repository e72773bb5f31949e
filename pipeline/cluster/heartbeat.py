"""Workers report every few seconds, so that the driver notices one whose process stands still.

A process that was stopped (SIGSTOP, a debugger), or that hangs in a library call that never lets Python's threads run,
neither dies nor reaches its own time limit (`pipeline.common.watchdog`), and Ray waits for it without end. The driver
ends such a process; Ray then starts a new one, which continues with the unit. Ray itself notices a whole machine that
stands still.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipeline.cluster.nodes import resource_of
from pipeline.common.attempts import Place
from pipeline.common.stage import Part

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""How often a worker reports."""

SILENT_SECONDS = 120.0
"""After so long without a report a process stands still: room for machines that are overloaded, and for libraries that
keep Python's threads waiting while they load a model.
"""


@dataclass(frozen=True)
class Worker:
    """A worker's process."""

    name: str
    """Id of its actor, which stays the same when Ray starts the process again."""
    stage: str
    place: Place
    pid: int


class Heartbeats:
    """When each worker reported last, by the clock of the one process that holds this, and what it has in work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._last: dict[str, float] = {}
        self._parts: dict[str, Mapping[str, Part]] = {}
        self._asked = clock()

    def arrive(self, worker: Worker) -> None:
        """A process has started."""
        self._workers[worker.name] = worker
        self._last[worker.name] = self._clock()
        self._parts.pop(worker.name, None)

    def beat(self, name: str, parts: Mapping[str, Part]) -> None:
        """The process of this worker runs, and has these items. Reports of workers that are unknown here do not
        count.
        """
        if name in self._workers:
            self._last[name], self._parts[name] = self._clock(), parts

    def under_way(self) -> dict[str, Part]:
        """How far the workers are with their items."""
        return {item: part for parts in self._parts.values() for item, part in parts.items()}

    def silent(self, seconds: float) -> list[Worker]:
        """Workers that have not reported for so long; each is named once, and then forgotten until it starts again.

        If nobody has asked for half of that time, this machine itself may have stood still: all get the time anew.
        """
        now, before = self._clock(), self._asked
        self._asked = now
        if now - before > seconds / 2:
            self._last = dict.fromkeys(self._last, now)
            return []
        found = [self._workers[name] for name, last in self._last.items() if now - last > seconds]
        for worker in found:
            del self._workers[worker.name], self._last[worker.name]
            self._parts.pop(worker.name, None)
        return found

    def forget(self) -> None:
        """The workers of an execution are gone."""
        self._workers.clear()
        self._last.clear()
        self._parts.clear()
        self._asked = self._clock()


def beating(beat: Callable[[], Any]) -> None:
    """Call `beat` every few seconds in a thread, as long as this process lives."""

    def report() -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            try:
                beat()
            except Exception:  # the board is gone, and with it the job
                logger.debug("no heartbeat", exc_info=True)

    threading.Thread(target=report, name="heartbeat", daemon=True).start()


def end(worker: Worker) -> None:
    """End the process of a worker on its machine, without waiting for it. Nothing happens if the machine is gone."""
    if any(node["NodeID"] == worker.place.node and node["Alive"] for node in ray.nodes()):
        _kill.options(resources=resource_of(worker.place.node)).remote(worker.pid)


@ray.remote(num_cpus=0, max_retries=0)
def _kill(pid: int) -> None:
    title = Path(f"/proc/{pid}/cmdline")
    if title.exists() and b"ray::" not in title.read_bytes():
        return  # the worker has died meanwhile, and its number belongs to another process
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # the only signal that a stopped process cannot put off
