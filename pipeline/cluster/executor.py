"""The common interface of `RayExecutor` and `SerialExecutor`, which run stages."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pipeline.cluster.pools import Pools
from pipeline.cluster.work_units import Unit
from pipeline.common.limits import MAX_ROWS
from pipeline.common.stage import Part, Pool, Stage
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings

R = TypeVar("R")


class Executor(Protocol):
    """Runs stages on work units."""

    @property
    def cpus(self) -> int:
        """Number of CPUs that are available to workers, at least 1."""
        ...

    def pools(
        self, features: FeatureSettings, render: EngineSettings, qc: QcSettings, minutes: float, *, small: bool = True
    ) -> Pools:
        """Sizes of a rendering job's pools. A cluster that is too small may grow for `minutes`.

        `small` says that the model renders on CPUs where there is no GPU. Raises ClusterError.
        """
        ...

    def run_stage(self, units: Sequence[Unit], stage: Stage, workers: int = 0) -> Iterator[Any]:
        """Run a single stage; 0 workers means as many as there is room and work for. Raises ClusterError."""
        ...

    def run(self, units: Sequence[Unit], pools: Sequence[Pool]) -> Iterator[Any]:
        """Yield the results of the last stage as they arrive; a unit that cannot be finished yields nothing."""
        ...

    def under_way(self) -> Mapping[str, Part]:
        """How far the workers are with the items that they have, by their ids; on a cluster a few seconds old."""
        ...

    def map_rows(self, uri: str, work: Callable[[list[Any]], R], most: int = MAX_ROWS) -> Iterator[R]:
        """What `work` makes of each part of a manifest's raw rows, in their order.

        Raises ManifestError for a table that cannot be read or has more than `most` rows, and StorageError.
        """
        ...

    def write_videos(self, table: str, folder: str) -> None:
        """Write the rows of a table with their videos into a dataset (`ledger.video_table`)."""
        ...
