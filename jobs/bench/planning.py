"""Measure how fast a long manifest is planned, and in how much memory: `python -m jobs.bench.planning`."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.counting import peak_megabytes
from jobs.cli.config import parse
from pipeline.cluster.connect import ADDRESS, executor_option, open_executor
from pipeline.common.disk_collections import batched
from pipeline.common.options import option
from pipeline.run.prepare_run import prepare_run
from pipeline.run.settings import RenderSettings

USAGE = """
Plan a manifest of many rows, of which none is done, and print the rows per second and the peak memory of this process
(the driver). The rows have one portrait and some small sounds, on the local disk; nothing is rendered.

  python -m jobs.bench.planning rows=200000
  python -m jobs.bench.planning rows=1000000 format=parquet     minutes, on the cluster or with Ray on this machine
  python -m jobs.bench.planning rows=20000 executor=serial      seconds, in this process

Options: --help. Exit code: 0.
"""

GROUP = 10_000


@dataclass
class PlanningJob:
    """Configuration of `jobs.bench.planning`."""

    rows: int = option(100_000, "Rows of the manifest.", least=1)
    sounds: int = option(1000, "Number of different sounds.", least=1)
    bytes: int = option(32_000, "Size of a sound.", least=1)
    format: str = option("jsonl", "Format of the manifest.", choices=("jsonl", "csv", "parquet"))
    executor: str = executor_option()
    address: str = option("", ADDRESS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(PlanningJob, USAGE, argv)
    with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
        for name, value in measure_planning(job, Path(folder)).items():
            print(f"{name.replace('_', ' ')}: {value:.4g}")
    return 0


def measure_planning(job: PlanningJob, folder: Path) -> dict[str, float]:
    """Write the files into `folder`, plan them, and return what was measured."""
    settings = RenderSettings(
        manifest=write_manifest(job, folder), output=str(folder / "out"), executor=job.executor, address=job.address
    )
    before = peak_megabytes()
    start = time.perf_counter()
    with open_executor(job.executor, job.address) as executor:
        opened, cpu = time.perf_counter(), time.process_time()
        prepared = prepare_run(settings, renders=True)
        identities = prepared.read_manifest(executor) if prepared.rows else None
        read = time.perf_counter()
        prepared.run.make_plan(identities)
        prepared.run.begin()
        end, cpu = time.perf_counter(), time.process_time() - cpu
    assert len(prepared.run.plan.todo) == job.rows
    return {
        "rows": job.rows,
        "start_up_seconds": opened - start,
        "seconds_to_read_the_manifest": read - opened,
        "seconds_to_compare_and_store_the_plan": end - read,
        "rows_per_second": job.rows / (end - opened),
        "cpu_seconds_of_this_process": cpu,
        "peak_memory_mb": peak_megabytes(),
        "growth_of_peak_memory_mb": peak_megabytes() - before,
    }


def write_manifest(job: PlanningJob, folder: Path) -> str:
    """The inputs and the manifest; returns its path."""
    (folder / "portrait.png").write_bytes(b"portrait")
    for i in range(job.sounds):
        (folder / f"{i}.wav").write_bytes(i.to_bytes(4, "big").ljust(job.bytes, b"\0"))
    manifest = folder / f"m.{job.format}"
    rows = (
        {"clip_id": f"clip-{i:07}", "image": "portrait.png", "audio": f"{i % job.sounds}.wav", "language": "en"}
        for i in range(job.rows)
    )
    if job.format == "parquet":
        schema = pa.schema(dict.fromkeys(("clip_id", "image", "audio", "language"), pa.string()))
        with pq.ParquetWriter(manifest, schema) as writer:
            for group in batched(rows, GROUP):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        return str(manifest)
    with manifest.open("w") as file:
        if job.format == "csv":
            file.write("clip_id,image,audio,language\n")
        file.writelines((json.dumps(row) if job.format == "jsonl" else ",".join(row.values())) + "\n" for row in rows)
    return str(manifest)


if __name__ == "__main__":
    raise SystemExit(main())
