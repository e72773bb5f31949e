"""Ray Train: the workers of a training run. The only file that knows it.

Each worker runs `pipeline.training.run`; Ray starts them, joins them in a process group, keeps their checkpoints in the
output, and starts all of them again from the last checkpoint when one dies or, where the number is elastic, when
nodes come or go. A checkpoint that was reported in the last seconds before a death may be lost.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster.nodes import wait_for_nodes
from pipeline.errors import ClusterError
from pipeline.redaction import redacted
from pipeline.storage import filesystem, is_local
from pipeline.training.run import CHECKPOINTS, TrainJob, run_worker
from pipeline.training.settings import WorkerSettings
from pipeline.training.world import World, set_threads


class TrainingError(RuntimeError):
    """The workers could not go on; the message has the error of the first of them."""


def plan_workers(workers: WorkerSettings, resources: dict[str, float]) -> ScalingConfig:
    """Ray's configuration for the workers; `resources` as `ray.cluster_resources()` has them.

    Raises ClusterError where it cannot hold the least number.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    each = workers.gpus if workers.gpus >= 0 else float(gpus >= 1)
    number = workers.number or (max(1, int(gpus // each)) if each else 1)
    least = workers.least or number
    if least * workers.cpus > cpus or least * each > gpus:
        raise ClusterError(
            f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs, and {least} workers need {least * workers.cpus:g} and "
            f"{least * each:g}: add nodes, or lower workers.number, workers.least, workers.cpus or workers.gpus"
        )
    wanted = {"CPU": workers.cpus} | ({"GPU": each} if each else {})
    return ScalingConfig(
        num_workers=(least, number) if least < number else number,
        use_gpu=each > 0,
        resources_per_worker=wanted,
    )


class _Lines:
    """An actor that workers give their lines to: Ray would print them with a prefix, among lines of its own."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


@contextmanager
def _passed_on(say: Callable[[str], None]) -> Iterator[Any]:
    """Gives the handle of a `_Lines` whose lines are said here, a second later at most."""
    # On this node: on another one it would be lost with it, and the run would go on without a word.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines = ray.remote(num_cpus=0, scheduling_strategy=here)(_Lines).remote()
    ended = threading.Event()

    def pass_on() -> None:
        while True:
            last = ended.wait(1.0)
            for line in ray.get(lines.take.remote()):
                say(line)
            if last:
                return

    thread = threading.Thread(target=pass_on, name="lines of workers", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        thread.join(timeout=10)


def wait_for_workers(workers: WorkerSettings, minutes: float) -> ScalingConfig:
    """`plan_workers` on the connected cluster; one that is too small gets `minutes` to grow. Raises ClusterError.

    A cluster that starts nodes by itself is asked for them, where the settings name number and GPUs.
    """
    each = {"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus > 0 else {})
    bundles = [each] * workers.number if workers.gpus >= 0 else []
    return wait_for_nodes(lambda resources: plan_workers(workers, resources), minutes, bundles)


def fit(
    job: TrainJob, scaling: ScalingConfig, *, keep: int, max_failures: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Train on the connected cluster; returns the last figures. Raises TrainingError.

    `keep`: checkpoints; `max_failures`: of workers, before the run ends; `say` gets the lines of the first worker.
    """
    with _passed_on(say) as lines:
        return _fit(job, scaling, keep, max_failures, lines)


def _fit(job: TrainJob, scaling: ScalingConfig, keep: int, max_failures: int, lines: Any) -> dict[str, float]:
    fs, path = filesystem(job.output)
    # Our own client, so that endpoint and credentials are the ones of everything else. The stubs call it abstract.
    remote = None if is_local(job.output) else PyFileSystem(FSSpecHandler(fs))  # type: ignore[abstract]
    trainer = ray.train.torch.TorchTrainer(
        functools.partial(_work, job, lines),
        scaling_config=scaling,
        run_config=RunConfig(
            name=CHECKPOINTS,  # a run of this name goes on from the last checkpoint in its folder
            storage_path=path,
            storage_filesystem=remote,
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=keep),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        first = next(iter(failures.values()), error)
        raise TrainingError(redacted(f"{type(first).__name__}: {first}")) from error
    return {name: value for name, value in (result.metrics or {}).items() if isinstance(value, int | float)}


def _work(job: TrainJob, lines: Any) -> None:
    context = ray.train.get_context()
    set_threads(job.cpus)
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())

    def save(folder: Path | None, figures: dict[str, float]) -> None:
        checkpoint = None if folder is None else Checkpoint.from_directory(folder)
        ray.train.report(figures, checkpoint=checkpoint)  # waits for all workers, and for the upload

    def say(line: str) -> None:
        lines.add.remote(line)

    known = ray.train.get_checkpoint()
    if known is None:
        run_worker(job, world, None, save, say)
        return
    with known.as_directory() as folder:
        run_worker(job, world, Path(folder), save, say)
