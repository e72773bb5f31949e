"""Measure the speed of a machine, and compare the engine with the released algorithm: `python -m jobs.benchmark`."""

if __name__ == "__main__":  # before the imports that take seconds
    from jobs.cli.first_line import first_line

    first_line("benchmark")

import math
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from jobs.bench.capacity import Rates, Work, describe_cluster, describe_manifest, estimated_lengths
from jobs.bench.job import FULL, BenchmarkJob, Outcome, Results, say
from jobs.bench.requests import measure_requests
from jobs.bench.sections import PLANNED, SECTIONS, Clock, Runner, Section, chosen, measure
from jobs.bench.table import derived, markdown
from jobs.bench.worker import Worker
from jobs.cli.config import parse
from jobs.cli.exit_codes import ended
from pipeline.common.errors import RefusedError
from pipeline.common.progress import duration_text
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.media.settings import VideoSettings
from pipeline.run.exit_codes import DONE, INCOMPLETE
from pipeline.storage.model_cache import POCKET, local_model

USAGE = f"""
Measure this machine in one run: what it is and the most that it can do, the released algorithm, the test of a render
worker, video encoders that open (NVENC too), the choice of the engine, the engine, the speech encoders, quality
control, and Ray with stages that do nothing. The released algorithm runs eagerly, one frame and one clip at a time,
with grouped convolutions. Without a GPU the same sections run on the CPUs.

  python -m jobs.benchmark                                        the full size, 8 minutes at most
  python -m jobs.benchmark device=cuda json=gpu.json markdown=gpu.md
  python -m jobs.benchmark model=pocket sections=[baseline,tuner,rendering]
  python -m jobs.benchmark --plan manifest=m.csv                  also estimate the hours that this manifest needs
  python -m jobs.benchmark --plan manifest=m.csv rates=gpu.json cpus=64 gpus=8
                                                                  with the rates of an earlier run; measures nothing
  python -m jobs.benchmark requests=s3://bucket/folder            only count the requests to object storage per clip

Sections: {", ".join(section.name for section in SECTIONS)}.
--plan measures only what it needs ({", ".join(PLANNED)}), unless sections= says otherwise.

A section that fails, hangs or kills its process is recorded with the reason, and the others go on. `minutes` is the
limit for everything, the requests of --plan included; what was skipped is named. The weights are the bundled ones:
model=full repeats their channels until the layers have the paper's sizes, because random weights amplify rounding.
The motion that is decoded comes from the plain model. PSNR is that of the worst of 8 frames against the plain model
in float32 without TF32, if only this step is the engine's. Rates are the best of several turns. Speech encoders of
the released sizes have random weights, and their PSNR is that of the bundled ones.
device=cuda has never been run, because no GPU has been available so far.
Options: --help, --plan
Exit codes: 0; 1 if a section failed or was skipped; 2 if a setting was refused; with requests= also 3 if the storage
failed.
"""

STORAGE_SHARE = 0.25
"""Share of the time that may be spent on the lengths of a plan's clips."""


def main(argv: Sequence[str] | None = None, runner: Callable[[BenchmarkJob], Runner] = Worker) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(BenchmarkJob, USAGE, argv, ["--plan"])
    if job.requests:
        return ended(lambda: count_requests(job))
    return ended(lambda: run(job, runner, plan="--plan" in flags), "interrupted: nothing more is measured")


def run(job: BenchmarkJob, runner: Callable[[BenchmarkJob], Runner], *, plan: bool) -> int:
    """Measure, write and print, and plan; returns the exit code. Raises RefusedError."""
    if job.rates and not plan:
        raise RefusedError("rates: only --plan uses the rates of an earlier run: add --plan, or leave rates= out")
    sections = chosen(job.sections or (PLANNED if plan else ()))
    on_gpu = job.on_gpu
    if job.model not in (FULL, POCKET):
        local_model(job.model)
    clock = Clock(60 * job.minutes)
    clips = plannable(job.manifest) if plan else ()
    lengths = lengths_of(clips, math.inf if job.rates else STORAGE_SHARE * clock.left) if plan else ()
    results = Results.read(job.rates) if job.rates else measured(job, sections, runner, on_gpu, clock, plan=plan)
    if plan:
        say_plan(job, clips, lengths, results)
    complete = all(outcome.status == "done" for outcome in results.sections.values())
    return DONE if complete or job.rates else INCOMPLETE


def measured(
    job: BenchmarkJob,
    sections: Sequence[Section],
    runner: Callable[[BenchmarkJob], Runner],
    on_gpu: bool,
    clock: Clock,
    *,
    plan: bool,
) -> Results:
    """Measure the sections, write the files, and print the table."""
    results = Results(
        {
            "model": job.model,
            "device": "cuda" if on_gpu else "cpu",
            "on_gpu": on_gpu,
            "cores": job.cores,
            "nfe": job.nfe,
            "minutes": job.minutes,
            "date": time.strftime("%Y-%m-%d"),
        }
    )
    worker = runner(job)
    say(f"{len(sections)} sections on the {'GPU' if on_gpu else 'CPUs'}, within {duration_text(clock.left)}")
    try:
        measure(sections, worker, clock, results, all_needed=plan)
    finally:
        worker.close()
        results.settings["seconds"] = round(clock.spent, 1)
        table = markdown(results, on_gpu)
        say(f"\n{table}")
        if job.json:
            results.write(job.json, derived(results, on_gpu))
        if job.markdown:
            Path(job.markdown).write_text(table)
            say(f"written to {job.markdown}")
    return results


def count_requests(job: BenchmarkJob) -> int:
    """Only the requests to object storage."""
    results = Results({"requests": job.requests}, {"requests": Outcome("done", measure_requests(job.requests))})
    if job.json:
        results.write(job.json, {})
    return DONE


def plannable(uri: str) -> Sequence[Clip]:
    """Clips of a manifest that the measured model, of the default variant, would render.

    Prints how many rows are rejected.
    """
    say("reading the manifest ...")
    # Whole pictures cost as much as squares at these rates, and a row with several faces may leave it to the settings.
    manifest = read_manifest(uri, ClipDefaults(), video=VideoSettings(frame="full"))
    if manifest.rejected:
        say(
            f"{len(manifest.rejected)} rows are rejected and not counted; the first: "
            f"{manifest.rejected[0].error.message}"
        )
    return manifest.clips


def lengths_of(clips: Sequence[Clip], seconds: float) -> Sequence[float]:
    """Estimated seconds of each clip, asked for within about so many `seconds`."""
    say(f"asking the storage for the sizes of {len(clips)} sounds ...")
    return estimated_lengths(clips, say, seconds)


def say_plan(job: BenchmarkJob, clips: Sequence[Clip], lengths: Sequence[float], results: Results) -> None:
    """Print the hours that the manifest needs at the measured rates, and the bottleneck of a cluster."""
    rates = Rates.of(results)
    work = Work.of(clips, lengths, rates, Fraction(VideoSettings().fps))
    say(describe_manifest(work, rates))
    if job.cpus:
        say(describe_cluster(work, rates, cpus=job.cpus, gpus=job.gpus))


if __name__ == "__main__":
    raise SystemExit(main())
