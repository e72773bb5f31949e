"""Checkpoints of a run: everything that the next step depends on.

They are folders `checkpoints/checkpoint_<step>` of the output:

<learner>.pt    weights, averaged weights and optimiser state of each module that is trained
state.json      the step, its metrics, what the run's results depend on, and the size of each other file

Noise, samples and learning rates are functions of the step, so there is no other state.

state.json is stored last. A folder without it, or with a file of another size than state.json says, was interrupted
while it was stored or removed, and does not count. The progress of a run is always read from the output (`newest`) and
nowhere else: by workers that Ray restarts, by a job that is restarted, and without Ray. A checkpoint that `store` has
reported (by returning) is therefore never lost: whatever dies afterwards, the run resumes from it or from a newer one.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pipeline.common.errors import RefusedError
from pipeline.storage.objects import fetched, filesystem, put_folder, read_bytes, retried
from pipeline.storage.uris import join
from pipeline.training.settings import TrainSettings
from pipeline.training.stage import Stage

CHECKPOINTS = "checkpoints"
"""Folder in the output."""

STATE = "state.json"

FREE = {
    "optimiser": ("steps", "micro_batch"),
    "reading": ("threads", "ahead", "cache_gigabytes"),
    "watch": ("log_every", "validate_every", "save_every", "keep", "samples"),
}
"""Settings that may change when a run resumes, because they do not affect its result (steps only says where it
ends).
"""


class CheckpointError(RefusedError):
    """A checkpoint from which this run cannot resume."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint in an output."""

    uri: str
    step: int
    """Number of optimiser steps that are done."""
    run: dict[str, Any]
    """`identity` of its run."""
    figures: dict[str, float]
    """The last metrics that were measured."""


def identity(settings: TrainSettings, model_hash: str) -> dict[str, Any]:
    """What the results of a run depend on; `model_hash` is that of the folder that it starts from."""
    values = asdict(settings)
    for part, names in FREE.items():
        # With a decay, the learning rate of each step depends on where the run ends.
        kept = ("steps",) if part == "optimiser" and settings.optimiser.decay else ()
        values[part] = {k: v for k, v in values[part].items() if k not in names or k in kept}
    for name in ("texture", "level", "curve_changes", "curve_weights"):  # added later: outputs of before are continued
        if not values["reconstruction"][name]:
            del values["reconstruction"][name]
    return values | {"model": model_hash}


# --- Storing ---------------------------------------------------------------------------------------------------


def save_checkpoint(folder: Path, stage: Stage, step: int, run: dict[str, Any], figures: dict[str, float]) -> None:
    """Write a checkpoint into an empty local folder; `step` is the number of steps done, and `run` the `identity`."""
    for name, learner in stage.learners.items():
        torch.save(learner.state(), folder / f"{name}.pt")
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    state = {"step": step, "figures": figures, "files": files, "run": run}
    (folder / STATE).write_text(json.dumps(state, indent=2))


def store(folder: Path, output: str, step: int, keep: int) -> None:
    """Store what `save_checkpoint` wrote, and then remove all but the newest `keep`, and incomplete ones."""
    put_folder(folder, checkpoint_uri(output, step), last=STATE)
    kept = {found.uri for found in islice(_complete(output), keep)}
    for uri in _folders(output).keys() - kept:
        fs, path = filesystem(uri)
        with contextlib.suppress(FileNotFoundError):
            retried(lambda fs=fs, path=path: fs.rm(path, recursive=True))  # type: ignore[misc]


def checkpoint_uri(output: str, step: int) -> str:
    """URI of the folder of a step's checkpoint."""
    return join(output, CHECKPOINTS, f"checkpoint_{step:09d}")


# --- Going on --------------------------------------------------------------------------------------------------


def newest(output: str) -> Checkpoint | None:
    """The newest complete checkpoint of an output."""
    return next(_complete(output), None)


def of_earlier_versions(output: str) -> list[str]:
    """Folders of checkpoints named by their time, as Ray Train stored them until 2026-11-29, without file sizes."""
    fs, path = filesystem(join(output, CHECKPOINTS))
    found = retried(lambda: fs.glob(f"{path}/checkpoint_*-*/{STATE}"))
    return [file.rsplit("/", 2)[-2] for file in found]


def check_same(found: Checkpoint, run: dict[str, Any]) -> None:
    """Raise CheckpointError, naming the settings that differ, if a checkpoint belongs to another run."""
    different = list(_differences("", found.run, run))
    if different:
        raise CheckpointError(
            f"the output contains a run with another configuration ({', '.join(different)}): give another output=, or "
            "use the earlier settings; the new run can start from the model of the old run with model="
        )


def load_checkpoint(output: str, step: int, stage: Stage, run: dict[str, Any]) -> None:
    """Load the checkpoint of a step.

    Raises CheckpointError if it belongs to another run, is incomplete or is missing.
    """
    found = next((one for one in _complete(output) if one.step == step), None)
    if found is None:
        raise CheckpointError(f"{output} has no complete checkpoint of step {step}")
    check_same(found, run)
    for name, learner in stage.learners.items():
        with fetched(join(found.uri, f"{name}.pt")) as path:
            assert path is not None
            learner.load(torch.load(path, map_location="cpu", weights_only=True))


def _complete(output: str) -> Iterator[Checkpoint]:
    """Complete checkpoints, the newest first."""
    for uri, sizes in sorted(_folders(output).items(), reverse=True):
        try:
            state = json.loads(read_bytes(join(uri, STATE)) or b"")
        except ValueError:  # missing, or written only in part
            continue
        if all(sizes.get(name) == size for name, size in state["files"].items()):
            yield Checkpoint(uri, state["step"], state["run"], state["figures"])


def _folders(output: str) -> dict[str, dict[str, int]]:
    """URI of each checkpoint, complete or not -> its files and their sizes."""
    folder = join(output, CHECKPOINTS)
    fs, path = filesystem(folder)
    found: dict[str, dict[str, int]] = {}
    for file, info in retried(lambda: fs.find(path, detail=True)).items():
        match = re.search(r"/(checkpoint_\d{9})/([^/]+)$", file)
        if match:
            found.setdefault(join(folder, match[1]), {})[match[2]] = info["size"]
    return found


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(f"{name}.{key}" if name else key, old.get(key), new.get(key))
    elif old != new:
        yield f"{name} was {old!r}, is {new!r}"
