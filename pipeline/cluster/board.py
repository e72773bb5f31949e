"""One small actor beside the driver, to which all workers of a job report.

It holds the book of attempts (`pipeline.common.attempts`), and hands work units to Ray Data one after another, so that
only a few wait there however long the manifest is.
"""

import asyncio
import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.annotations import RayDeprecationWarning

from pipeline.cluster.heartbeat import Heartbeats, Worker, beating
from pipeline.cluster.nodes import this_node
from pipeline.common.attempts import Answer, AttemptBook, Place, StageState
from pipeline.common.broken_device import end_process, is_device_failure
from pipeline.common.redaction import redacted
from pipeline.common.stage import Part, Stage
from pipeline.storage.explained import explained

logger = logging.getLogger(__name__)

LOST_UNIT_SECONDS = 60.0
"""If no unit is taken for so long, one more is handed out: one may have been lost on its way to a worker."""

BACK_OFF = 2.0
"""Seconds before a failed start is tried again; each further time takes four times as long."""


@ray.remote(num_cpus=0, max_restarts=0)
class Board:
    """See the module. All methods run in one thread, so that none of them needs a lock."""

    def __init__(self) -> None:
        self._book = AttemptBook(_is_alive)
        self._heartbeats = Heartbeats()
        self._changed = asyncio.Condition()
        self._units: deque[bytes] = deque()
        self._open, self._execution = False, 0
        self._fed, self._given, self._taken, self._ahead = False, 0, 0, 1

    # --- Units -------------------------------------------------------------------------------------------------

    async def open(self, ahead: int, postponed: int) -> None:
        """An execution begins; `ahead` units may wait for a worker. For `postponed` see `AttemptBook`."""
        self._book.forget_workers()
        self._heartbeats.forget()
        self._book.postponed = postponed
        self._units.clear()
        self._open, self._execution = True, self._execution + 1
        self._fed, self._given, self._taken, self._ahead = False, 0, 0, ahead

    async def offer(self, unit: bytes) -> None:
        """Add a unit; returns when there is room for the next one."""
        async with self._changed:
            self._units.append(unit)
            self._changed.notify_all()
            while self._open and len(self._units) >= self._ahead:
                await self._changed.wait()

    async def no_more(self) -> None:
        """All units were offered."""
        async with self._changed:
            self._fed = True
            self._changed.notify_all()

    async def close(self) -> None:
        """The execution is over."""
        async with self._changed:
            self._open, self._fed = False, True
            self._units.clear()
            self._changed.notify_all()

    async def is_open(self, execution: int) -> bool:
        """Whether this execution is under way."""
        return self._open and self._execution == execution

    async def next_unit(self) -> bytes | None:
        """The next unit, when workers have taken enough of those before; None at the end."""
        async with self._changed:
            while not self._units and not self._fed:
                await self._changed.wait()
            while self._units and self._given - self._taken >= self._ahead:
                taken = self._taken
                try:
                    await asyncio.wait_for(self._changed.wait(), LOST_UNIT_SECONDS)
                except TimeoutError:
                    if taken == self._taken:
                        self._taken += 1
            if not self._units:
                return None
            self._given += 1
            unit = self._units.popleft()
            self._changed.notify_all()
            return unit

    async def taken(self) -> None:
        """A worker of the first stage has taken a unit."""
        async with self._changed:
            self._taken += 1
            self._changed.notify_all()

    # --- Attempts: see `AttemptBook` ---------------------------------------------------------------------------

    async def arrive(self, stage: str, worker: str, place: Place, pid: int) -> tuple[str, int]:
        """A worker's process has started. Returns why it must not work (empty if it may), and its execution."""
        self._heartbeats.arrive(Worker(worker, stage, place, pid))
        return self._book.arrive(stage, worker, place), self._execution

    async def ready(self, stage: str, worker: str) -> None:
        """A worker is set up."""
        self._book.ready(stage, worker)

    async def unfit(self, stage: str, worker: str, reason: str) -> bool:
        """A worker could not be set up. Returns whether it is worth another try there."""
        return self._book.unfit(stage, worker, reason)

    async def begin(self, stage: str, worker: str, clip: str, alone: bool) -> Answer:
        """A worker wants to take a clip."""
        return self._book.begin(stage, worker, clip, alone=alone)

    async def end(self, stage: str, worker: str, clip: str) -> None:
        """An attempt has ended, and the worker is alive."""
        self._book.end(stage, worker, clip)

    async def beat(self, worker: str, parts: Mapping[str, Part]) -> None:
        """A worker's process runs, and has these items."""
        self._heartbeats.beat(worker, parts)

    async def under_way(self) -> dict[str, Part]:
        """How far the workers are with their items, by their reports."""
        return self._heartbeats.under_way()

    async def silent(self, seconds: float) -> list[Worker]:
        """Workers that have not reported for so long, each of them once; see `Heartbeats`."""
        return self._heartbeats.silent(seconds)

    async def states(self, stages: Sequence[str]) -> dict[str, StageState]:
        """How the workers of these stages are."""
        return {stage: self._book.state(stage) for stage in stages}


def start_board() -> Any:
    """A new board on the node of this process, which is not lost before the job is, and lives as long as its handle."""
    return Board.options(resources=this_node()).remote()  # type: ignore[attr-defined]


def _is_alive(node: str) -> bool:
    return any(found["NodeID"] == node and found["Alive"] for found in ray.nodes())


def _parts(stage: Stage) -> Mapping[str, Part]:
    try:
        return stage.under_way
    except Exception:  # a worker that works is not ended because it cannot say how far it is
        logger.debug("the progress of the stage %s is unknown", stage.name, exc_info=True)
        return {}


class WorkerAttempts:
    """`Attempts` of one worker process, which reports to a board."""

    def __init__(self, board: Any, stage: str) -> None:
        context = ray.get_runtime_context()
        warnings.simplefilter("ignore", RayDeprecationWarning)  # Ray 2.60 uses its own deprecated names
        self._board, self._stage, self._worker = board, stage, context.get_actor_id() or str(os.getpid())
        gpus = ",".join(context.get_accelerator_ids().get("GPU", ()))
        self._place = Place(context.get_node_id(), f"GPU {gpus}" if gpus else f"worker {self._worker}")
        self._restarted = context.was_current_actor_reconstructed

    def begin(self, clip: str, *, alone: bool) -> Answer:
        """See `Attempts`."""
        return ray.get(self._board.begin.remote(self._stage, self._worker, clip, alone))

    def end(self, clip: str) -> None:
        """See `Attempts`. Does not wait for the answer."""
        self._board.end.remote(self._stage, self._worker, clip)

    def took_unit(self) -> None:
        """The worker has taken a unit of the source. Does not wait for the answer."""
        self._board.taken.remote()

    def set_up(self, stage: Stage) -> bool:
        """Set the stage up, with a few tries. Returns False if the execution has ended meanwhile.

        A worker that cannot be set up, or whose place is sick, never gets work: a new one waits here until the
        execution ends, and thereby keeps its GPU from others, and a restarted one raises RuntimeError, so that Ray
        gives up its work unit.
        """
        arrived = self._board.arrive.remote(self._stage, self._worker, self._place, os.getpid())
        sick, execution = ray.get(arrived)
        beating(lambda: self._board.beat.remote(self._worker, _parts(stage)))
        tries = 0
        while not sick:
            try:
                stage.setup()
            except Exception as error:  # the worker is unfit, for whatever reason
                logger.exception("a worker of the stage %s could not be set up", self._stage)
                reason = redacted(explained(error))
                if ray.get(self._board.unfit.remote(self._stage, self._worker, reason)):
                    time.sleep(BACK_OFF * 4**tries)
                    tries += 1
                    if is_device_failure(error):
                        end_process("its GPU failed")  # only a new process can use it again
                else:
                    sick = reason
            else:
                ray.get(self._board.ready.remote(self._stage, self._worker))
                return True
        logger.error("this worker of the stage %s gets no work: %s", self._stage, sick)
        if self._restarted:
            raise RuntimeError(sick)
        while ray.get(self._board.is_open.remote(execution)):
            time.sleep(1.0)
        return False
