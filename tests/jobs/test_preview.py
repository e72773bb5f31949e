"""`jobs.render --preview`: a page of a few cheap clips, beside an output that it leaves as it is."""

import json
import re

import pyarrow.parquet as pq
import pytest

from jobs.bench.capacity import Rates
from jobs.bench.job import Results
from jobs.cli import preview
from jobs.cli.preview import open_page, whole_command, with_number
from tests import media
from tests.running import run_job

ROWS = (
    {"clip_id": "short", "audio": "short.wav", "language": "en", "frame": "full"},
    {"clip_id": "same", "audio": "short.wav", "language": "en", "frame": "full"},
    {"clip_id": "long", "audio": str(media.SPEECH), "language": "de", "emotion": "happy", "timecode": "10:00:00:00"},
    {"clip_id": "gone", "audio": "none.wav", "language": "fr"},
    {"clip_id": "bad", "audio": "short.wav", "emotion": "<b>jolly"},
)


@pytest.fixture(scope="module")
def previewed(tiny_model, tmp_path_factory):
    """How the preview ended, what a dry run said before and after it, and the folder."""
    folder = tmp_path_factory.mktemp("preview")
    samples, rate = media.speech()
    (folder / "short.wav").write_bytes(media.wav(samples[:, : round(0.36 * rate)], rate))
    lines = (json.dumps({"image": str(media.PORTRAIT)} | row) for row in ROWS)
    (folder / "m.jsonl").write_text("\n".join(lines))
    job = (
        "render",
        "manifest=m.jsonl",
        f"model={tiny_model.path}",
        "output=out",
        "executor=serial",
        "video.preset=av1",
    )

    def run(*more):
        return run_job(*job, *more, cwd=folder)

    before = run("--dry-run")
    done = run("--preview", "3", "preview.seconds=0.6")
    return done, before, run("--dry-run"), folder


@pytest.mark.slow
def test_a_preview_renders_the_first_seconds_of_clips_that_differ_and_says_why(previewed):
    done, _, _, folder = previewed
    assert done.returncode == 1, done.stdout + done.stderr  # rows are rejected
    assert "preview: 3 of 4 clips; together they show every language" in done.stdout
    assert "row 3  long  for language de (1 row), emotion happy (1 row)" in done.stdout
    rows = {row["clip_id"]: row for row in pq.read_table(folder / "out" / "preview" / "clips.parquet").to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "short": "done", "long": "done", "gone": "rejected",
    }  # fmt: skip
    assert {name: rows[name]["frames"] for name in ("short", "long")} == {"short": 9, "long": 15}
    assert {(row["nfe"], row["frame"]) for row in rows.values()} == {(4, "crop")}
    for name in ("short", "long"):
        assert (rows[name]["preset"], rows[name]["qc_frames_missing"], rows[name]["qc_notes"]) == ("web", 0, [])
        assert len(media.pictures(rows[name]["uri"])) == rows[name]["frames"]
        assert rows[name]["input_notes"] == []
    assert rows["long"]["timecode"] == "10:00:00:00"


@pytest.mark.slow
def test_the_whole_run_does_not_see_the_preview(previewed):
    _, before, after, folder = previewed
    assert before.stdout == after.stdout
    assert "plan: 4 new" in after.stdout
    assert [one.name for one in (folder / "out").iterdir()] == ["preview"]


@pytest.mark.slow
def test_the_page_has_the_clips_their_settings_the_cost_and_every_row_that_was_rejected(previewed):
    done, _, _, folder = previewed
    place = folder / "out" / "preview"
    page = (place / "preview.html").read_text("utf-8")
    assert f"page  {place / 'preview.html'}" in done.stdout
    assert page.count("<video ") == 2
    for file in (place / "videos").iterdir():
        assert f'src="videos/{file.name}"' in page
    assert "4 here, 10 in the whole run" in page
    assert "av1, full frame" in page
    assert re.search(r"0\.60 of \d\.\d\d s", page)  # the rest of the audio is not here
    assert "input_not_found" in page
    assert "&#x27;&lt;b&gt;jolly&#x27; is not one of" in page
    assert "2 of the clips are full frames and files are av1: that takes longer" in page
    rates = Rates.of(Results.read(str(place / "rates.json")))
    assert (rates.nfe, rates.on_gpu) == (4, False)
    assert "CPU-" in page.partition("<dt>render</dt>")[2][:40]
    command = done.stdout.splitlines()[-1].strip()
    assert command.startswith("next  floatcast render manifest=m.jsonl model=")
    assert "preview." not in command
    assert "floatcast render manifest=m.jsonl" in page


def test_the_number_may_follow_the_flag_and_the_whole_command_has_neither():
    given = with_number(["manifest=a b.csv", "--preview", "4", "preview.seconds=2", "output=x"])
    assert given == ["manifest=a b.csv", "--preview", "preview.clips=4", "preview.seconds=2", "output=x"]
    assert with_number(["--preview=4"]) == ["--preview", "preview.clips=4"]
    assert with_number(["--preview", "output=x"]) == ["--preview", "output=x"]
    assert whole_command(given) == "floatcast render 'manifest=a b.csv' output=x"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--preview", "0"], "preview.clips"), (["--preview", "--check"], "exclude each other"), (["7"], "key=value")],
)
def test_what_no_preview_can_be_is_refused(arguments, said):
    done = run_job("render", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("variable", "terminal", "uri", "opens"),
    [
        ("DISPLAY", True, "/out/preview.html", True),
        ("NONE", True, "/out/preview.html", False),  # no screen: a browser would take over the terminal
        ("DISPLAY", False, "/out/preview.html", False),
        ("DISPLAY", True, "s3://bucket/preview.html", False),
        ("RAY_JOB_CONFIG_JSON_ENV_VAR", True, "/out/preview.html", False),
    ],
)
def test_the_page_opens_only_for_a_person_who_sits_there(variable, terminal, uri, opens, monkeypatch):
    opened = []
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, ":0")
    if variable.startswith("RAY"):
        monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(preview.webbrowser, "open", lambda place: opened.append(place) or True)
    monkeypatch.setattr(preview.sys.stdout, "isatty", lambda: terminal, raising=False)
    assert open_page(uri) is opens
    assert opened == (["file:///out/preview.html"] if opens else [])
