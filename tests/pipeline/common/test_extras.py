"""What optional packages are for is refused at once, with the command that installs them."""

import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.common.errors import RefusedError
from pipeline.common.extras import PACKAGES, check_extra
from tests.running import run_job

PACKAGE_OF = {"dlib": "dlib-bin"}
"""Module -> package, where they are called differently."""

ROOT = Path(__file__).parents[3]


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    check_extra("finetune", "adapters")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RefusedError, match=r"adapters need peft, which is not.*pip install 'floatcast\[finetune\]'"):
        check_extra("finetune", "adapters")


def test_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in PACKAGES.items():
        named = {requirement.split(">")[0] for requirement in extras[extra]}
        assert named == {PACKAGE_OF.get(module, module).replace("_", "-") for module in modules}


@pytest.mark.parametrize(
    ("job", "arguments", "module", "extra"),
    [
        (
            "train",
            ["stage=motion", "data={0}", "output={0}/o", "preset=pocket", "optimiser.steps=1"],
            "peft",
            "finetune",
        ),
        ("research.corpus", ["output={0}/o"], "moderngl", "corpus"),
        ("research.portraits", ["output={0}/o"], "anny", "corpus"),
        ("research.face_distance", [], "dlib", "identity"),
        ("render", ["qc.dlib_distance=always", "output={0}/o"], "dlib", "identity"),
        ("evaluate", ["dlib_distance=always", "manifest={0}/m.csv", "output={0}/o"], "dlib", "identity"),
    ],
)
def test_jobs_refuse_at_once_what_needs_a_package_that_is_not_there(
    job, arguments, module, extra, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    given = [argument.format(tmp_path) for argument in arguments] + (["adapter.rank=4"] if job == "train" else [])
    done = run_job(job, *given)
    assert done.returncode == 2, done.stderr
    assert f"need {module}" in done.stderr
    assert f"floatcast[{extra}]" in done.stderr
    assert not (tmp_path / "o").exists()
