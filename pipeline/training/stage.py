"""The interface between the training loop and a stage, and what both stages use."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from models import FLOAT
from pipeline.training.learner import Learner
from pipeline.training.samples import FrameBatch, Samples
from pipeline.training_data.shards import Shards

SHOWN = 8
"""Number of columns of a contact sheet."""

Sums = dict[str, Tensor]
"""Name of a term -> its sum over samples, on the worker's device: reading it waits for the device."""


@dataclass(frozen=True)
class Validation:
    """What was measured on held-out speakers, and an image of it."""

    figures: dict[str, float]
    sheet: bytes | None


class Stage(Protocol):
    """A stage of training. Its model is on the worker's device."""

    learners: dict[str, Learner]

    @property
    def samples(self) -> Samples:
        """The samples that it learns from."""

    def update(self, batch: Any, step: int) -> Sums:
        """Do one optimiser step with this worker's share of the batch; returns the sums of terms over its samples."""

    def validate(self) -> Validation | None:
        """Measure the averaged weights; None without held-out samples."""

    def finished(self) -> FLOAT:
        """The model with averaged weights, to be delivered; nothing is trained after this."""


B = TypeVar("B", FrameBatch, Any)


def micro_batches(batch: B, size: int, device: torch.device) -> Iterator[tuple[B, bool]]:
    """(part of the batch on the device, whether it is the last part); size 0 takes the whole batch."""
    size = size or len(batch)
    for start in range(0, len(batch), size):
        yield batch.part(slice(start, start + size)).to(device), start + size >= len(batch)


def count(sums: Sums, terms: dict[str, Tensor]) -> None:
    """Add the terms (B,) of some samples."""
    for name, values in terms.items():
        sums[name] = sums.get(name, 0.0) + values.detach().float().sum()


def means(sums: Sums, samples: int) -> dict[str, float]:
    """Means of all terms."""
    return {name: float(value) / samples for name, value in sums.items()}


def training_and_held_out(folder: str) -> tuple[Shards, Shards | None]:
    """Samples to learn from, and those of held-out speakers if there are any; reads the footers of the shards once.

    Raises FileNotFoundError if there is nothing to learn from.
    """
    shards = Shards(folder, ["train", "validation"])
    train = shards.only("train")
    if train is None:
        raise FileNotFoundError(f"{folder} has no shards with samples of the split train")
    return train, shards.only("validation")


def copy_of(model: FLOAT, state: dict[str, Tensor]) -> FLOAT:
    """A copy of the model on the CPU with these weights."""
    with torch.device("meta"):
        copy = FLOAT(model.config)
    copy.load_state_dict({name: value.cpu() for name, value in state.items()}, assign=True)
    return copy.eval()
