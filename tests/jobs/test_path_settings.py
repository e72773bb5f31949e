"""Every setting that is a path, given what it cannot be: the message names this setting and this path."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import media
from tests.running import run_job

INTERNAL = re.compile(r"\w*(Error|Exception)\b|Errno|Traceback|<class|object at 0x|b'")

FILES = {
    "render": (
        *("manifest", "consent.register", "qc.review", "qc.identity_model", "qc.syncnet", "config"),
        *("provenance.certificate", "provenance.private_key", "notify.secret_file"),
    ),
    "evaluate": ("manifest", "inception", "i3d", "identity_model", "syncnet", "expression", "pose_model", "config"),
    "prepare": ("clips.syncnet", "config"),
    "convert": ("float",),
    "train": ("reconstruction.vgg", "config"),
}
FOLDERS = {
    "render": ("output", "model"),
    "evaluate": ("output",),
    "prepare": ("output", "source"),
    "prepare latents": ("output", "model"),
    "train": ("output", "data", "model"),
    **dict.fromkeys(("status", "clean", "rebuild", "report"), ("output",)),
}
REPLACED = {"manifest": ".csv", "consent.register": ".csv"}
"""Suffixes without which a file would be refused for its name."""


@pytest.fixture
def folder(tmp_path, studio):
    """A folder in which every job could do its work."""
    media_rows = f"clip_id,image,audio\na,{media.PORTRAIT},{media.SPEECH}\n"
    (tmp_path / "m.csv").write_text(media_rows)
    (tmp_path / "pairs.csv").write_text("reference,generated,system\na.mp4,a.mp4,s\n")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"film")
    (tmp_path / "r.csv").write_text("consent_ref,speaker\nc,Anna\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").mkdir()
    studio.write(tmp_path)
    return tmp_path


def arguments(job, tiny_model, prepared):
    """Settings with which a job is accepted."""
    common = {"output": "out", "executor": "serial"}
    return {
        "render": common | {"manifest": "m.csv", "model": tiny_model.path},
        "evaluate": common | {"manifest": "pairs.csv"},
        "prepare": common | {"source": "films"},
        "prepare latents": {"stage": "latents", "output": prepared, "model": tiny_model.path, "executor": "serial"},
        "convert": {"output": "out"},
        "train": common
        | {"stage": "autoencoder", "data": prepared, "model": tiny_model.path, "optimiser.steps": 1}
        | {"optimiser.batch": 1},
    }.get(job, {"output": "out"})


BESIDE = {
    "consent.register": {"consent.speakers": "[Anna]"},
    "provenance.certificate": {"provenance.private_key": "key.pem"},
    "provenance.private_key": {"provenance.certificate": "chain.pem"},
    "notify.secret_file": {"notify.url": "https://localhost/x", "notify.allowed_hosts": "[localhost]"},
}


def cases():
    for faults, kinds in (({"missing": "none", "a folder": "empty"}, FILES), ({"a file": "file"}, FOLDERS)):
        for job, keys in kinds.items():
            for key in keys:
                for fault, place in faults.items():
                    yield pytest.param(job, key, fault, place + REPLACED.get(key, ""), id=f"{job} {key} {fault}")
    for job in ("status", "clean", "rebuild", "report"):
        yield pytest.param(job, "output", "missing", "none", id=f"{job} output missing")
    for job, key in (("render", "model"), ("prepare", "source"), ("prepare latents", "model"), ("train", "data")):
        yield pytest.param(job, key, "missing", "none", id=f"{job} {key} missing")
    for job in ("render", "evaluate", "prepare"):
        yield pytest.param(job, "output", "a file", "file/out", id=f"{job} output under a file")


@pytest.mark.parametrize(("job", "key", "fault", "place"), list(cases()))
def test_a_path_that_cannot_be_used_is_named_with_its_setting(
    job, key, fault, place, folder, tiny_model, prepared, phase1_model
):
    model = type(tiny_model).open(phase1_model) if job in ("prepare latents",) else tiny_model
    given = arguments(job, model, prepared) | BESIDE.get(key, {}) | {key: place}
    before = sorted(folder.rglob("*"))
    done = run_job(job.split()[0], *(f"{name}={value}" for name, value in given.items()), cwd=folder)
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip()
    assert "\n" not in said
    assert said.startswith(f"error: {key}")
    assert str(folder / place) in said or f"={place}" in said
    assert not INTERNAL.search(said), said
    kind = {"a file": "is a file", "a folder": "is a folder"}.get(fault, "")
    assert kind in said or fault == "missing"
    if fault == "missing":
        assert "does not exist" in said
    assert sorted(folder.rglob("*")) == before or job == "train"  # its model is read under the lock of its output


def test_an_output_that_is_a_file_is_named_before_anything_is_read(folder):
    done = run_job("render", "manifest=none.csv", "output=file", "model=none", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == f"error: output: {folder}/file is a file, not a folder: give the path of a folder\n"


def test_a_table_as_a_folder_without_tables_is_named(folder):
    pq.write_table(pa.table({"x": [1]}), folder / "empty" / "x.txt")
    done = run_job("render", "manifest=empty", "output=out", cwd=folder)
    assert done.returncode == 2
    assert str(folder / "empty") in done.stderr
