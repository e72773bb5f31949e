"""Train or fine-tune a model: `python -m jobs.train stage=... data=... output=... model=... [key=value ...]`."""

if __name__ == "__main__":  # before the imports that take seconds
    from jobs.cli.first_line import first_line

    first_line("train")

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail
from jobs.cli.submitted import lost_output
from models import FloatConfig
from models.config import VARIANTS
from pipeline.cluster.connect import ADDRESS, connected, executor_option
from pipeline.common.extras import check_extra
from pipeline.common.interruptions import held
from pipeline.common.options import option
from pipeline.common.progress import duration_text
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.model_cache import POCKET, local_model
from pipeline.storage.objects import check_writable, write_bytes
from pipeline.storage.run_lock import RunLock, new_run_id
from pipeline.storage.setting_files import check_given_folder, check_setting
from pipeline.storage.uris import absolute, join
from pipeline.training.checkpoint import newest
from pipeline.training.curves import PAGE
from pipeline.training.run import MODEL, TrainJob, check_alone, check_data, check_run, fit_alone
from pipeline.training.settings import TrainSettings, WorkerSettings
from pipeline.training.start import StartSettings, first_model
from pipeline.training.targets import SUMMARY, check_output

USAGE = """
Train or fine-tune a model on data from jobs.prepare, on a Ray cluster, with Ray on this machine, or without Ray.

  python -m jobs.train stage=autoencoder data=s3://b/prepared output=s3://b/phase1 preset=pocket \\
      content_encoder=... emotion_encoder=... optimiser.steps=100000
  python -m jobs.prepare stage=latents output=s3://b/prepared model=s3://b/phase1/model
  python -m jobs.train stage=motion data=s3://b/prepared output=s3://b/phase2 model=s3://b/phase1/model \\
      optimiser.steps=100000
  python -m jobs.train stage=motion ... model=models/float adapter.rank=16 optimiser.steps=2000     one speaker

The output folder contains model/ (a model folder with the averaged weights, which jobs.render can load), checkpoints/,
curves.html, curves.parquet, tensorboard/ and sheets/. Running the same command again resumes from the newest
checkpoint, with any executor and with the same losses as an uninterrupted run. A larger optimiser.steps continues a
finished run.

Options: --help, --check (check the model and the data without training)
Exit codes: 0 trained; 2 the configuration, the model or the data was refused; 3 the cluster, a worker or the storage
failed; 4 a bug; 130 interrupted.
"""


@dataclass
class Train(StartSettings, TrainSettings):
    """Configuration of `jobs.train`."""

    output: str = option(
        "", "Folder of the run, local or s3://; with several nodes, a folder that all of them can see."
    )
    name: str = option("", "Name of the trained model; empty uses the name of the output folder.")
    executor: str = executor_option(
        "ray trains in workers on a Ray cluster, or with Ray on this machine; serial trains in this process with one "
        "worker and without Ray, for a laptop or a debugger; auto is ray."
    )
    address: str = option("", ADDRESS)
    wait_minutes: float = option(
        0.0,
        "Minutes to wait for a cluster to start the nodes that the workers need; also set workers.number and "
        "workers.gpus.",
        least=0,
    )
    workers: WorkerSettings = field(default_factory=WorkerSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(Train, USAGE, argv, ["--check"])
    missing = [key for key in ("stage", "data", "output") if not getattr(job, key)]
    missing += [] if job.optimiser.steps else ["optimiser.steps"]
    missing += [] if job.model or job.preset else ["model (the one to start from) or preset (the sizes of a new one)"]
    if missing:
        return fail(f"give a value for {', '.join(missing)}; --help says what they mean", REFUSED)
    if job.model and job.preset:
        return fail(
            "model, preset: give one of them, the model to start from or the sizes of a new model, not both", REFUSED
        )
    if job.workers.number > job.optimiser.batch:
        return fail(
            f"workers.number: a batch of {job.optimiser.batch} samples cannot keep {job.workers.number} workers busy; "
            "use fewer workers or a larger optimiser.batch",
            REFUSED,
        )
    if reason := lost_output(job.output):
        return fail(reason, REFUSED)
    job.output, job.data = absolute(job.output), absolute(job.data)
    if job.reconstruction.vgg:
        job.reconstruction.vgg = absolute(job.reconstruction.vgg)
    return ended(
        lambda: _locked(job, "--check" in flags),
        "interrupted: run the same command again to resume from the newest checkpoint",
    )


def _locked(job: Train, check: bool) -> int:
    if job.adapter.rank:
        check_extra("finetune", "adapters")
    if job.executor == "serial":
        check_alone(job.workers)
    check_output(job.output, {"model": job.model, "reconstruction.vgg": job.reconstruction.vgg})
    check_given_folder("data", job.data, "; python -m jobs.prepare creates it")
    if job.model:
        local_model(job.model if job.model == POCKET else absolute(job.model))
    if job.reconstruction.vgg:
        check_setting("reconstruction.vgg", job.reconstruction.vgg)
    check_writable(job.output)
    with RunLock(job.output, new_run_id()):
        return _train(job, check)


def _train(job: Train, check: bool) -> int:
    model = first_model(job, job.output, job.optimiser.seed)
    folder = local_model(model)
    settings = TrainSettings(**{f.name: getattr(job, f.name) for f in dataclasses.fields(TrainSettings)})
    samples = check_data(settings, folder)
    done = check_run(settings, folder, job.output)
    print(f"model {folder.name}, hash {folder.hash[:12]}, {_variant(folder.config)}, {folder.config.image_size} px")
    print("samples: " + ", ".join(f"{number} {split}" for split, number in samples.items()))
    if not samples["validation"]:
        print("NOTE: no speaker is held out, so nothing will be validated")
    if check:
        return DONE
    if done >= settings.optimiser.steps:
        print(
            f"step {done} of {settings.optimiser.steps} is done already; a larger optimiser.steps would continue "
            "training"
        )
    start = time.monotonic()
    name = job.name or job.output.rstrip("/").rsplit("/", 1)[-1]
    _fit(job, TrainJob(settings, model, job.output, name, job.workers.cpus))
    last = newest(job.output)
    summary = {"state": "finished", "steps": settings.optimiser.steps, "model": join(job.output, MODEL)}
    if last is not None:
        summary |= {"step": last.step, **last.figures}
    with held():
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


if __name__ == "__main__":
    raise SystemExit(main())
