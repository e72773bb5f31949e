"""Train or fine-tune a model: `python -m jobs.train stage=... data=... output=... model=... [key=value ...]`."""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jobs.cli.config import fail, parse
from jobs.cli.progress import duration_text
from jobs.cli.submitted import lost_output, take_sigterm
from models import FLOAT, FloatConfig, ModelFolder, load_float
from models.config import VARIANTS
from models.learning.grow import grow, larger
from models.model_folder import ModelFolderError, derive_model, save_model
from pipeline.cluster.connect import ADDRESS, connected, executor_option
from pipeline.common.errors import ClusterError
from pipeline.common.options import option
from pipeline.storage.model_cache import POCKET, local_model
from pipeline.storage.objects import absolute, check_writable, join, write_bytes
from pipeline.storage.run_lock import LockedError, RunLock, new_run_id
from pipeline.training.alone import check_alone, fit_alone
from pipeline.training.checkpoint import CheckpointError, newest
from pipeline.training.curves import PAGE
from pipeline.training.run import MODEL, TrainingError, TrainJob, check_data, check_run, start_folder
from pipeline.training.samples import DataError
from pipeline.training.settings import TrainSettings, WorkerSettings

USAGE = """
Train or fine-tune a model on what jobs.prepare made, on a Ray cluster, on Ray on this machine, or without Ray.

  python -m jobs.train stage=autoencoder data=s3://b/prepared output=s3://b/phase1 preset=pocket \\
      content_encoder=... emotion_encoder=... optimiser.steps=100000
  python -m jobs.prepare stage=latents output=s3://b/prepared model=s3://b/phase1/model
  python -m jobs.train stage=motion data=s3://b/prepared output=s3://b/phase2 model=s3://b/phase1/model \\
      optimiser.steps=100000
  python -m jobs.train stage=motion ... model=models/float adapter.rank=16 optimiser.steps=2000     one speaker

The output has model/ (a model folder with averaged weights, as jobs.render takes it), checkpoints/, curves.html,
curves.parquet, tensorboard/ and sheets/. The same command goes on from the newest checkpoint, with any executor and the
same losses as if it had not been stopped; with more optimiser.steps it trains longer.

Options: --help, --check (look at model and data, and train nothing)
Exit codes: 0 trained; 2 configuration, model or data refused; 3 the cluster, a worker or the storage failed; 130
interrupted.
"""

DONE, REFUSED, INFRASTRUCTURE, INTERRUPTED = 0, 2, 3, 130

SUMMARY = "summary.json"

PRESETS = ("", "pocket", "float")


@dataclass
class VariantSettings:
    """What the paper compares. Empty keeps the model's own; another one starts with an untrained transformer."""

    conditioning: str = option("", "adaln or cross_attention.", choices=("", "adaln", "cross_attention"))
    objective: str = option(
        "", "flow, or diffusion that predicts epsilon or x0 (500 steps, DDIM).", choices=("", "flow", "epsilon", "x0")
    )
    emotion: str = option(
        "", "Emotion heard in the speech, seen in the image, or none.", choices=("", "speech", "image", "none")
    )
    pose: str = option("", "Head poses as a condition: none or head.", choices=("", "none", "head"))


@dataclass
class Train(TrainSettings):
    """Configuration of `jobs.train`."""

    output: str = option("", "Folder of the run, local or s3://; on several nodes one that all of them see.")
    model: str = option("", "Model folder to begin with, local or s3://, or pocket: the one that ships.")
    preset: str = option("", "Begin with an untrained model of these sizes instead.", choices=PRESETS)
    size: int = option(
        0, "Side of the pictures, px: a smaller preset, or a model that grows to twice its side; 0 keeps it.", least=0
    )
    content_encoder: str = option(
        "", "wav2vec2 folder in Hugging Face layout: a preset needs one; of a model it takes the place of its own."
    )
    emotion_encoder: str = option("", "The same for the folder of the speech emotion classifier.")
    face_emotion_encoder: str = option("", "For variant.emotion=image: folder of a face emotion classifier.")
    name: str = option("", "Name of the model that comes out; none takes the output's.")
    licence: str = option("", "With preset: licence of the weights that come out.")
    executor: str = executor_option(
        "ray trains in workers on a Ray cluster, or on Ray on this machine; serial trains in this process, one worker "
        "without Ray: for a laptop or a debugger; auto is ray."
    )
    address: str = option("", ADDRESS)
    wait_minutes: float = option(
        0.0,
        "Time for a cluster to start the nodes that the workers need; give workers.number and workers.gpus.",
        least=0,
    )
    variant: VariantSettings = field(default_factory=VariantSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(Train, USAGE, argv, ["--check"])
    take_sigterm()
    for key in ("stage", "data", "output"):
        if not getattr(job, key):
            return fail(f"{key}: give a value; --help lists the keys", REFUSED)
    if bool(job.model) == bool(job.preset):
        return fail("model, preset: give one of them, the model to begin with or the sizes of a new one", REFUSED)
    if not job.optimiser.steps:
        return fail("optimiser.steps: give the number of steps", REFUSED)
    if job.workers.number > job.optimiser.batch:
        return fail(
            f"workers.number: a batch of {job.optimiser.batch} does not keep {job.workers.number} workers busy: give "
            "fewer, or a larger optimiser.batch",
            REFUSED,
        )
    if reason := lost_output(job.output):
        return fail(reason, REFUSED)
    job.output, job.data = absolute(job.output), absolute(job.data)
    if job.reconstruction.vgg:
        job.reconstruction.vgg = absolute(job.reconstruction.vgg)
    try:
        if job.executor == "serial":
            check_alone(job.workers)
        check_writable(job.output)
        with RunLock(job.output, new_run_id()):
            return _train(job, "--check" in flags)
    except (LockedError, ModelFolderError, DataError, CheckpointError, ValueError) as error:
        return fail(str(error), REFUSED)
    except KeyboardInterrupt:
        return fail("interrupted: the same command goes on from the newest checkpoint", INTERRUPTED)
    except ClusterError as error:
        return fail(str(error), INFRASTRUCTURE)
    except TrainingError as error:
        return fail(f"training stopped: {error}. The same command goes on from the newest checkpoint", INFRASTRUCTURE)
    except Exception as error:  # every storage client has exceptions of its own
        return fail(f"{type(error).__name__}: {error}", INFRASTRUCTURE)


def _train(job: Train, check: bool) -> int:
    model = _start(job)
    folder = local_model(model)
    settings = TrainSettings(**{f.name: getattr(job, f.name) for f in dataclasses.fields(TrainSettings)})
    samples = check_data(settings, folder)
    done = check_run(settings, folder, job.output)
    print(f"model {folder.name}, hash {folder.hash[:12]}, {_variant(folder.config)}, {folder.config.image_size} px")
    print("samples: " + ", ".join(f"{number} {split}" for split, number in samples.items()))
    if not samples["validation"]:
        print("NOTE: no speaker is held out: nothing will be validated")
    if check:
        return DONE
    if done >= settings.optimiser.steps:
        print(f"step {done} of {settings.optimiser.steps} is done already; more optimiser.steps train longer")
    start = time.monotonic()
    name = job.name or job.output.rstrip("/").rsplit("/", 1)[-1]
    _fit(job, TrainJob(settings, model, job.output, name, job.workers.cpus))
    last = newest(job.output)
    summary = {"state": "finished", "steps": settings.optimiser.steps, "model": join(job.output, MODEL)}
    if last is not None:
        summary |= {"step": last.step, **last.figures}
    write_bytes(json.dumps(summary, indent=2).encode(), join(job.output, SUMMARY))
    trained = local_model(join(job.output, MODEL))
    print(f"{'time':>11}  {duration_text(time.monotonic() - start)}")
    print(f"{'model':>11}  {join(job.output, MODEL)} ({trained.name}, hash {trained.hash[:12]})")
    print(f"{'curves':>11}  {join(job.output, PAGE)}")
    if settings.stage == "autoencoder":
        print(f"{'next':>11}  python -m jobs.prepare stage=latents output={job.data} model={join(job.output, MODEL)}")
    else:
        print(f"{'next':>11}  python -m jobs.render manifest=... output=... model={join(job.output, MODEL)}")
    return DONE


def _fit(job: Train, told: TrainJob) -> None:
    def say(line: str) -> None:
        print(line, flush=True)

    if job.executor == "serial":
        fit_alone(told, gpu=job.workers.gpus != 0, say=say)
        return
    from pipeline.training.trainer import fit, wait_for_workers  # seconds, for Ray

    with connected(job.address, hide_workers=True):
        scaling = wait_for_workers(job.workers, job.wait_minutes)
        fit(told, scaling, max_failures=job.workers.max_failures, say=say)


def _variant(config: FloatConfig) -> str:
    return ", ".join(f"{name} {getattr(config, name)}" for name in VARIANTS)


def _start(job: Train) -> str:
    """URI of the model folder that the run begins with; a new one is written to the output once."""
    changes: dict[str, Any] = {name: value for name in VARIANTS if (value := getattr(job.variant, name))}
    if job.preset:
        return start_folder(job.output, lambda path: _new_model(job, changes, path))
    model = job.model if job.model == POCKET else absolute(job.model)
    parent = local_model(model)
    if job.content_encoder:
        from models.encoders import load_content_encoder  # seconds, for transformers

        changes["content_dim"] = load_content_encoder(job.content_encoder).dim
    config = dataclasses.replace(parent.config, **changes)
    while config.image_size < job.size:
        config = larger(config)
    if job.size not in (0, config.image_size):
        raise ValueError(f"size: a model of {parent.config.image_size} px can only grow, to twice its side and so on")
    if config == parent.config and not (job.content_encoder or job.emotion_encoder):
        return model
    return start_folder(job.output, lambda path: _changed_model(job, parent, config, path))


def _new_model(job: Train, changes: dict[str, Any], path: Path) -> ModelFolder:
    """An untrained model of a preset, with the user's speech encoders."""
    from models.encoders import load_content_encoder, load_emotion_encoder

    for key in ("content_encoder", "emotion_encoder"):
        if not getattr(job, key):
            raise ValueError(f"{key}: a new model needs one; give a folder in Hugging Face layout")
    content, emotion = load_content_encoder(job.content_encoder), load_emotion_encoder(job.emotion_encoder)
    config = FloatConfig.pocket() if job.preset == "pocket" else FloatConfig()
    config = dataclasses.replace(config.resized(job.size or config.image_size), content_dim=content.dim, **changes)
    return save_model(
        path,
        _untrained(config, job.optimiser.seed),
        content,
        emotion,
        name=f"{job.preset}-untrained",
        licence=job.licence or "not stated",
        trained=False,
        face_emotion=job.face_emotion_encoder or None,
    )


def _changed_model(job: Train, parent: ModelFolder, config: FloatConfig, path: Path) -> ModelFolder:
    """The parent with a larger auto-encoder, other encoders or an untrained transformer of another variant.

    What the transformer has learned is kept where nothing but the pictures grows.
    """
    from models.encoders import load_content_encoder, load_emotion_encoder

    old = load_float(parent)
    autoencoder, sizes = old.autoencoder, parent.config
    while sizes.image_size < config.image_size:
        sizes = larger(sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.optimiser.seed)
            autoencoder = grow(autoencoder, sizes)
    heard = bool(job.content_encoder or job.emotion_encoder)
    keeps = not heard and dataclasses.replace(config, channels=parent.config.channels) == parent.config
    model = _untrained(config, job.optimiser.seed)
    if keeps:
        model.load_state_dict(old.state_dict() | {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()})
    model.autoencoder = autoencoder
    history = [entry for entry in parent.history if keeps or entry["stage"] == "autoencoder"]
    if parent.trained and not history:
        history = [{"stage": "autoencoder", "parent": parent.hash, "name": parent.name}]
    return derive_model(
        path,
        parent,
        model,
        name=f"{parent.name}-variant",
        trained=parent.trained and keeps,
        history=history,
        content=load_content_encoder(job.content_encoder) if job.content_encoder else None,
        emotion=load_emotion_encoder(job.emotion_encoder) if job.emotion_encoder else None,
        face_emotion=job.face_emotion_encoder or None,
    )


def _untrained(config: FloatConfig, seed: int) -> FLOAT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FLOAT(config).eval()


if __name__ == "__main__":
    raise SystemExit(main())
