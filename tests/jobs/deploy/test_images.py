"""Lock files and Dockerfile: what machines and images install."""

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deployed import CLUSTER, DEPLOY, LOCKS, RAYJOB, README, ROOT, block, pins

CUDA = re.compile("nvidia|cuda|triton")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_satisfies_the_project_and_knows_no_machine(lock):
    locked = pins(lock)
    for needed in map(Requirement, project()["project"]["dependencies"] + project()["build-system"]["requires"]):
        version = Version(locked[canonicalize_name(needed.name)])
        assert needed.specifier.contains(version), f"{needed.name} {version}"
    extra = [line.partition("#")[0] for line in (DEPLOY / "requirements.in").read_text().splitlines()]
    for needed in map(Requirement, filter(None, extra)):
        assert needed.specifier.contains(Version(locked[canonicalize_name(needed.name)])), needed
    assert re.findall(r"https?://\S+|file:|/(?:home|root|tmp|work)\b", LOCKS[lock].read_text()) == (
        ["https://download.pytorch.org/whl/cpu"] if lock == "cpu" else []
    )


def test_the_lock_files_differ_in_pytorch_alone_as_the_readmes_command_makes_them(tmp_path):
    [script] = re.findall(
        r"^\(echo .*?requirements-cpu\.lock$", block("sh", "uv pip compile"), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "requirements-gpu.lock").write_text(LOCKS["gpu"].read_text())
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "requirements-cpu.lock").read_text() == LOCKS["cpu"].read_text()
    cpu, gpu = pins("cpu"), pins("gpu")
    assert {name for name in gpu if name not in cpu} == {name for name in gpu if CUDA.match(name)} != set()
    assert {name for name in cpu if cpu[name] != gpu.get(name)} == {"torch"}
    assert cpu["torch"] == gpu["torch"] + "+cpu"


def test_all_machines_have_the_ray_of_the_lock_files():
    version = pins("cpu")["ray"]
    assert RAYJOB["spec"]["rayClusterSpec"]["rayVersion"] == version
    images = set(re.findall(r"rayproject/ray:([\d.]+)-py(\d+)", (ROOT / "cluster.yaml").read_text()))
    assert images == {(version, "311")}
    assert f"ray[default]=={version}" in README


def installs(text):
    return re.findall(r"pip (?:install|wheel)[^&;|\n]*", text)


def test_no_machine_chooses_versions_when_it_starts():
    script = "\n".join(CLUSTER["setup_commands"] + CLUSTER["head_setup_commands"])
    found = installs(script)
    assert len(found) == 2
    assert all("--no-deps" in one for one in found)
    assert "jobs/deploy/requirements-$lock.lock" in found[0]
    assert "--no-build-isolation" in found[1]  # else pip fetches the newest setuptools
    assert {word.removeprefix("lock=") for word in re.findall(r"lock=\w+", script)} == set(LOCKS)


# --- Dockerfile ------------------------------------------------------------------------------------------------


def stages():
    """Stage -> (base, instructions as pairs of word and text)."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found = {}
    for line in filter(None, re.sub(r"\\\n", " ", text).splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()
            instructions = []
            found[name] = (base, instructions)
        else:
            instructions.append((word, rest.strip()))
    return found


def test_the_images_are_built_as_another_user_from_one_python_and_from_locked_versions():
    found = stages()
    assert list(found) == ["base", "wheel", "cpu", "gpu"]
    base = found["base"][0]
    assert re.fullmatch(r"python:3\.11-slim-\w+", base)  # no latest; Ray wants one Python on all nodes
    assert {found[name][0] for name in ("wheel", "cpu", "gpu")} == {"base"}
    for name in ("cpu", "gpu"):
        instructions = found[name][1]
        assert [text for word, text in instructions if word == "USER"] == ["1000"]
        assert ("COPY", f"jobs/deploy/{LOCKS[name].name} /tmp/requirements.lock") in instructions
        assert ("COPY", "--from=wheel /wheels /wheels") in instructions
        runs = [text for word, text in instructions if word == "RUN"]
        assert runs == ["pip install --no-deps -r /tmp/requirements.lock", "pip install --no-deps /wheels/*.whl"]
    known = {"RUN", "COPY", "ENV", "USER", "WORKDIR"}
    assert {word for _, instructions in found.values() for word, _ in instructions} <= known
    runs = [text for _, instructions in found.values() for word, text in instructions if word == "RUN"]
    assert all("--no-deps" in one for text in runs for one in installs(text))


def test_the_dockerfile_is_clean_to_its_linter():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def copied(stage):
    return [
        source
        for word, text in stages()[stage][1]
        if word == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]


def test_what_the_images_copy_exists_and_is_not_ignored():
    patterns = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in patterns if line.startswith("!")}
    for stage in stages():
        for source in copied(stage):
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in kept, source
    assert "*" in patterns
    # As for a job that is submitted: model folders beside the bundled one stay out.
    rayignore = (ROOT / ".rayignore").read_text().splitlines()
    assert {line.strip("!/") for line in rayignore if line.startswith("!")} <= kept
    assert {"models/*/", "**/*.pth", "**/__pycache__"} <= set(patterns)


@pytest.mark.slow
def test_the_wheel_of_the_images_is_built_from_what_they_copy(tmp_path):
    """As the stage `wheel` builds it, with the setuptools of this environment."""
    sources = [source for source in copied("wheel") if "/" not in source]
    for source in sources:
        (tmp_path / source).symlink_to(ROOT / source)
    [command] = [text for word, text in stages()["wheel"][1] if word == "RUN" and text.startswith("pip wheel")]
    command = command.replace("pip", f"{shlex.quote(sys.executable)} -m pip", 1).replace("/wheels", "wheels")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"jobs/render.py", "jobs/rayjob.py", "pipeline/cluster/metrics.py", "models/float.py"} <= names
    assert "models/pocket/model.safetensors" in names
    assert not [name for name in names if name.startswith("pipeline/research")]
