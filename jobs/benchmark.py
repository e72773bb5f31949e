"""Compare the speed of the engine with the released algorithm: `python -m jobs.benchmark`."""

import json
import os
import platform
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch

from jobs.bench.capacity import Rates, describe_cluster, describe_limit, describe_manifest
from jobs.bench.counting import peak_megabytes
from jobs.bench.features import measure_features
from jobs.bench.job import BenchmarkJob, Measurements
from jobs.bench.overhead import measure_idle, measure_ray
from jobs.bench.quality import measure_quality
from jobs.bench.rendering import measure_rendering, measure_variants
from jobs.bench.requests import measure_requests
from jobs.bench.subject import Subject
from jobs.cli.config import parse
from jobs.cli.exit_codes import ended
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.media.settings import VideoSettings
from pipeline.render.continuous_batching import choose_slots
from pipeline.run.exit_codes import DONE

IDLE_CLIPS = 800
"""Number of clips of a tenth of a second each that show how long render workers wait for work."""

USAGE = """
Compare the engine with the released algorithm on this machine, in one run. The released algorithm runs eagerly, one
frame and one clip at a time, with grouped convolutions. Both use random weights (model=pocket uses the bundled ones)
and run without Ray. The overhead of Ray itself is then measured with stages that do nothing. The full-size model takes
about six minutes.

  python -m jobs.benchmark
  python -m jobs.benchmark model=pocket json=benchmark.json
  python -m jobs.benchmark sweep=true                             also try other batch sizes and dtypes
  python -m jobs.benchmark --plan manifest=m.csv                  also estimate the hours that this manifest needs
  python -m jobs.benchmark --plan manifest=m.csv cpus=64 gpus=8   also say what would limit a cluster of this size
  python -m jobs.benchmark requests=s3://bucket/folder            only count the requests to object storage per clip

Both compute in float32 from the same weights, and their frames are compared. The baseline runs first and uses the
default memory allocator. The engine sets its own allocator options (pipeline/common/malloc.py), which would speed up
the baseline too.
device=cuda has never been run, because no GPU has been available so far.
Options: --help, --plan
Exit codes: 0; with requests= also 2 if the folder was refused, and 3 if the storage failed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(BenchmarkJob, USAGE, argv, ["--plan"])
    if job.requests:
        return ended(lambda: _count_requests(job))
    clips = plannable(job.manifest) if "--plan" in flags else []
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    device = torch.device(job.device)
    subject, measurements = Subject(job, device), Measurements()
    measure_rendering(subject, measurements)
    if job.sweep:
        measure_variants(subject, measurements)
    measure_features(job, subject.model, device, measurements)
    measure_quality(measurements)
    if job.clips:
        print(f"Ray: {job.clips} clips through stages that do nothing ...", flush=True)
        measurements.further |= measure_ray(job.clips)
        measurements.further |= measure_idle(min(job.clips, IDLE_CLIPS))
    measurements.further["peak_memory_gb"] = peak_megabytes() / 1000
    if device.type == "cuda":
        measurements.further["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    print_measurements(job, measurements)
    write_measurements(job, measurements)
    if "--plan" in flags:
        print_plan(job, clips, measurements)
    return 0


def _count_requests(job: BenchmarkJob) -> int:
    measurements = Measurements()
    measure_requests(job.requests, measurements)
    write_measurements(job, measurements)
    return DONE


def write_measurements(job: BenchmarkJob, measurements: Measurements) -> None:
    """Write all figures as JSON, if `json` names a file."""
    if not job.json:
        return
    table = {
        s.name: {"baseline": s.baseline, "engine": s.engine, "unit": s.unit, "ratio": s.ratio}
        for s in measurements.stages
    }
    content = table | {"variants": measurements.variants, "further": measurements.further}
    Path(job.json).write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {job.json}")


def plannable(uri: str) -> Sequence[Clip]:
    """Clips of a manifest that the measured model, of the default variant, would render.

    Prints how many rows are rejected.
    """
    manifest = read_manifest(uri, ClipDefaults())
    if manifest.rejected:
        print(
            f"{len(manifest.rejected)} rows are rejected and not counted; the first: "
            f"{manifest.rejected[0].error.message}"
        )
    return manifest.clips


def print_measurements(job: BenchmarkJob, measurements: Measurements) -> None:
    """Print the table."""
    name = torch.cuda.get_device_name() if job.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"\n{job.model}, float32, {name}, {platform.machine()}, PyTorch {torch.__version__}, nfe {job.nfe}")
    print(f"{'':12} {'baseline':>10} {'engine':>10}           ratio")
    for stage in measurements.stages:
        print(f"{stage.name:12} {stage.baseline:10.2f} {stage.engine:10.2f} {stage.unit:9} {stage.ratio:6.2f} x")
    print(
        "encode: both use the same x264, one encoder with one thread; features: both use the same encoders, in "
        "windows or on the whole clip"
    )
    print(describe_limit(measurements, choose_slots(job.slots, gpu=job.device == "cuda")))
    for text, value in measurements.variants.items():
        print(f"{text}: {value:.3g}")
    for text, value in measurements.further.items():
        print(f"{text.replace('_', ' ')}: {value:.3g}")


def print_plan(job: BenchmarkJob, clips: Sequence[Clip], measurements: Measurements) -> None:
    """Print the hours that the manifest needs at the measured rates, and the bottleneck of a cluster."""
    rates = Rates(
        workers_cpus=torch.get_num_threads(),
        on_gpu=job.device == "cuda",
        features=measurements.rate("features"),
        load_seconds=measurements.further["load_seconds_a_clip"],
        sampling=measurements.rate("sampling"),
        end_to_end=measurements.rate("end_to_end"),
        nfe=job.nfe,
    )
    print()
    print(describe_manifest(clips, rates, Fraction(VideoSettings().fps)))
    if job.cpus:
        print(describe_cluster(clips, rates, Fraction(VideoSettings().fps), cpus=job.cpus, gpus=job.gpus))


if __name__ == "__main__":
    raise SystemExit(main())
