"""An output folder may be any folder: what a run did not write stays as it is, and rows that it left are kept."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.errors import RefusedError
from pipeline.storage.targets import Target, check_targets, is_page, json_with, lines_with, table_with
from tests import media
from tests.running import run_job


@pytest.fixture
def folder(tmp_path):
    """A folder with a portrait, a sound and a manifest of two clips."""
    (tmp_path / "face.png").write_bytes(media.PORTRAIT.read_bytes())
    (tmp_path / "a.wav").write_bytes(media.wav(media.tone()))
    (tmp_path / "m.csv").write_text("clip_id,image,audio\na,face.png,a.wav\nb,face.png,none.wav\n")
    return tmp_path


def render(folder, *arguments, **environment):
    return run_job("render", *arguments, "executor=serial", "qc.enabled=false", cwd=folder, **environment)


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(folder):
    return {row["clip_id"]: row for row in pq.read_table(folder / "clips.parquet").to_pylist()}


FOREIGN = {
    "clips.parquet": "somebody's",
    "takes.parquet": "somebody's",
    "plan.parquet": "somebody's",
    "failed.jsonl": '{"image": "face.png"}',
    "summary.json": '{"state": "finished"}',
    "report.html": "<html><title>My report</title></html>",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_no_run_wrote_is_not_replaced(name, folder):
    (folder / name).write_text(FOREIGN[name])
    if name == "takes.parquet":
        pq.write_table(pa.table({"take": [1]}), folder / name)
    before = contents(folder)
    done = render(folder, "manifest=m.csv", "output=.")
    assert done.returncode == 2
    assert f"output: {folder} contains {name}, which no earlier run of this job wrote" in done.stderr
    assert "choose another output" in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["clips.parquet", "takes.parquet", "plan.parquet", "failed.jsonl"])
@pytest.mark.parametrize("spelled", ["{name}", "{folder}/x/../{name}", "file://{folder}/{name}", "link/{name}"])
def test_a_manifest_that_the_table_would_replace_is_refused(name, spelled, folder):
    (folder / "x").mkdir()
    (folder / "link").symlink_to(folder)
    table = pa.table({"clip_id": ["a"], "image": ["face.png"], "audio": ["a.wav"]})
    pq.write_table(table, folder / name) if name.endswith("parquet") else (folder / name).write_text(
        json.dumps(table.to_pylist()[0])
    )
    before = contents(folder)
    done = render(folder, f"manifest={spelled.format(name=name, folder=folder)}", "output=.")
    assert done.returncode == 2
    assert f"manifest: {folder}" in done.stderr
    assert f"is the file that this job will replace with its own {name}" in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("key", ["consent.register", "qc.review"])
def test_no_input_of_a_setting_is_replaced(key, folder):
    (folder / "failed.jsonl").write_text('{"consent_ref": "c", "speaker": "Anna"}\n')
    done = render(folder, "manifest=m.csv", "output=.", f"{key}=failed.jsonl", "consent.speakers=[Anna]")
    if key == "qc.review":
        done = render(folder, "manifest=m.csv", "output=.", f"{key}=failed.jsonl")
    assert done.returncode == 2
    assert f"{key}: " in done.stderr
    assert "is the file that this job will replace" in done.stderr


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder(folder):
    for name, said in (("summary.json", "a folder, not a file"), ("videos", "a file, not a folder")):
        (folder / "out").mkdir()
        (folder / "out" / name).mkdir() if said.startswith("a folder") else (folder / "out" / name).touch()
        done = render(folder, "manifest=m.csv", "output=out")
        assert done.returncode == 2
        assert f"output: {folder}/out/{name} is {said}" in done.stderr
        shutil.rmtree(folder / "out")


def test_the_failed_rows_of_a_run_are_rendered_into_the_same_table(folder, tiny_model):
    model = f"model={tiny_model.path}"
    (folder / "m.csv").write_text(
        "clip_id,image,audio,seed\na,face.png,a.wav,1\nb,face.png,none.wav,2\nc,face.png,a.wav,3\nd,face.png,a.wav,x\n"
    )
    assert render(folder, "manifest=m.csv", "output=.", model).returncode == 1
    first, plan = rows(folder), pq.read_table(folder / "plan.parquet").to_pylist()
    assert [first[name]["status"] for name in "abcd"] == ["done", "rejected", "done", "rejected"]
    failed = [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]
    assert [row["row"] for row in failed] == [2, 4]
    failed[0]["audio"], failed[1]["seed"] = str(folder / "a.wav"), 4
    added = {"clip_id": "e", "image": "face.png", "audio": "none.wav"}
    (folder / "failed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*reversed(failed), added]))
    done = render(folder, "manifest=failed.jsonl", "output=.", model)
    assert done.returncode == 1, done.stderr
    second = rows(folder)
    assert [(name, row["row"], row["status"]) for name, row in second.items()] == [
        *(("a", 1, "done"), ("b", 2, "done"), ("c", 3, "done"), ("d", 4, "done"), ("e", 5, "rejected"))
    ]
    assert all(second[name]["committed"] == first[name]["committed"] for name in "ac")
    assert [json.loads(line)["row"] for line in (folder / "failed.jsonl").read_text().splitlines()] == [5]
    planned = {row["clip_id"]: row for row in pq.read_table(folder / "plan.parquet").to_pylist()}
    assert sorted(planned) == ["a", "b", "c", "d", "e"]
    assert all(planned[row["clip_id"]] == row for row in plan if row["clip_id"] in "ac")
    rebuilt = run_job("rebuild", f"output={folder}")
    assert "4 clips done" in rebuilt.stdout
    assert {name: row["status"] for name, row in rows(folder).items()} == {
        name: row["status"] for name, row in second.items()
    }
    whole = render(folder, "manifest=failed.jsonl", "output=.", model)  # nothing new: the table stays
    assert whole.returncode == 1
    assert len(rows(folder)) == 5


@pytest.mark.slow
def test_targets_in_object_storage(s3, tmp_path):
    from pipeline.storage import objects

    output = f"{s3}/targets"
    objects.write_bytes(b'{"run": "r", "state": "finished"}', f"{output}/summary.json")
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "t.parquet")
    objects.put_file(tmp_path / "t.parquet", f"{output}/clips.parquet")
    objects.write_bytes(b"", f"{output}/failed.jsonl")
    objects.write_bytes(b"<html>", f"{output}/report.html")
    ours = [
        Target("summary.json", json_with("run", "state")),
        Target("clips.parquet", table_with("clip_id")),
        Target("failed.jsonl", lines_with("clip_id")),
        Target("none.json", json_with("run")),
    ]
    check_targets(output, ours, {"manifest": f"{output}/m.csv"})
    with pytest.raises(RefusedError, match=r"contains report\.html, clips\.parquet, which no earlier run"):
        check_targets(output, [Target("report.html", is_page), Target("clips.parquet", table_with("row"))], {})
    with pytest.raises(RefusedError, match=r"^manifest: s3://tests/targets/clips\.parquet is the file"):
        check_targets(output, ours, {"manifest": f"S3{output[2:]}/clips.parquet"})
