"""What the driver keeps does not grow with the clips."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import ray

from jobs.bench.job import BenchmarkJob
from jobs.bench.overhead import measure_overhead

MEASURE = """
import json, sys, ray
from jobs.bench.overhead import measure_ray
ray.init(sys.argv[1], logging_level="error", log_to_driver=False)
for clips in (500, 8_000):
    print(json.dumps(measure_ray(clips, 2400.0)), flush=True)
"""


@pytest.mark.slow
def test_the_drivers_memory_is_flat(local_ray):
    # A driver of its own: memory that another test has left would hide what is used.
    command = [sys.executable, "-c", MEASURE, ray.get_runtime_context().gcs_address]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = map(json.loads, done.stdout.splitlines())
    assert (few["ray_units"], many["ray_units"]) == (3, 34)
    # Clips and their rows as Python objects would be 25 MB; Ray keeps some for each unit.
    assert many["ray_driver_growth_mb"] < 12, (few, many)


@pytest.mark.slow
def test_the_benchmark_counts_units_and_the_time_that_workers_wait(local_ray):
    figures = measure_overhead(SimpleNamespace(job=BenchmarkJob(clips=20)))
    assert figures["ray_units"] == 4  # of six clips of 10 s each
    assert figures["ray_milliseconds_a_clip"] > 0
    assert figures["ray_idle_share"] < 1
    assert measure_overhead(SimpleNamespace(job=BenchmarkJob(clips=0))) == {}
