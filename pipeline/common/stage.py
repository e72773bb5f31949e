"""A stage: one step of the work on clips, videos or speakers, which an executor runs. Does not import Ray.

`pipeline.cluster.ray_data` runs a list of stages in pools of actors, and `pipeline.cluster.serial` runs the same list
in this process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

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
