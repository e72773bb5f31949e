"""What the driver keeps does not grow with the clips."""

import json
import subprocess
import sys

import pytest

MEASURE = (
    "import json, sys; from jobs.overhead import measure_ray; print(json.dumps(measure_ray(int(sys.argv[1]), 600.0)))"
)


@pytest.mark.slow
def test_the_drivers_memory_is_flat(tmp_path):
    def growth(clips):
        done = subprocess.run([sys.executable, "-c", MEASURE, str(clips)], capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    few, many = growth(1_000), growth(31_000)
    assert (few["ray_units"], many["ray_units"]) == (17, 517)
    # Clips and their rows as Python objects would be 100 MB; Ray keeps some for each of the 500 units.
    assert many["ray_driver_growth_mb"] - few["ray_driver_growth_mb"] < 40
