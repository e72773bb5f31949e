"""What runs stages: the one interface of `RayExecutor` and `SerialExecutor`."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from pipeline.cluster.pools import Pools
from pipeline.cluster.work_units import Unit
from pipeline.common.stage import Pool, Stage
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings


class Executor(Protocol):
    """Runs stages on units of work."""

    @property
    def cpus(self) -> int:
        """CPUs that there are for workers, at least 1."""
        ...

    def pools(self, features: FeatureSettings, render: EngineSettings, qc: QcSettings, minutes: float) -> Pools:
        """Sizes of a rendering job's pools; who is too small for them may grow for `minutes`. Raises ClusterError."""
        ...

    def run_stage(self, units: Sequence[Unit], stage: Stage, workers: int = 0) -> Iterator[Any]:
        """One stage alone; 0 workers: as many as there is room and work for. Raises ClusterError."""
        ...

    def run(self, units: Sequence[Unit], pools: Sequence[Pool]) -> Iterator[Any]:
        """Results of the last of the stages, as they come; a unit that cannot be brought to its end yields nothing."""
        ...
