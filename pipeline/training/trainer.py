"""Ray Train: the workers of a training run. This is the only file that knows Ray Train.

Each worker runs `pipeline.training.run`. Ray starts them, joins them in a process group, and restarts all of them if
one dies or, with an elastic number, if nodes come or go. Ray does not handle the checkpoints: its controller looks at
the workers every two seconds, and would forget what they report between its last look and a death. Workers find the
newest checkpoint in the output themselves (`pipeline.training.checkpoint`).
"""

import functools
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster.nodes import wait_for_nodes
from pipeline.common.errors import ClusterError
from pipeline.common.redaction import redacted
from pipeline.storage.explained import explained
from pipeline.storage.objects import read_bytes, remove, write_bytes
from pipeline.storage.uris import join
from pipeline.training.run import TrainingError, TrainJob, run_worker
from pipeline.training.settings import WorkerSettings
from pipeline.training.world import World, set_threads


def plan_workers(workers: WorkerSettings, resources: dict[str, float]) -> ScalingConfig:
    """Ray's configuration for the workers; `resources` are in the form of `ray.cluster_resources()`.

    Raises ClusterError if the cluster cannot hold the smallest number.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    each = workers.gpus if workers.gpus >= 0 else float(gpus >= 1)
    number = workers.number or (max(1, int(gpus // each)) if each else 1)
    least = workers.least or number
    if least * workers.cpus > cpus or least * each > gpus:
        raise ClusterError(
            f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs, but {least} workers need {least * workers.cpus:g} CPUs "
            f"and {least * each:g} GPUs: add nodes, or lower workers.number, workers.least, workers.cpus or "
            "workers.gpus"
        )
    wanted = {"CPU": workers.cpus} | ({"GPU": each} if each else {})
    return ScalingConfig(
        num_workers=(least, number) if least < number else number,
        use_gpu=each > 0,
        resources_per_worker=wanted,
    )


@contextmanager
def _passed_on(say: Callable[[str], None]) -> Iterator[Queue]:
    """Yields a queue whose lines are printed here: Ray would print them with a prefix, among its own lines."""
    # On this node: if it were on another node and got lost with it, the run would continue silently.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def pass_on() -> None:
        while (line := lines.get()) is not None:
            say(line)

    thread = threading.Thread(target=pass_on, name="lines of workers", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        with suppress(ray.exceptions.RayError):  # the cluster is gone, which is reported elsewhere
            lines.put(None)
        thread.join(timeout=10)


def wait_for_workers(workers: WorkerSettings, minutes: float) -> ScalingConfig:
    """`plan_workers` for the connected cluster; a cluster that is too small has `minutes` to grow. Raises ClusterError.

    An autoscaling cluster is asked for the nodes, if the settings give the number of workers and GPUs.
    """
    each = {"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus > 0 else {})
    bundles = [each] * workers.number if workers.gpus >= 0 else []
    return wait_for_nodes(lambda resources: plan_workers(workers, resources), minutes, bundles)


Work = Callable[[TrainJob, World, Callable[[str], None]], None]
"""What each worker does: `run_worker`."""

MARK = "workers.mark"
"""File in the output by which workers check that they see the same output as the driver."""


def fit(
    job: TrainJob, scaling: ScalingConfig, *, max_failures: int, say: Callable[[str], None], work: Work = run_worker
) -> None:
    """Train on the connected cluster, from the newest checkpoint of the output. Raises TrainingError.

    `max_failures` is the number of worker failures that end the run; `say` gets the lines of the first worker.
    """
    mark = join(job.output, MARK)
    # Ray needs a folder for itself; what it writes there is not used afterwards.
    with _passed_on(say) as lines, tempfile.TemporaryDirectory(prefix="floatcast-") as scratch:
        write_bytes(b"", mark)
        trainer = ray.train.torch.TorchTrainer(
            functools.partial(_work, job, lines, work),
            scaling_config=scaling,
            run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=max_failures)),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {})
            first = next(iter(failures.values()), error)
            raise TrainingError(redacted(explained(first))) from error
        finally:
            remove(mark)


def _work(job: TrainJob, lines: Queue, work: Work) -> None:
    context = ray.train.get_context()
    set_threads(job.cpus)
    if read_bytes(join(job.output, MARK)) is None:
        raise ClusterError(f"this node cannot see the output {job.output}: give a folder that all nodes share")
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    try:
        work(job, world, lines.put)
    except Exception as error:  # Ray passes an exception on without the place that it comes from
        raise ClusterError(explained(error)) from error
