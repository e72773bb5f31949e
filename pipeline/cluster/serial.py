"""Stages one after another in this process, without Ray: for a laptop, a debugger, a notebook or a test.

The stages and the results are the same as on a cluster, with one worker per stage. Files are read in child processes
here too, so one that crashes its decoder or never ends fails alone. What crashes elsewhere, such as in PyTorch, ends
the job, and the same command then continues with the clips after it.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from pipeline.cluster.pools import Pools, gpus_per_worker
from pipeline.cluster.work_units import Unit, unit_of
from pipeline.common.attempts import PutOff
from pipeline.common.disk_collections import batched
from pipeline.common.limits import MAX_ROWS
from pipeline.common.stage import Part, Pool, Stage
from pipeline.ledger.video_table import write_videos
from pipeline.manifest.rows import raw_rows
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings

logger = logging.getLogger(__name__)

R = TypeVar("R")

PART_ROWS = 1_000


class SerialExecutor:
    """Runs stages in this process."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []
        """The stages that run."""

    @property
    def cpus(self) -> int:
        """Number of CPUs that this process may use."""
        return len(os.sched_getaffinity(0))

    def pools(
        self, features: FeatureSettings, render: EngineSettings, qc: QcSettings, minutes: float, *, small: bool = True
    ) -> Pools:
        """One worker for each stage, on this machine's GPU if it has one; there is nothing to wait for.

        Whether the model is small does not matter: whoever runs this looks on.
        """
        import torch  # takes seconds, which processes that do not compute need not spend

        gpu = torch.cuda.is_available()
        num_gpus = gpus_per_worker(render, float(gpu), startable=False, small=True)
        return Pools(
            replace(features, workers=1),
            replace(render, workers=1, num_gpus=num_gpus, units_in_flight=1),
            replace(qc, workers=1),
            serial=True,
        )

    def run_stage(self, units: Sequence[Unit], stage: Stage, workers: int = 0) -> Iterator[Any]:
        """Run a single stage and yield its results as they arrive; `workers` is ignored."""
        return self.run(units, [Pool(stage)])

    def run(self, units: Sequence[Unit], pools: Sequence[Pool]) -> Iterator[Any]:
        """Yield the results of the last stage as they arrive.

        As on a cluster, a unit that raises yields nothing more: compare with the plan (`plan.reconcile`).
        """
        if not units:
            return
        import torch

        stages = [pool.stage for pool in pools]
        with ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())  # stages set their own number
            for stage in stages:
                stack.callback(stage.close)
                stage.setup()
            stack.callback(self._stages.clear)
            self._stages[:] = stages
            again: list[Unit] = []
            for unit in _with(units, again):
                items = unit.items
                try:
                    for stage in stages[:-1]:
                        items = list(stage.process(items))
                    for result in stages[-1].process(items):
                        if isinstance(result, PutOff):
                            again.append(unit_of(result.item))
                        else:
                            yield result
                except Exception:  # a bug; what is wrong with a clip is reported in its row
                    logger.exception(
                        "a work unit of %d items ended in an error; the other units continue", len(unit.items)
                    )

    def under_way(self) -> Mapping[str, Part]:
        """How far the stages are with the items that they have. For another thread than the one that runs them."""
        return {item: part for stage in list(self._stages) for item, part in stage.under_way.items()}

    def map_rows(self, uri: str, work: Callable[[list[Any]], R], most: int = MAX_ROWS) -> Iterator[R]:
        """What `work` makes of each part of the rows, one after another."""
        return map(work, batched(raw_rows(uri, most), PART_ROWS))

    def write_videos(self, table: str, folder: str) -> None:
        """Write the dataset as one part."""
        write_videos(table, folder)


def _with(units: Iterable[Unit], again: list[Unit]) -> Iterator[Unit]:
    """The units, and then those that are put off meanwhile."""
    yield from units
    while again:
        yield again.pop(0)
