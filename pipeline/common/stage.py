"""A stage: one step of the work on clips, videos or speakers, which an executor runs. Does not import Ray.

`pipeline.cluster.ray_data` runs a list of stages in pools of actors, and `pipeline.cluster.serial` runs the same list
in this process.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from pipeline.common.attempts import Attempts, NoAttempts


@dataclass(frozen=True)
class Resources:
    """The cluster resources that one worker of a stage takes."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A fraction shares a GPU; -1 takes one if the cluster has any."""

    @property
    def threads(self) -> int:
        """Number of threads that a worker computes with."""
        return max(1, int(self.cpus))


class Part(NamedTuple):
    """How far a worker is with an item."""

    stage: str
    done: int = 0
    total: int = 0
    """Frames that are done, and frames of the item; 0 where a stage does not count them."""
    row: int = 0
    """Row of the item in the manifest."""


class Stage(Protocol):
    """One step of the work. Subclasses inherit a `setup` and a `close` that do nothing.

    The constructor only stores settings, because it runs on the driver, from where the stage is pickled to its workers.
    """

    name: str
    resources: Resources
    attempts: Attempts = NoAttempts()
    """Where a worker tells which items it has; an executor sets it before `setup`."""

    def setup(self) -> None:
        """Load what the stage needs, once per worker.

        An exception means that the worker is unfit, and not that a clip is wrong.
        """
        return

    def process(self, items: Sequence[Any]) -> Iterable[Any]:
        """Yield one result per item, each as soon as it is ready.

        A problem with an item becomes a row with an error code; an exception is a bug. Results of earlier stages that
        are not this stage's input, such as rows and `PutOff`, pass through.
        """
        ...

    @property
    def under_way(self) -> Mapping[str, Part]:
        """The items in work, by their ids. Called from another thread every few seconds, so it must be cheap."""
        return {}

    def close(self) -> None:
        """Stop threads and remove temporary files; unfinished work is given up. May be called twice."""
        return


@dataclass(frozen=True)
class Pool:
    """A stage and the workers that run it."""

    stage: Stage
    workers: int = 1
    units: int = 1
    """Number of work units that a worker holds at the same time; more than one needs a thread-safe `process`."""


StageT = TypeVar("StageT", bound=Stage)


def started(stage: StageT) -> StageT:
    """The same stage, set up in this process, for notebooks, debuggers and engines other than Ray."""
    stage.setup()
    return stage
