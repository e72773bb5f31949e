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


@pytest.mark.slow
def test_the_wheel_renders_the_demo_beside_folders_that_are_called_as_ours(tmp_path):
    """With Ray, whose workers import the program too. The environment borrows the packages that ours has."""
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(source)]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    assert not (site / "pipeline" / "research").exists()
    assert not (site / "jobs" / "research").exists()
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "borrowed.pth").write_text(ours + "\n")
    for name in ("models", "pipeline", "jobs"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise ImportError('somebody else')\n")
    foreign = {"PYTHONPATH", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    command = [tmp_path / "env" / "bin" / "floatcast", "render", "limit=2", "qc.enabled=false"]
    done = subprocess.run(
        command, cwd=tmp_path / "work", env=environment | {"RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "work" / "out" / "videos").glob("*.mp4"))) == 2
    version = subprocess.run([command[0], "--version"], cwd=tmp_path / "work", capture_output=True, text=True)
    assert version.stdout == f"floatcast {__version__}\n"
    called = subprocess.run(
        [python, "-P", "-c", "import floatcast; print(floatcast.__file__)"], capture_output=True, text=True
    )
    assert called.stdout.startswith(str(site)), called.stderr
