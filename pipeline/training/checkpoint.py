"""A checkpoint: all that the next step depends on. A folder of

<learner>.pt    weights, averaged weights and optimiser of each module that is trained
state.json      the step, and what the run's results depend on

Noise, samples and learning rates are functions of the step: there is no other state.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.training.settings import TrainSettings
from pipeline.training.stage import Stage

STATE = "state.json"

FREE = {
    "optimiser": ("steps", "micro_batch"),
    "reading": ("threads", "ahead", "cache_gigabytes"),
    "watch": ("log_every", "validate_every", "save_every", "keep", "samples"),
}
"""Settings that may change when a run goes on: they are not part of its result (steps only says where it ends)."""


class CheckpointError(ValueError):
    """A checkpoint that this run cannot go on from."""


def identity(settings: TrainSettings, model_hash: str) -> dict[str, Any]:
    """What a run's results depend on; `model_hash` of the folder that it begins with."""
    values = asdict(settings)
    for part, names in FREE.items():
        # With a decay the learning rate of each step depends on where the run ends.
        kept = ("steps",) if part == "optimiser" and settings.optimiser.decay else ()
        values[part] = {k: v for k, v in values[part].items() if k not in names or k in kept}
    return values | {"model": model_hash}


def save_checkpoint(folder: Path, stage: Stage, step: int, run: dict[str, Any]) -> None:
    """Write into an empty folder; `step`: optimiser steps done; `run`: `identity`."""
    for name, learner in stage.learners.items():
        torch.save(learner.state(), folder / f"{name}.pt")
    (folder / STATE).write_text(json.dumps({"step": step, "run": run}, indent=2))


def check_same(state: dict[str, Any], run: dict[str, Any]) -> int:
    """Steps done by the run whose `state.json` this is; CheckpointError naming what another configuration has."""
    different = list(_differences("", state["run"], run))
    if different:
        raise CheckpointError(
            f"the output holds a run of another configuration ({', '.join(different)}): give another output=, or the "
            "settings of before; model= of the new run may be what the old one delivered"
        )
    return int(state["step"])


def load_checkpoint(folder: Path, stage: Stage, run: dict[str, Any]) -> int:
    """Put a checkpoint back; returns the steps done. Raises CheckpointError where it is another run's."""
    done = check_same(json.loads((folder / STATE).read_text()), run)
    for name, learner in stage.learners.items():
        learner.load(torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True))
    return done


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(f"{name}.{key}" if name else key, old.get(key), new.get(key))
    elif old != new:
        yield f"{name} was {old!r}, is {new!r}"
