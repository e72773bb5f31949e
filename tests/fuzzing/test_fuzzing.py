"""Each reader gets some mutants, always the same ones; and the fuzzer itself finds every kind of harm."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.errors import ClipError
from tests.fuzzing import processes
from tests.fuzzing.__main__ import made, main
from tests.fuzzing.kinds import KINDS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "mutants"), [([kind for kind in KINDS if kind != "state"], 96), (["state"], 24)])
def test_mutants_are_read_or_refused(kinds, mutants, tmp_path):
    """In a process without the threads that a test process has, because it forks."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzzing",
        f"kind={','.join(kinds)}",
        f"mutants={mutants}",
        f"keep={tmp_path}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{kind}: {mutants} mutants in" in done.stdout for kind in kinds)


HARM = {
    "nothing": (lambda: None, "read"),
    "refused": (lambda: refuse(), "refused: audio_empty"),
    "raises": (lambda: {}["x"], "raises KeyError"),
    "memory": (lambda: bytearray(b"x" * 60_000_000), "takes"),
    "dies": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "kills its process by SIGSEGV"),
    "ends": (lambda: os._exit(3), "ends its process with exit code 3"),
    "computes": (lambda: compute(), "hangs: more than 1 s of one core"),
    "waits": (lambda: signal.pause(), "hangs: no result in 1 s"),
}


def refuse():
    raise ClipError("audio_empty", "x")


def compute():
    while True:
        pass


def outcomes(names):
    found = processes.results(lambda name, data: HARM[name][0](), [(name, b"") for name in names], (ClipError,))
    for name, result in zip(names, found, strict=True):
        assert result.outcome.startswith(HARM[name][1]), name
        assert result.is_harm == (name not in ("nothing", "refused"))


@pytest.mark.slow
def test_harm_is_found_and_the_next_mutants_are_read_all_the_same(monkeypatch):
    monkeypatch.setattr(processes, "CPU_SECONDS", 1)
    monkeypatch.setattr(processes, "MEGABYTES", 30)
    outcomes([name for name in HARM if name != "waits"] + ["nothing"])
    monkeypatch.setattr(processes, "WALL_SECONDS", 1)
    outcomes(["waits"])


def test_a_mutant_is_made_again_from_its_seed_and_number_and_from_the_kept_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", None)
    seeds = KINDS["tables"].seeds()
    name, data = made("tables", 7, 5, seeds)
    assert (name, data) == made("tables", 7, 5, seeds) != made("tables", 8, 5, seeds)
    file = tmp_path / f"tables-7-5-{name}"
    file.write_bytes(b"\xff")
    assert main([f"again={file}"]) == 0
    assert capsys.readouterr().out.startswith("refused: ManifestError")
