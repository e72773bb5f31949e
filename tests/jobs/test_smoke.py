"""Each job as a program: `python -m jobs.X`. What it does is tested in the tests' own process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "jobs").rglob("*.py")
    if 'if __name__ == "__main__":' in file.read_text()
)

LIGHT = {f"jobs.{name}" for name in ("clean", "deliver", "join", "rebuild", "report", "review", "status", "submit")}
"""Jobs that compute nothing, and do not wait for PyTorch."""


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_starts_and_tells_its_keys(job, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", job, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m {job} " in done.stdout
    assert "key=value" in done.stdout
    if job in LIGHT:
        assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE), "it imports PyTorch"


@pytest.mark.slow
def test_an_exit_code_of_a_job_is_that_of_its_process():
    done = subprocess.run([sys.executable, "-m", "jobs.status", "nonsense=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown key 'nonsense'")
    assert done.stdout == ""
