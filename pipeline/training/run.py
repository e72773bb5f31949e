"""One worker's part of a training run, from the model folder that it starts from to the one that it delivers."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import FLOAT, ModelFolder, load_float
from models.learning.perceptual import GradientPyramid
from models.learning.reconstruction import set_mask_bias, set_warps_to_rest
from models.model_folder import CONFIG_FILE, derive_model
from pipeline.common.errors import ClusterError, RefusedError
from pipeline.common.interruptions import held
from pipeline.common.malloc import keep_memory
from pipeline.common.redaction import redacted
from pipeline.storage.explained import explained, said_by_us
from pipeline.storage.model_cache import local_model
from pipeline.storage.objects import fetched, filesystem, put_folder
from pipeline.storage.uris import is_local, join
from pipeline.training.autoencoder_stage import AutoencoderStage
from pipeline.training.checkpoint import (
    CheckpointError,
    check_same,
    identity,
    load_checkpoint,
    newest,
    of_earlier_versions,
)
from pipeline.training.loop import train
from pipeline.training.motion_stage import MotionStage
from pipeline.training.samples import CurveScale, DataError, FramePairs, MotionWindows
from pipeline.training.settings import TrainSettings, WorkerSettings
from pipeline.training.stage import Stage
from pipeline.training.world import World, set_threads
from pipeline.training_data.shards import CLIPS, LATENTS, Shards

MODEL = "model"
"""Folder in the output with the trained model."""


class TrainingError(ClusterError):
    """Training could not continue; the message contains the error of the first worker that had one."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"training stopped: {message}. Run the same command again to resume from the newest checkpoint"
        )


@dataclass(frozen=True)
class TrainJob:
    """What all workers are told."""

    settings: TrainSettings
    model: str
    """The model folder that the run starts from."""
    output: str
    name: str
    """Name of the model that it delivers."""
    cpus: float = 1.0


def is_fresh(folder: ModelFolder, stage: str) -> bool:
    """Whether the part that `stage` trains has never been trained."""
    return not folder.trained and stage not in [entry["stage"] for entry in folder.history]


def check_data(settings: TrainSettings, folder: ModelFolder) -> dict[str, int]:
    """Check the shards before workers start; returns the number of samples per split. Raises DataError."""
    folder_uri = join(settings.data, CLIPS if settings.stage == "autoencoder" else LATENTS)
    try:
        shards = Shards(folder_uri)
        train = shards.only("train")
        if train is None:
            raise FileNotFoundError(f"{folder_uri} has no samples in the train split")
    except FileNotFoundError as error:
        command = "python -m jobs.prepare" + (" stage=latents" if settings.stage == "motion" else "")
        gone = is_local(folder_uri) and not Path(filesystem(folder_uri)[1]).exists()
        problem = f"{folder_uri} does not exist" if gone else said_by_us(error) or f"{folder_uri} has no samples"
        raise DataError(f"data: {problem}; {command} creates it") from None
    if settings.stage == "autoencoder":
        if settings.adapter.rank:
            raise DataError("adapter.rank: low-rank adapters are only for the transformer: use stage=motion, or rank 0")
        if settings.reconstruction.decoder_only and is_fresh(folder, "autoencoder"):
            raise DataError(
                "reconstruction.decoder_only: the encoder is untrained and would stay so: train the whole model first"
            )
        FramePairs(train, folder.config.image_size)
        if settings.reconstruction.knows_curves:
            known, given = len(CurveScale(train).mean), len(settings.reconstruction.curve_weights)
            if given not in (0, known):
                raise DataError(
                    f"reconstruction.curve_weights: it has {given} weights, and the clips have {known} curves: give "
                    "one for each of them, or none"
                )
    else:
        if is_fresh(folder, "autoencoder"):
            raise DataError("the model's auto-encoder is untrained, so its motion latents mean nothing: train it first")
        if settings.adapter.rank and is_fresh(folder, "motion"):
            raise DataError(
                "adapter.rank: adapters modify a trained transformer, but this one is untrained: use rank 0"
            )
        MotionWindows(train, folder.config, settings.motion.dropout)
        _check_latents(train, folder)
    return {split: sum(row["split"] == split for row in shards.rows) for split in ("train", "validation", "test")}


def _check_latents(shards: Shards, folder: ModelFolder) -> None:
    """Refuse latents of another auto-encoder or of other speech encoders, which would teach nonsense."""
    made = shards.metadata.get("encoders_hash")
    if made is not None and made != folder.encoders_hash():
        raise DataError(
            f"{shards.folder} was made with another auto-encoder or with other speech encoders than this model's: "
            "make the latents with this model (python -m jobs.prepare stage=latents)"
        )


def run_worker(job: TrainJob, world: World, say: Callable[[str], None]) -> None:
    """Train from the newest checkpoint of the output, if there is one, and deliver the model.

    All workers call this; `say` gets the lines of the first one.
    """
    settings = job.settings
    if world.device.type == "cpu":
        keep_memory()  # a step at 256 px takes half the time
    folder = local_model(job.model)
    model = load_float(folder, world.device)
    fresh = is_fresh(folder, settings.stage)
    vgg = settings.reconstruction.vgg
    with fetched(vgg) as weights:
        stage: Stage
        if settings.stage == "autoencoder":
            stage = AutoencoderStage(model, settings, world, weights)
        else:
            stage = MotionStage(model, settings, world)
        loss = _perceptual(stage, weights)
    if fresh:
        _begin(model, settings)
    run = identity(settings, folder.hash)
    start = _go_on(job.output, stage, run, world)
    if world.first:
        begin = "from the start" if not start else f"from step {start}"
        say(f"{settings.stage}: {begin} to step {settings.optimiser.steps}, {world.size} workers on {world.device}")
        if loss:
            say(f"perceptual loss: {loss}")
    if start < settings.optimiser.steps:
        about = [
            ("stage", settings.stage),
            ("data", settings.data),
            ("began with", f"{folder.name}, hash {folder.hash[:12]}"),
            ("steps", f"{settings.optimiser.steps} of {settings.optimiser.batch} samples"),
            ("workers", f"{world.size} on {world.device}"),
        ]
        train(stage, settings, world, start=start, output=job.output, run=run, about=about, say=say)
    if world.first:
        delivered = _deliver(job, folder, stage.finished(), loss)
        say(f"model {delivered.name}, hash {delivered.hash[:12]}: {join(job.output, MODEL)}")
    world.barrier()


def check_alone(workers: WorkerSettings) -> None:
    """Raise RefusedError if the settings need more than one worker on this machine can offer."""
    if workers.number > 1 or workers.least > 1:
        raise RefusedError("workers.number: executor=serial has only one worker; use 1, or executor=ray")
    if workers.gpus > 0 and not torch.cuda.is_available():
        raise RefusedError("workers.gpus: PyTorch finds no GPU on this machine; use 0 or -1")


def fit_alone(job: TrainJob, *, gpu: bool, say: Callable[[str], None]) -> None:
    """Train without Ray: one worker in this process, from the newest checkpoint. Raises TrainingError.

    A run may begin like this and continue with Ray, or the other way round. `gpu` uses this machine's GPU if it has
    one.
    """
    set_threads(job.cpus)
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    try:
        run_worker(job, World(device=device), say)
    except Exception as error:  # like an error in a Ray worker: each library has its own exceptions
        raise TrainingError(redacted(explained(error))) from error


def _go_on(output: str, stage: Stage, run: dict[str, Any], world: World) -> int:
    """Load the newest checkpoint into the stage, the same on all workers; returns its step, or 0 if there is none."""
    found = newest(output) if world.first else None
    step = world.first_workers(0 if found is None else found.step)
    if step:
        load_checkpoint(output, step, stage, run)
    return step


def _begin(model: FLOAT, settings: TrainSettings) -> None:
    if settings.stage == "motion":
        model.transformer.start_at_zero()
        return
    if settings.reconstruction.start_at_rest:
        set_warps_to_rest(model.autoencoder)
    if settings.reconstruction.mask_bias:
        set_mask_bias(model.autoencoder, settings.reconstruction.mask_bias)


def _perceptual(stage: Stage, vgg: str | None) -> str:
    """What the perceptual terms are measured with, for the log and the model's history."""
    if not isinstance(stage, AutoencoderStage) or stage.pyramid is None:
        return ""
    if isinstance(stage.pyramid, GradientPyramid):
        return (
            "SUBSTITUTE for VGG-19: colours and their differences at several scales (reconstruction.vgg= is not given)"
        )
    assert vgg is not None
    with open(vgg, "rb") as file:
        return f"VGG-19, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _deliver(job: TrainJob, parent: ModelFolder, model: FLOAT, loss: str) -> ModelFolder:
    settings = job.settings
    entry = {
        "stage": settings.stage,
        "steps": settings.optimiser.steps,
        "batch": settings.optimiser.batch,
        "learning_rate": settings.learning_rate,
        "seed": settings.optimiser.seed,
        "data": settings.data,
        "parent": parent.hash,
    }
    entry |= {"perceptual": loss} if loss else {}
    entry |= {"decoder_only": True} if settings.stage == "autoencoder" and settings.reconstruction.decoder_only else {}
    entry |= {"adapter_rank": settings.adapter.rank} if settings.adapter.rank else {}
    history = [*parent.history, entry]
    trained = parent.trained or {"autoencoder", "motion"} <= {one["stage"] for one in history}
    with tempfile.TemporaryDirectory(prefix="floatcast-") as scratch:
        made = derive_model(Path(scratch) / MODEL, parent, model, name=job.name, trained=trained, history=history)
        with held():  # without its config, which is written last, the folder would be no model
            put_folder(made.path, join(job.output, MODEL), last=CONFIG_FILE)
        return made


def check_run(settings: TrainSettings, folder: ModelFolder, output: str) -> int:
    """Number of steps that an earlier job has done in this output.

    Raises CheckpointError if it was configured differently.
    """
    found = newest(output)
    if found is None:
        if old := of_earlier_versions(output):
            raise CheckpointError(
                f"{output} contains {old[0]}, a checkpoint of an earlier version of this program, which this version "
                "cannot resume: give another output=, or start from the model of that run with model="
            )
        return 0
    check_same(found, identity(settings, folder.hash))
    return found.step
