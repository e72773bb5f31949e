"""A stage: one step of the work on clips, videos or speakers, which an executor runs. Imports no Ray.

`pipeline.cluster.ray_data` runs a list of stages in pools of actors, `pipeline.cluster.serial` runs the same list in
this process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage takes of the cluster."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A fraction shares a GPU; -1 takes one where the cluster has any."""

    @property
    def threads(self) -> int:
        """Threads that a worker computes with."""
        return max(1, int(self.cpus))


class Stage(Protocol):
    """One step of the work. Derive from it to get a `setup` and a `close` that do nothing.

    The constructor only stores settings: it runs on the driver, and the stage is pickled from there to its workers.
    """

    name: str
    resources: Resources

    def setup(self) -> None:
        """Load what the stage needs, once per worker. An exception means that the worker is unfit, not a clip."""
        return

    def process(self, items: Sequence[Any]) -> Iterable[Any]:
        """One result per item, in order, each as soon as it is there.

        What is wrong with an item becomes a row with an error code; an exception is a bug.
        """
        ...

    def close(self) -> None:
        """End threads and remove temporary files; work that has not ended is given up. May be called twice."""
        return


@dataclass(frozen=True)
class Pool:
    """A stage and the workers that run it."""

    stage: Stage
    workers: int = 1
    units: int = 1
    """Work units that a worker has at the same time; more than one needs a `process` for several threads."""


StageT = TypeVar("StageT", bound=Stage)


def started(stage: StageT) -> StageT:
    """The same stage, set up in this process: for a notebook, a debugger or another engine than Ray."""
    stage.setup()
    return stage
