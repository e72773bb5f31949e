"""What README.md tells a person to do is done as it is written."""

import re
import shlex
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli.command import main
from tests import media
from tests.running import process_as_it_was

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_manifest_of_the_readme_is_checked_and_rendered_by_its_commands(tmp_path, monkeypatch, capsys):
    text = section("Your own manifest")
    (rows,) = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (tmp_path / "clips.csv").write_text(rows)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^    (floatcast .*)$", text, re.MULTILINE)]
    assert [command[1] for command in commands] == ["render", "render"]
    for command in commands:
        with process_as_it_was():
            assert main([*command[1:], "executor=serial"]) == 0, capsys.readouterr()
    assert "3 clips can be rendered, 0 cannot" in capsys.readouterr().out
    written = [line.split()[0] for line in re.findall(r"^    (mine/\S+)", section("What comes out"), re.MULTILINE)]
    assert written
    assert all((tmp_path / name).exists() for name in written)
    table = pq.read_table("mine/clips.parquet")
    assert table["qc_status"].to_pylist() == ["pass"] * 3
    assert (tmp_path / "mine" / "clips.csv").exists()
    lines = [f"{clip_id},1,approved," for clip_id in table["clip_id"].to_pylist()]  # as `floatcast review` writes them
    (tmp_path / "mine" / "review.csv").write_text("\n".join(["clip_id,take,verdict,comment", *lines]))
    (command,) = re.findall(r"^    (floatcast deliver .*)$", section("What comes out"), re.MULTILINE)
    with process_as_it_was():
        assert main(shlex.split(command, comments=True)[1:]) == 0
    assert len(list((tmp_path / "delivery").glob("*.mp4"))) == 3


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """Without Ray, which the same call starts where a job does (tests/jobs/cli/test_command.py)."""
    (code,) = re.findall(r"```python\n(.*?)```", section("From Python"), re.DOTALL)
    shutil.copy(media.PORTRAIT, tmp_path / "face.png")
    shutil.copy(media.SPEECH, tmp_path / "speech.wav")
    monkeypatch.chdir(tmp_path)
    rendered = code.replace('output="out"', 'output="out", executor="serial"')
    assert rendered != code
    with process_as_it_was():
        exec(rendered, {})
    assert "'status': 'done'" in capsys.readouterr().out
