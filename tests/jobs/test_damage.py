"""The damage drill: what a crash, a disk or a person leaves of an output's files, one at a time; the next run ends
right, names what it found, renders only what was really lost, and no job shows a traceback.
"""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.storage import run_lock
from tests import media
from tests.running import run_job

CLIPS = ("a", "b", "c")


def render(output, model, *arguments):
    settings = (f"model={model.path}", f"output={output}", "executor=serial", "qc.enabled=false", *arguments)
    return run_job("render", f"manifest={output.parent / 'm.jsonl'}", *settings)


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """A folder with a manifest of three clips that are done and one that is rejected, and their output."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "face.png").write_bytes(media.PORTRAIT.read_bytes())
    (folder / "tone.wav").write_bytes(media.wav(media.tone(seconds=0.3)))
    rows = [{"clip_id": name, "image": "face.png", "audio": "tone.wav", "seed": i} for i, name in enumerate(CLIPS)]
    rows.append({"clip_id": "no", "image": "face.png", "audio": "none.wav"})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = render(folder / "out", tiny_model)
    assert done.returncode == 1, done.stderr
    return folder


@pytest.fixture
def output(finished, tmp_path):
    """A copy of that output, at a place of its own, with the same inputs."""
    shutil.copytree(finished / "out", tmp_path / "work" / "out")
    text = (finished / "m.jsonl").read_text()
    for name in ("face.png", "tone.wav", "none.wav"):
        text = text.replace(name, str(finished / name))
    (tmp_path / "work" / "m.jsonl").write_text(text)
    return tmp_path / "work" / "out"


def cut(file, foreign):
    file.write_bytes(file.read_bytes()[: max(1, file.stat().st_size // 2)])


def emptied(file, foreign):
    file.write_bytes(b"")


def garbage(file, foreign):
    file.write_bytes(os.urandom(file.stat().st_size))


def folder(file, foreign):
    file.unlink()
    file.mkdir()
    (file / "x").write_text("of somebody")


def link_to_nothing(file, foreign):
    file.unlink()
    file.symlink_to(foreign.with_name("nothing"))


def link_to_a_foreign_file(file, foreign):
    file.unlink()
    file.symlink_to(foreign)


def removed(file, foreign):
    file.unlink()


def pipe(file, foreign):
    file.unlink()
    os.mkfifo(file)


DAMAGES = (cut, emptied, garbage, folder, link_to_nothing, link_to_a_foreign_file, pipe)


def records(output):
    return {file.name: json.loads(file.read_text()) for file in (output / "done").iterdir()}


def one(output, pattern):
    (file,) = output.glob(pattern)
    return file


def rendered(done):
    """How many clips a run had to render."""
    return int(done.stdout.split("plan: ")[1].split(" new, ")[0]) + int(done.stdout.split(" new, ")[1].split(" ")[0])


def statuses(output):
    return {row["clip_id"]: row["status"] for row in pq.read_table(output / "clips.parquet").to_pylist()}


EVERY = dict.fromkeys(CLIPS, "done") | {"no": "rejected"}


def damaged(output, name, how, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.write_text("precious")
    file = one(output, name)
    how(file, foreign)
    return file, foreign


def check_no_traceback(*ended):
    for done in ended:
        assert "Traceback" not in done.stderr, done.stderr
        assert "JSONDecodeError" not in done.stderr + done.stdout
        assert done.returncode in (0, 1, 2), done.stderr


OTHERS = [
    (name, how)
    for name in ("plan.parquet", "failed.jsonl", "summary.json", "report.html")
    for how in (cut, folder, link_to_a_foreign_file)
]


@pytest.mark.parametrize(("name", "how"), [*(("clips.parquet", how) for how in DAMAGES), *OTHERS])
def test_what_can_be_derived_is_written_again_and_nothing_is_rendered(name, how, output, tiny_model, tmp_path):
    before = records(output)
    file, foreign = damaged(output, name, how, tmp_path)
    check_no_traceback(run_job("status", f"output={output}"))
    if how is cut:
        dry = render(output, tiny_model, "--dry-run")
        check_no_traceback(dry, run_job("clean", "--dry-run", f"output={output}"))
        assert name == "report.html" or f"NOTE: {file} is damaged" in dry.stdout
    done = render(output, tiny_model)
    assert (done.returncode, rendered(done)) == (1, 1), done.stdout + done.stderr  # the rejected one is tried again
    assert records(output) == before
    assert statuses(output) == EVERY
    assert foreign.read_text() == "precious"
    assert (name == "report.html" and how is not folder) or f"NOTE: {file} is damaged" in done.stdout
    assert file.is_file()
    assert not file.is_symlink()
    assert run_job("status", f"output={output}").returncode == 0


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_row_is_restored_from_the_table_where_its_video_is_whole(how, output, tiny_model, tmp_path):
    before = records(output)
    file, foreign = damaged(output, "done/b.*.json", how, tmp_path)
    done = render(output, tiny_model)
    assert (done.returncode, rendered(done)) == (1, 1), done.stdout + done.stderr
    assert f"NOTE: {file} is damaged" in done.stdout
    assert "the table has the same row" in done.stdout
    after = records(output)
    assert after[file.name].items() >= {k: v for k, v in before[file.name].items() if k != "uri"}.items()
    assert len(list((output / "damaged" / "done").iterdir())) == 1
    assert foreign.read_text() == "precious"
    assert statuses(output) == EVERY


@pytest.mark.parametrize("how", [cut, folder])
def test_a_damaged_row_that_no_table_has_is_rendered_again(how, output, tiny_model, tmp_path):
    before = records(output)
    file, _ = damaged(output, "done/b.*.json", how, tmp_path)
    (output / "clips.parquet").unlink()
    done = render(output, tiny_model)
    assert (done.returncode, rendered(done)) == (1, 2), done.stdout + done.stderr
    assert "the clip b is rendered again" in done.stdout
    after = records(output)
    assert after.keys() == before.keys()
    assert {k for k in after if after[k]["committed"] != before[k]["committed"]} == {file.name}
    assert statuses(output) == EVERY


@pytest.mark.parametrize("how", [cut, folder, removed])
@pytest.mark.parametrize("table", [True, False])
def test_a_clip_whose_video_is_not_whole_is_rendered_again(table, how, output, tiny_model, tmp_path):
    before = records(output)
    file, foreign = damaged(output, "videos/b.*.mp4", how, tmp_path)
    if not table:
        (output / "clips.parquet").unlink()
    done = render(output, tiny_model)
    assert (done.returncode, rendered(done)) == (1, 2), done.stdout + done.stderr
    assert f"NOTE: {file} " in done.stdout
    assert "the clip b is rendered again" in done.stdout
    assert statuses(output) == EVERY
    row = records(output)[file.with_suffix(".json").name]
    assert row["committed"] > before[file.with_suffix(".json").name]["committed"]
    assert (output / "videos" / Path(row["uri"]).name).stat().st_size == row["bytes"]
    assert foreign.read_text() == "precious"


@pytest.mark.parametrize("how", [cut, folder])
@pytest.mark.parametrize("name", ["done/b.*.json", "videos/b.*.mp4", "clips.parquet", "plan.parquet", "failed.jsonl"])
def test_the_other_jobs_get_past_it(name, how, output, tmp_path):
    file, foreign = damaged(output, name, how, tmp_path)
    told = run_job("status", f"output={output}")
    assert told.returncode == 0
    rebuilt = run_job("rebuild", f"output={output}")
    check_no_traceback(told, rebuilt, run_job("report", f"output={output}"))
    assert rebuilt.returncode == 0, rebuilt.stderr
    if not name.startswith("videos"):
        assert statuses(output) == EVERY
    if name.startswith("done"):
        assert f"{file} is damaged" in rebuilt.stderr
    check_no_traceback(run_job("clean", "--verify", "versions=true", f"output={output}"))
    assert foreign.read_text() == "precious"


WRONG_SHAPES = {
    "a list": "[1]",
    "no columns": "{}",
    "another clip": None,
    "a wrong type": None,
    "deep": "[" * 100_000,
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_a_row_of_the_wrong_shape_is_damaged(shape, output, tiny_model):
    file = one(output, "done/b.*.json")
    row = json.loads(file.read_text())
    text = WRONG_SHAPES[shape] or json.dumps(row | ({"clip_id": "x"} if shape == "another clip" else {"bytes": "5"}))
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = render(output, tiny_model)
    assert rendered(done) == 1
    assert f"NOTE: {file} is damaged" in done.stdout
    assert json.loads(file.read_text())["sha256"] == row["sha256"]


def test_names_of_other_people_are_passed_over_and_stay(output, tiny_model):
    foreign = ["done/readme.txt", "done/x.json", "attempts/readme.txt", "attempts/a.json", "videos/my film.mp4", "qc/x"]
    for name in foreign:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text("of somebody")
    done = render(output, tiny_model)
    assert rendered(done) == 1
    assert f"NOTE: {output / 'done' / 'readme.txt'} is not the row of a clip: it is passed over" in done.stdout
    assert not (output / "damaged").exists()
    for job in ("clean", "rebuild", "report", "status"):
        ended = run_job(job, f"output={output}")
        assert ended.returncode == 0, ended.stderr
    assert all((output / name).read_text() == "of somebody" for name in foreign)


@pytest.mark.parametrize("how", [cut, folder])
def test_a_damaged_note_of_an_attempt_keeps_no_clip_from_being_rendered(how, output, tiny_model, tmp_path):
    mark = one(output, "done/b.*.json").name
    for name in (output / "done" / mark, output / "videos" / mark.replace(".json", ".mp4")):
        name.unlink()
    (output / "attempts").mkdir(exist_ok=True)
    note = output / "attempts" / mark.replace(".json", ".render.json")
    note.write_text('{"run": "r", "quarantined": true}')
    assert "1 quarantined" in render(output, tiny_model, "--dry-run").stdout
    file, _ = damaged(output, "attempts/*.json", how, tmp_path)
    done = render(output, tiny_model)
    assert f"NOTE: {file} is damaged" in done.stdout
    assert statuses(output) == EVERY


@pytest.mark.parametrize("how", [garbage, emptied, folder, link_to_nothing, link_to_a_foreign_file])
def test_a_damaged_lock_is_that_of_a_dead_run(how, output, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.5)
    (output / "run.lock").write_text('{"run": "other", "host": "elsewhere", "pid": 1, "beat": 7}')
    _, foreign = damaged(output, "run.lock", how, tmp_path)
    done = render(output, tiny_model)
    assert (done.returncode, rendered(done)) == (1, 1), done.stderr
    assert foreign.read_text() == "precious"
    assert not (output / "run.lock").exists()


def test_what_is_lost_during_a_run_is_not_done(output, tiny_model, monkeypatch):
    """The output is removed while the run goes on: three clips were done, and a fourth one is rendered after that."""
    from pipeline.run.run import Run

    rows = (output.parent / "m.jsonl").read_text().splitlines()
    (output.parent / "m.jsonl").write_text("\n".join([*rows, rows[0].replace('"a"', '"d"')]) + "\n")
    begin = Run.begin
    monkeypatch.setattr(Run, "begin", lambda run: (begin(run), shutil.rmtree(output)))
    done = render(output, tiny_model)
    assert done.returncode == 1
    assert "video_lost" in done.stdout
    assert statuses(output) == dict.fromkeys(CLIPS, "failed") | {"no": "rejected", "d": "done"}
    assert "       done  1" in done.stdout
    assert json.loads((output / "summary.json").read_text())["done"] == 1
    monkeypatch.undo()
    assert rendered(render(output, tiny_model)) == 4
    assert statuses(output) == EVERY | {"d": "done"}


def test_clean_finds_a_video_that_was_changed_but_kept_its_size(output, tiny_model):
    video = one(output, "videos/b.*.mp4")
    video.write_bytes(bytes(video.stat().st_size))
    assert "moved 1 files" not in run_job("clean", f"output={output}").stdout
    told = run_job("clean", "--verify", f"output={output}")
    assert f"moved 1 files to {output / 'damaged'}" in told.stdout
    assert "clips whose video is missing or is not what was rendered" in told.stdout
    assert rendered(render(output, tiny_model)) == 2
    assert statuses(output) == EVERY


def test_the_failed_clips_are_known_from_the_table_if_their_list_is_damaged(output, tiny_model):
    (output / "failed.jsonl").write_text("{")
    done = render(output, tiny_model, "only=failed")
    assert (done.returncode, rendered(done)) == (1, 0)  # one row is rejected, as it was
    (output / "clips.parquet").write_text("x")
    (output / "failed.jsonl").write_text("{")
    done = render(output, tiny_model, "only=failed")
    assert done.returncode == 2
    assert "is damaged (it is cut off or is not a table of clips)" in done.stderr


@pytest.mark.parametrize("how", [folder, link_to_nothing])
def test_reviews_that_are_damaged_are_refused_because_nothing_else_has_them(how, output, tiny_model, tmp_path):
    (output / "review.csv").write_text("clip_id,verdict\na,approved\n")
    file, _ = damaged(output, "review.csv", how, tmp_path)
    for ended in (render(output, tiny_model), run_job("rebuild", f"output={output}")):
        assert ended.returncode == 2
        assert f"{file} is damaged" in ended.stderr
    assert run_job("status", f"output={output}").returncode == 0


MEASURED = ("qc/en-1.*.json", "qc/en-1.*.jpg")


@pytest.mark.parametrize("how", [cut, emptied, folder])
@pytest.mark.parametrize("name", MEASURED)
def test_damaged_measurements_are_left_out_of_the_report_and_made_again(name, how, rendered_demo, tiny_model, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(rendered_demo.output, output, ignore=shutil.ignore_patterns("videos.parquet"))
    if (how, name) not in ((cut, MEASURED[0]), (folder, MEASURED[1])):  # measuring takes a second
        damaged(output, name, how, tmp_path)
        told = run_job("report", f"output={output}")
        assert told.returncode == 0, told.stderr
        assert "is damaged" in told.stderr
        return
    file, _ = damaged(output, name, how, tmp_path)
    done = run_job("render", f"model={tiny_model.path}", f"output={output}", "executor=serial")
    assert f"NOTE: {file} is damaged" in done.stdout, done.stdout
    assert "quality control of 1 clips that are done already" in done.stdout
    assert rendered(done) == 0
    assert file.is_file()
