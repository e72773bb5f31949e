"""The workers of a training run, from the view of one of them."""

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch import distributed as dist

from pipeline.render.speech_precision import has_bfloat16


@dataclass(frozen=True)
class World:
    """This worker's number, the number of workers, and its device. The default is a single worker without Ray."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this worker writes the files and reports for all."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Positions in a step's batch that this worker computes. Raises ValueError if some worker would get none."""
        if batch < self.size:
            raise ValueError(
                f"a batch of {batch} samples cannot keep {self.size} workers busy: use fewer workers, or a larger batch"
            )
        return range(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of the values of all workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def first_workers(self, number: int) -> int:
        """The first worker's `number`, on all workers."""
        return int(self.sum(torch.tensor(number if self.first else 0, device=self.device)))

    def barrier(self) -> None:
        """Wait for the other workers."""
        if self.size > 1:
            dist.barrier()

    def autocast(self, dtype: str) -> torch.autocast:
        """The autocast context that `optimiser.dtype` asks for."""
        bfloat16 = dtype == "bfloat16" or (
            dtype == "auto" and self.device.type == "cuda" and has_bfloat16(self.device.type)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16)


def set_threads(cpus: float) -> None:
    """Set the threads of this process to no more than the CPUs that it has been given."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
    torch.set_num_threads(max(1, int(cpus)))
