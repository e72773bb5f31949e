"""`floatcast render --check` says everything that it has found, on the screen and in a file."""

import csv
import json

import pytest
from PIL import Image

from jobs.cli import checking
from tests import media
from tests.pipeline.render.test_portrait import FACE, OTHER, beside, png
from tests.running import run_job


@pytest.fixture
def folder(tmp_path):
    """A manifest of 30 rows of which one is right."""
    (tmp_path / "face.png").write_bytes(media.PORTRAIT.read_bytes())
    (tmp_path / "a.wav").write_bytes(media.wav(media.tone()))
    rows = [f"c{i},face.png,{'a.wav' if i == 7 else f'none-{i}.wav'},{'x' if i == 3 else 1}" for i in range(1, 31)]
    (tmp_path / "m.csv").write_text("\n".join(["clip_id,image,audio,seed", *rows]))
    return tmp_path


def check(folder, *arguments):
    return run_job("render", "--check", "manifest=m.csv", *arguments, cwd=folder)


def test_every_problem_is_printed_with_its_row_and_nothing_is_written(folder):
    before = sorted(folder.rglob("*"))
    done = check(folder)
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("  rejected  ")]
    assert len(lines) == 29
    assert lines[0].startswith(f"  rejected  row 1  c1  input_not_found: audio {folder}/none-1.wav does not exist: ")
    assert lines[2].startswith("  rejected  row 3  c3  value_invalid: ")
    assert "1 clips can be rendered, 29 cannot; nothing was written" in done.stdout
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_what_is_too_much_for_a_screen_is_in_a_file(folder, monkeypatch):
    monkeypatch.setattr(checking, "PRINTED", 5)
    assert "... and 24 more clips: problems=problems.csv writes all of them" in check(folder).stdout
    for name in ("p.csv", "p.jsonl"):
        done = check(folder, f"problems={name}")
        assert f"all problems and notes are in {folder / name}" in done.stdout
    text = (folder / "p.csv").read_text("utf-8-sig")
    from_csv = list(csv.DictReader(text.splitlines()))
    from_jsonl = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    assert [int(row["row"]) for row in from_csv] == [i for i in range(1, 31) if i != 7]
    assert from_csv == [{name: str(value) for name, value in row.items()} for row in from_jsonl]
    assert tuple(from_csv[0]) == checking.COLUMNS


def test_faces_to_choose_from_are_in_pictures_with_their_numbers(tmp_path):
    (tmp_path / "two.png").write_bytes(png(beside(FACE, OTHER)))
    (tmp_path / "a.wav").write_bytes(media.wav(media.tone()))
    rows = ["alike,two.png,a.wav,", "named,two.png,a.wav,2", "gone,two.png,a.wav,3", 'lost,two.png,b.wav,"80,80"']
    (tmp_path / "m.csv").write_text("\n".join(["clip_id,image,audio,face", *rows]))
    done = check(tmp_path)
    assert "faces=FOLDER writes pictures of the numbered faces of 2 clips into that folder" in done.stdout
    assert "nothing was written" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"two.png", "a.wav", "m.csv"}
    done = check(tmp_path, "faces=faces")
    assert f"its faces with their numbers: {tmp_path}/faces/alike.jpg" in done.stdout
    assert f"pictures of the faces of 2 clips are in {tmp_path}/faces" in done.stdout
    assert {path.name for path in (tmp_path / "faces").iterdir()} == {"alike.jpg", "gone.jpg"}
    with Image.open(tmp_path / "faces" / "alike.jpg") as picture:
        assert picture.size == (360, 160)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--check", "manifest=m.csv", "problems=m.csv"], "m.csv is the manifest: give the name of another file"),
        (["--check", "manifest=m.csv", "problems=m.txt"], "problems: m.txt must end in .csv or .jsonl"),
        (["manifest=m.csv", "problems=p.csv"], "problems: only --check writes this file"),
        (["manifest=m.csv", "faces=pictures"], "faces: only --check writes these pictures"),
    ],
)
def test_a_file_of_problems_that_cannot_be_is_refused(arguments, said, folder):
    before = (folder / "m.csv").read_bytes()
    done = run_job("render", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert (folder / "m.csv").read_bytes() == before
