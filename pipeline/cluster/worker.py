"""What runs in a worker's process: a stage, through which one unit after another passes.

This imports neither Ray Data nor PyTorch, so that a process loads what its stage needs and nothing else.
"""

import os
import pickle
from typing import TYPE_CHECKING, Any, cast

import ray

from pipeline.cluster.board import WorkerAttempts
from pipeline.cluster.work_units import Unit
from pipeline.common.attempts import PutOff
from pipeline.common.stage import Stage

if TYPE_CHECKING:
    from pipeline.cluster.metrics import RenderMetrics
    from pipeline.render.render_stage import RenderStage


class Worker:
    """One actor of a pool: it sets up the stage in its process and passes one unit after another through it."""

    def __init__(self, stage: Stage, board: Any, first: bool) -> None:
        """`first` says that units come from the board, which is told when they are taken."""
        if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
            # Ray 2.60 leaves all GPUs of a node visible to an actor that asked for none, unless the node was started
            # with RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1. CUDA reads this variable when it is first used.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._stage, self._first = stage, first
        self._attempts = stage.attempts = WorkerAttempts(board, stage.name)
        self._ready = self._attempts.set_up(stage)
        self._metrics = _metrics_of(stage) if self._ready else None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """A unit with items -> a unit with their results."""
        if self._first:
            self._attempts.took_unit()
        if not self._ready:  # the execution is over, and the unit has no result
            return {"unit": pickled(Unit([]))}
        results = list(self._stage.process(unpack(row).items))
        if self._metrics is not None:
            self._metrics.count([result for result in results if not isinstance(result, PutOff)])
        return {"unit": pickled(Unit(results))}


def _metrics_of(stage: Stage) -> "RenderMetrics | None":
    if not hasattr(stage, "queued_frames"):
        return None  # it renders nothing
    from pipeline.cluster.metrics import RenderMetrics  # imports PyTorch

    return RenderMetrics(cast("RenderStage", stage))


def worker_of(stage: Stage) -> type[Worker]:
    """`Worker` under a name with the stage's, which Ray shows in its dashboard and in the process list."""
    return type(f"{stage.name.title()}Worker", (Worker,), {})


def pickled(unit: Unit) -> bytes:
    """As it travels between processes."""
    return pickle.dumps(unit)


def unpack(row: dict[str, bytes]) -> Unit:
    """The unit in a row of a data set."""
    return pickle.loads(row["unit"])  # written by this job's own processes, never by a user
