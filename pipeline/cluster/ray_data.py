"""Stages on Ray Data, each in its own pool of actors. Units come from `feed`; tables are read by `manifest_data` and
written by `video_data`.

    units --> Features: CPU actors (features.device=gpu: on shares of GPUs)
          --> Render: GPU actors (CPU actors without GPUs)
          --> Quality control: CPU actors --> status rows

Design decisions and their reasons:

- One work unit = one row = one block: Ray Data retries whole blocks, and a block with a whole manifest would repeat the
  whole night. Units are short lists of clips of similar length, the longest first.
- A unit travels as one pickled value: for nested, variable-size arrays Arrow would infer a type for each block, and
  would lose tuples and None on the way.
- Units are read from a source that waits for the workers (`pipeline.cluster.feed`), so that the memory of the driver
  does not grow with the manifest.
- Decoded frames never enter the object store; render actors return only status rows.
- Pools have a fixed size: an unbounded pool takes every CPU, and the next stage never starts.
- Retries are finite: the default for actors is infinite, and a worker that dies for a reason of its own would loop for
  ever. All workers report to one board (`pipeline.cluster.board`), which finds clips that kill their workers, and
  places where workers die whatever they have.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from pipeline.cluster import manifest_data, video_data
from pipeline.cluster.board import start_board
from pipeline.cluster.crew import Crew, looked_after, stopper
from pipeline.cluster.feed import Feeder, read_units
from pipeline.cluster.nodes import can_start_gpus, wait_for_nodes
from pipeline.cluster.placement import Demand, Strategies, nodes_of, place
from pipeline.cluster.pools import Pools, gpus_per_worker, plan_pools
from pipeline.cluster.work_units import Unit
from pipeline.cluster.worker import pickled, unpack, worker_of
from pipeline.common.attempts import POSTPONED, PutOff
from pipeline.common.errors import ClusterError, RefusedError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.stage import Part, Pool, Resources, Stage
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings

logger = logging.getLogger(__name__)

R = TypeVar("R")

RETRIES = 10
"""How often a unit is tried again after its worker has died. The book of attempts ends this sooner, because it puts off
clips that workers died with, so a unit finishes unless it contains many such clips.
"""

RESTARTS = 1000
"""How often an actor's process is restarted: a night on spot instances may need many. The board ends restarts at a
place where workers do not start; this is for a worker that dies before it can report.
"""

REPLACEMENTS = 20
"""How many actors in a row that fail in their constructor are replaced, without one that begins to work."""


AHEAD = 32
"""So many units at least wait for workers: each takes a tenth of a second from the board to a worker."""


class RayExecutor:
    """Runs stages on the cluster to which this process is connected."""

    def __init__(self, retries: int = RETRIES) -> None:
        """`retries`: times that a unit is tried again after its worker died."""
        self._retries = retries
        self._board: Any = None
        self._crew: Crew | None = None

    @property
    def cpus(self) -> int:
        """CPUs of the cluster, at least 1."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def pools(
        self, features: FeatureSettings, render: EngineSettings, qc: QcSettings, minutes: float, *, small: bool = True
    ) -> Pools:
        """`plan_pools` for the cluster; a cluster that is too small has `minutes` to grow. Raises ClusterError.

        An autoscaling cluster is asked for what the pools need, if the settings name their sizes.
        """
        bundles: list[dict[str, float]] = []
        startable = can_start_gpus()
        if features.workers and render.workers:
            share = {"GPU": features.num_gpus} if features.device == "gpu" else {}
            each = gpus_per_worker(render, 0.0, startable=startable or not small, small=small)
            gpus = {"GPU": each} if each > 0 else {}
            bundles += [{"CPU": features.num_cpus} | share] * features.workers
            bundles += [{"CPU": qc.num_cpus}] * (qc.workers if qc.enabled else 0)
            bundles += [{"CPU": render.num_cpus} | gpus] * render.workers

        def planned(resources: dict[str, float]) -> Pools:
            nodes = nodes_of(ray.nodes())
            with_gpus = sum(node.cpus for node in nodes if node.has_gpus)
            pools = plan_pools(
                *(features, render, qc, resources), startable=startable, small=small, cpus_of_gpu_nodes=with_gpus
            )
            place(nodes, _demands(pools))
            return pools

        return wait_for_nodes(planned, minutes, bundles)

    def run_stage(self, units: Sequence[Unit], stage: Stage, workers: int = 0) -> Iterator[Any]:
        """Run a single stage in `workers` actors, and yield its results as units end. Raises ClusterError.

        0 workers means as many as fit the cluster's CPUs (and GPUs), but not more than there are units. A unit that
        dies more often than it is retried yields nothing.
        """
        have, need = ray.cluster_resources(), _resolved(stage.resources)
        room = []
        for what, each in (("CPU", need.cpus), ("GPU", need.gpus)):
            if max(workers, 1) * each > have.get(what, 0):
                raise ClusterError(
                    f"the cluster has {have.get(what, 0):g} {what}s, but {max(workers, 1)} actors with {each:g} "
                    f"{what}s each need more: lower workers or num_{what.lower()}s, or add nodes"
                )
            if each:
                room.append(int(have[what] // each))
        workers = min(workers or min(room), max(1, len(units)))
        yield from self.run(units, [Pool(stage, workers)])

    def extend(
        self, dataset: Dataset, pools: Sequence[Pool], rows_of: Callable[[list[Any]], list[dict[str, Any]]], size: int
    ) -> Dataset:
        """Extend a user's data set of rows by stages and return the data set of their results, made by `rows_of`.

        It is lazy.

        `size` rows make a unit. A unit that dies more often than it is retried raises an error or is left out, as the
        data set's own `DataContext.max_errored_blocks` says. Raises RefusedError for anything but a Ray data set.
        """
        if not isinstance(dataset, Dataset):
            raise RefusedError(f"expected a ray.data.Dataset, got {type(dataset).__name__}")
        dataset.context.execution_no_progress_timeout_s = -1  # as in `run`
        units = dataset.map_batches(_unit_of, batch_size=size, batch_format="pyarrow")
        results = self._through(units, pools, self._open_board(ahead=1, postponed=1))  # nothing is offered again
        return results.flat_map(lambda row: rows_of(unpack(row).items))

    def _through(self, dataset: Dataset, pools: Sequence[Pool], board: Any) -> Dataset:
        """Pass units through each stage, in its own actors, each on the node on which it was placed."""
        needs = [_resolved(pool.stage.resources) for pool in pools]
        demands = [
            Demand(pool.stage.name, pool.workers, need.cpus, need.gpus) for pool, need in zip(pools, needs, strict=True)
        ]
        try:
            placed = place(nodes_of(ray.nodes()), demands)
        except ClusterError as error:
            # A node may be gone since `pools` checked, or a stage alone has more workers than the nodes hold: the
            # actors that fit still do the work.
            logger.warning("Ray places the actors of this execution: %s", error)
            placed = [[] for _ in pools]
        # Ray 2.60 deprecates remote arguments in `map`, but has no other way yet to limit the retries of an actor.
        warnings.filterwarnings("ignore", category=RayDeprecationWarning)
        for number, (pool, need, node_ids) in enumerate(zip(pools, needs, placed, strict=True)):
            dataset = dataset.map(
                worker_of(pool.stage),
                fn_constructor_args=(pool.stage, board, number == 0),
                compute=_actors(pool.workers, pool.units),
                num_cpus=need.cpus,
                num_gpus=need.gpus,
                # Ray places an actor that needs nothing on any node, the head too, whatever its node affinity says.
                memory=None if need.cpus or need.gpus else 1,
                ray_remote_args_fn=Strategies(node_ids),
                max_restarts=RESTARTS,
                max_task_retries=self._retries,
            )
        return dataset

    def run(self, units: Sequence[Unit], pools: Sequence[Pool]) -> Iterator[Any]:
        """Yield the results of the last stage as units end.

        A unit whose worker is given up, or that dies more often than it is retried, yields nothing: compare with the
        plan, and run what is missing again. Raises WorkersLostError if a stage has no worker left that can work.
        """
        if not units:
            return
        board = self._open_board(ahead=max(AHEAD, 2 * pools[0].workers * pools[0].units))
        dataset = self._through(read_units(board), pools, board)
        context = dataset.context
        context.enable_progress_bars = False  # jobs show their own, in clips and seconds of video
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # Ray writes plans and statistics to its own log files
        context.execution_no_progress_timeout_s = -1  # a long clip is not a stall: our watchdog ends what hangs
        context.max_errored_blocks = -1  # a unit that keeps killing its worker must not end the others
        # A restarted worker whose GPU is sick gives up in its constructor (`WorkerAttempts.set_up`), be it before it
        # ever worked: another one takes its place. If no worker is left, `crew` ends the execution.
        context.max_consecutive_actor_init_deaths = REPLACEMENTS
        feeder = Feeder(board, units, pickled)
        self._crew = crew = Crew(board, pools)
        stop = stopper(dataset)
        try:
            # Each block is taken when it ends: `iter_rows` looks ahead, and would hold back a unit's results until the
            # next one ends.
            for block in looked_after(_blocks(dataset), crew.look):
                if feeder.error is not None:
                    raise feeder.error
                for unit in block["unit"].to_pylist():
                    results = unpack({"unit": unit or b""}).items
                    feeder.ended([result.item for result in results if isinstance(result, PutOff)])
                    yield from (result for result in results if not isinstance(result, PutOff))
        finally:
            with contextlib.suppress(RayError):  # the board may be what has failed
                feeder.close()
            stop()
            self._crew = None

    def under_way(self) -> Mapping[str, Part]:
        """How far the workers are with their items: they report every few seconds, with their heartbeats."""
        return {} if self._crew is None else self._crew.under_way

    def map_rows(self, uri: str, work: Callable[[list[Any]], R], most: int = MAX_ROWS) -> Iterator[R]:
        """What `work` makes of each part of a manifest's raw rows, in their order, each part in a task."""
        return manifest_data.map_rows(uri, work, most)

    def write_videos(self, table: str, folder: str) -> None:
        """Write the rows of a table with their videos into a dataset, with many tasks."""
        video_data.write_videos(table, folder)

    def _open_board(self, ahead: int, postponed: int = POSTPONED) -> Any:
        if self._board is None:
            self._board = start_board()
        ray.get(self._board.open.remote(ahead, postponed))
        return self._board


def _blocks(dataset: Dataset) -> Iterator[pa.Table]:
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _unit_of(table: pa.Table) -> dict[str, list[bytes]]:
    return {"unit": [pickled(Unit(table.to_pylist()))]}


def _demands(pools: Pools) -> list[Demand]:
    """What the pools of a rendering job require from the nodes."""
    found = [
        Demand("feature", pools.features.workers, pools.features.num_cpus, pools.features.num_gpus),
        Demand("render", pools.render.workers, pools.render.num_cpus, pools.render.num_gpus),
    ]
    return found + [Demand("quality control", pools.qc.workers, pools.qc.num_cpus, 0.0)] * pools.qc.enabled


def _resolved(need: Resources) -> Resources:
    """Replace -1 by one GPU if the cluster has any."""
    return need if need.gpus >= 0 else replace(need, gpus=float(ray.cluster_resources().get("GPU", 0) >= 1))


def _actors(size: int, units: int = 1) -> ActorPoolStrategy:
    # No unit waits in the queue of an actor, because it would lose a retry each time that actor dies.
    return ActorPoolStrategy(
        size=size,
        max_tasks_in_flight_per_actor=units,
        max_concurrent_calls_per_actor=units,
        enable_true_multi_threading=units > 1,
    )
