"""The program `floatcast`."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from jobs.cli.command import main, names
from jobs.cli.first_line import SLOW
from pipeline import __version__
from pipeline.measure.metrics import METRICS
from pipeline.storage.model_cache import local_model
from tests.jobs.test_render import check_video, table

ROOT = Path(__file__).parents[3]


def test_it_lists_the_jobs_with_what_each_does(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "render              Render a manifest" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"floatcast {__version__}\n"
    assert main([]) == 2


def test_a_job_gets_the_other_arguments(capsys):
    assert {"render", "submit", "train", "research.corpus"} <= set(names())
    with pytest.raises(SystemExit) as ended:
        main(["status", "outptu=x"])
    assert ended.value.code == 2
    assert "did you mean output?" in capsys.readouterr().err
    assert main(["rendr"]) == 2
    assert "there is no job called 'rendr': did you mean render?" in capsys.readouterr().err


def test_a_job_that_imports_for_seconds_says_first_that_it_begins(capsys):
    for arguments, said in (["nonsense=1"], "render: loading PyTorch and other libraries ...\n"), (["--help"], ""):
        with pytest.raises(SystemExit):
            main(["render", *arguments])
        out = capsys.readouterr().out
        assert out.startswith(said)
        assert ("loading" in out.splitlines()[0]) == bool(said)
    for job in SLOW:  # as modules too: before any other import
        first = (ROOT / "jobs" / f"{job}.py").read_text().split("\nimport ")[0]
        assert f'first_line("{job}")' in first


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the project's wheel. It borrows the packages that ours has, also to build it."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    venv.create(folder / "env", with_pip=False)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site_of(folder / "env") / "borrowed.pth").write_text(ours + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env" / "bin" / "python"), "install", "-q"]
    done = subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "env"


def site_of(environment):
    return next((environment / "lib").glob("python*/site-packages"))


@pytest.mark.slow
def test_the_wheel_renders_the_demo_by_the_bundled_model_beside_folders_that_are_called_as_ours(installed, tmp_path):
    """As a person's first command does: with Ray, whose workers import the program too, and all of it passes quality
    control.
    """
    for name in ("models", "pipeline", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('somebody else')\n")
    foreign = {"PYTHONPATH", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    environment |= {"RAY_AUTH_MODE": "disabled", "FLOATCAST_CACHE": str(tmp_path / "cache")}
    command = [installed / "bin" / "floatcast", "render"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = local_model("pocket")
    assert f"model {folder.name} ({folder.hash[:12]}), licence Apache-2.0" in done.stdout
    assert done.stdout.startswith("render: loading PyTorch and other libraries ...\n")
    assert "\nstarting Ray on this machine ...\n" in done.stdout
    # Lines that libraries write themselves, and that concern nobody.
    assert "core_worker.cc" not in done.stderr + done.stdout
    assert "TensorFlow Lite" not in done.stderr + done.stdout
    assert ("UNTRAINED" in done.stdout) == (not folder.trained)
    rows = table(tmp_path / "out")
    assert {row["width"] for row in rows.values()} == {folder.config.image_size}
    assert {name: row["qc_reasons"] for name, row in rows.items() if row["qc_status"] != "pass"} == {}
    assert {row["qc_face_share"] for row in rows.values()} == {1}
    heard = sorted(row["qc_lip_correlation"] for row in rows.values())
    assert heard[len(heard) // 2] > 0.25  # mouths go with the speech; untrained ones stay near 0.1
    check_video(rows["en-1"]["uri"], rows["en-1"])
    # Another CPU rounds otherwise: what sits on the edge of a limit here is beyond it there.
    edges = {name: edge for name, row in rows.items() if (edge := nearest_limit(row))[0] < 0.1}
    assert edges == {}


def nearest_limit(row):
    """(room, metric) of the metric that is nearest to a limit, as a share of that limit; of full scale for the peak.

    There is no room before a limit of 0, which is a count's, nor before the share of frames with a face, which is 1.
    """
    rooms = [(1 - 10 ** (row["qc_true_peak_dbtp"] / 20), "qc_true_peak_dbtp")]
    for metric in METRICS:
        value = row.get(metric.column)
        if value is not None and metric.column not in ("qc_true_peak_dbtp", "qc_face_share"):
            for rule in (rule for rule in metric.rules if rule.limit):
                side = 1 if rule.operator == "<" else -1
                rooms.append((side * (value - rule.limit) / abs(rule.limit), metric.column))
    return min(rooms)


@pytest.mark.slow
def test_the_wheel_has_all_but_research_and_is_the_program_that_is_called(installed, tmp_path):
    site = site_of(installed)
    assert not (site / "pipeline" / "research").exists()
    assert not (site / "jobs" / "research").exists()
    program = [installed / "bin" / "floatcast", "--version"]
    version = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert version.stdout == f"floatcast {__version__}\n"
    called = subprocess.run(
        [installed / "bin" / "python", "-P", "-c", "import floatcast; print(floatcast.__file__)"],
        capture_output=True,
        text=True,
    )
    assert called.stdout.startswith(str(site)), called.stderr
