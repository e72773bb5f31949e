"""The house rules: imports go one way, one file knows Ray Data, the README's commands are what CI runs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def importers(package, *names):
    """Files of a package that import one of the top-level modules `names`."""
    return {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / package).rglob("*.py")
        if any(module.split(".")[0] in names for module in imported(file))
    }


def test_imports_go_from_jobs_to_pipeline_to_models():
    assert importers("models", "pipeline", "jobs", "ray") == set()
    assert importers("pipeline", "jobs") == set()


ROOMS = (
    *("common", "storage", "media", "face", "manifest", "measure", "ledger", "render", "qc", "report", "cluster"),
    *("run", "training_data", "training", "evaluation", "research", "api"),
)
"""Of `pipeline`, in their order: each imports only rooms before it, and the settings above them."""


def test_rooms_import_only_what_lies_below_them():
    assert {file.parent.name for file in (ROOT / "pipeline").glob("*/__init__.py")} == set(ROOMS)
    for file in (ROOT / "pipeline").rglob("*.py"):
        own = file.relative_to(ROOT / "pipeline").parts[0]
        for module in imported(file):
            parts = module.split(".")
            if parts[0] == "pipeline" and len(parts) > 1 and own in ROOMS:
                assert ROOMS.index(parts[1]) <= ROOMS.index(own), f"{file.relative_to(ROOT)} imports {module}"


def test_modules_import_each_other_in_no_circle():
    """Of each other's classes at the top of a file; what waits until it is used is no circle."""
    files = {}
    for package in ("models", "pipeline", "jobs"):
        for file in (ROOT / package).rglob("*.py"):
            files[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    arrows = {name: {m for m in at_the_top(file) if m in files} - {name} for name, file in files.items()}
    while arrows:
        ends = {name for name, targets in arrows.items() if not targets & set(arrows)}
        assert ends, f"in a circle: {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in ends}


def at_the_top(file):
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def test_nothing_but_its_jobs_imports_research():
    outside = [file for file in (ROOT / "pipeline").rglob("*.py") if "research" not in file.parts]
    outside += [file for file in (ROOT / "jobs").rglob("*.py") if "research" not in file.parts]
    assert [file for file in outside for module in imported(file) if ".research" in module] == []


def test_names_are_imported_from_the_module_that_defines_them():
    defined = {}
    for package in ("models", "pipeline", "jobs"):
        for file in (ROOT / package).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text())))
            names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            defined[".".join(file.relative_to(ROOT).with_suffix("").parts)] = names
    passed_on = {
        f"{file.relative_to(ROOT)}: {node.module}.{alias.name}"
        for package in ("models", "pipeline", "jobs", "tests")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in defined
        for alias in node.names
        if alias.name not in defined[node.module] and f"{node.module}.{alias.name}" not in defined
    }
    assert passed_on == set()


def test_files_are_neither_long_nor_scraps():
    lines = {
        file.relative_to(ROOT).as_posix(): file.read_text().count("\n")
        for package in ("pipeline", "jobs")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert {name: count for name, count in lines.items() if count > 300} == {}
    assert sum(count < 40 for count in lines.values()) <= len(lines) / 10


def test_the_wheel_has_every_package_but_research():
    packages = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in ("models", "pipeline", "jobs")
        for file in (ROOT / package).rglob("__init__.py")
        if "research" not in file.parts
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["packages"]) == packages | {"floatcast"}


def test_models_needs_only_torch_numpy_safetensors_and_transformers():
    third_party = {module.split(".")[0] for file in (ROOT / "models").rglob("*.py") for module in imported(file)}
    third_party -= set(sys.stdlib_module_names) | {"models"}
    # torch itself requires filelock
    assert third_party == {"torch", "numpy", "safetensors", "transformers", "filelock"}


def test_one_package_knows_rays_cluster_and_one_file_ray_train():
    ours = {name for name in importers("pipeline", "ray") if not name.startswith("pipeline/cluster/")}
    # `api` names the type of a data set for type checkers, and imports it for them alone.
    assert ours == {"pipeline/training/trainer.py", "pipeline/api/rendering.py"}
    knows = {"ray.data": set(), "ray.train": set()}
    for file in (ROOT / "pipeline").rglob("*.py"):
        for module in imported(file):
            for library, files in knows.items():
                if module == library or module.startswith(f"{library}."):
                    files.add(file.name)
    assert knows == {
        "ray.data": {"ray_data.py", "source.py", "manifest_data.py", "video_data.py", "rendering.py"},
        "ray.train": {"trainer.py"},
    }


def test_stages_import_without_ray():
    stages = "pipeline.run.graph, pipeline.cluster.serial, pipeline.ledger.table, pipeline.training.run"
    stages += ", pipeline.training_data.stage"
    code = f"import sys; sys.modules['ray'] = None; import {stages}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_who_plans_renders_or_trains_does_not_import_transformers():
    """It takes as long as all else together, in every worker's process."""
    modules = "jobs.render, jobs.prepare, jobs.train, jobs.status, pipeline.cluster.ray_data, pipeline.training.trainer"
    code = f"import sys; sys.modules['transformers'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_who_plans_judges_or_delivers_does_not_import_pytorch():
    """It is most of what a worker's process costs at its start, and these have no tensors."""
    modules = "pipeline.run.plan_stage, pipeline.qc.stage, pipeline.ledger.ledger, pipeline.report.render_report"
    modules += ", pipeline.cluster.board, pipeline.cluster.worker, jobs.status, jobs.deliver, jobs.review"
    code = f"import sys; sys.modules['torch'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "jobs.render"], ["/usr/lib/ray/gcs_server"], ["ray", "stop"]]
)
def test_the_quick_round_starts_no_ray_and_no_process_of_a_job(command):
    with pytest.raises(pytest.fail.Exception, match="has the mark `slow`"):
        subprocess.Popen(command)


def test_ci_runs_the_readmes_test_command():
    commands = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[:2]
    assert all(command.count("\n") == 1 for command in commands)
    assert "jobs.render" in commands[0]
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "tool", [["ruff", "check"], ["ruff", "format", "--check"], pytest.param(["mypy"], marks=pytest.mark.slow)]
)
def test_linters_and_types_are_clean(tool):
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
