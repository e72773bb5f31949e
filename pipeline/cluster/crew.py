"""The driver's eye on the workers of an execution: it reports those that do not start, and ends what cannot go on."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import ray

from pipeline.cluster import heartbeat
from pipeline.common.attempts import StageState
from pipeline.common.errors import WorkersLostError
from pipeline.common.native_stderr import native_stderr_without
from pipeline.common.stage import Part, Pool

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the driver looks at the workers while no result arrives."""

PENDING_SECONDS = 60.0
"""After so long, workers that have not started are reported."""

RESTART_WARNING = r"core_worker\.cc:\d+: .* has constructor arguments in the object store and max_restarts > 0"
"""A line that Ray 2.60 writes as an error when a process creates its first actor that may be restarted and gets
references, which all actors of Ray Data do (https://github.com/ray-project/ray/issues/53727). It does not concern us:
the driver holds these references as long as the actors live, and their objects are on its own node.
"""

T = TypeVar("T")


class Crew:
    """The workers of an execution, as their board knows them."""

    def __init__(self, board: Any, pools: Sequence[Pool]) -> None:
        self._board, self._pools = board, pools
        self._begun, self._told_pending = time.monotonic(), False
        self.under_way: Mapping[str, Part] = {}
        """How far the workers are with the clips that they have."""
        self._told_sick: set[tuple[str, Any]] = set()

    def look(self) -> None:
        """Report what has changed, and end workers that stand still.

        Raises WorkersLostError if a stage has no worker left that can work.
        """
        self.under_way = ray.get(self._board.under_way.remote(), timeout=60)
        for worker in ray.get(self._board.silent.remote(heartbeat.SILENT_SECONDS), timeout=60):
            logger.warning(
                "a worker of the stage %s (process %d, %s on node %s) has not reported for %.0f s: it is ended, and "
                "a new one continues",
                *(worker.stage, worker.pid, worker.place.device, worker.place.node, heartbeat.SILENT_SECONDS),
            )
            heartbeat.end(worker)
        states: dict[str, StageState] = ray.get(
            self._board.states.remote([pool.stage.name for pool in self._pools]), timeout=60
        )
        for pool in self._pools:
            stage, state = pool.stage.name, states[pool.stage.name]
            for place, why in state.sick.items():
                if (stage, place) not in self._told_sick:
                    self._told_sick.add((stage, place))
                    logger.warning(
                        "%s on node %s gets no more work of the stage %s: %s",
                        *(place.device, place.node, stage, why),
                    )
            if state.arrived >= pool.workers and not state.fit and state.sick:
                reasons = "; ".join(dict.fromkeys(state.sick.values()))
                raise WorkersLostError(
                    f"no worker of the stage {stage} can work ({reasons}): see the workers' logs, and run the same "
                    "command again on other nodes"
                )
        if not self._told_pending and time.monotonic() - self._begun > PENDING_SECONDS:
            self._told_pending = True
            for pool in self._pools:
                missing = pool.workers - states[pool.stage.name].arrived
                if missing > 0:
                    logger.warning("%s", _pending(pool, missing))


def _pending(pool: Pool, missing: int) -> str:
    need, free = pool.stage.resources, ray.available_resources()
    return (
        f"{missing} of {pool.workers} workers of the stage {pool.stage.name} have not started after "
        f"{PENDING_SECONDS:.0f} s: each needs {need.cpus:g} CPUs and {max(need.gpus, 0):g} GPUs on one node, and "
        f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free in the whole cluster. The others work; "
        "another job may hold the rest, or nodes are still starting"
    )


def looked_after(results: Iterator[T], look: Callable[[], None]) -> Iterator[T]:
    """Yield results that another thread waits for, and call `look` every few seconds, also while none arrives."""
    found: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=4)
    over = threading.Event()

    def put(ended: bool, value: Any) -> None:
        while not over.is_set():
            try:
                found.put((ended, value), timeout=1.0)
            except queue.Full:
                continue
            return

    def wait() -> None:
        try:
            for result in results:
                put(False, result)
        except BaseException as error:  # raised below
            put(True, error)
        else:
            put(True, None)

    threading.Thread(target=wait, name="results", daemon=True).start()
    looked = time.monotonic()
    try:
        while True:
            try:
                ended, value = found.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                ended, value = False, None
            else:
                if ended and value is not None:
                    raise value
                if ended:
                    return
                yield value
            if time.monotonic() - looked >= LOOK_SECONDS:
                look()
                looked = time.monotonic()
    finally:
        over.set()


def stopper(dataset: Any) -> Callable[[], None]:
    """A function that stops the execution of a data set, wherever it is; call this before it begins.

    Ray Data has no public way to stop an execution from another thread than the one that waits for its results. Its
    actors are created without `RESTART_WARNING`.
    """
    executors: list[Any] = []
    create = dataset._create_executor

    def created() -> Any:
        executor = create()
        execute = executor.execute

        def executed(*arguments: Any, **named: Any) -> Any:
            with native_stderr_without(RESTART_WARNING):
                return execute(*arguments, **named)

        executor.execute = executed
        executors.append(executor)
        return executor

    dataset._create_executor = created

    def stop() -> None:
        for executor in executors:
            executor.shutdown(force=True)

    return stop
