"""`jobs.render` with a manifest so long that the cluster reads and plans it; here, any manifest counts as long."""

import json

import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.run import prepare_run
from tests import media
from tests.running import run_job


@pytest.fixture(autouse=True)
def every_manifest_is_long(monkeypatch):
    monkeypatch.setattr(prepare_run, "LONG", 1)


def render(tmp_path, name, content, *arguments):
    (tmp_path / name).write_text(content)
    return run_job("render", f"manifest={tmp_path / name}", f"output={tmp_path / 'out'}", *arguments)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "image,sound\na.png,a.wav\n", "has no column audio; it has image, sound"),
        ("m.parquet", "text", "could not be read"),
        ("m.txt", "image", "its name must end in"),
    ],
)
def test_what_the_first_rows_show_is_refused_before_anything_starts(tmp_path, name, content, message):
    done = render(tmp_path, name, content, "executor=ray")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_cluster_it_is_read_and_planned_in_this_process(tmp_path):
    row = json.dumps({"image": "a.png", "audio": "a.wav", "seed": "x"})
    done = render(tmp_path, "m.jsonl", f"{row}\n" * 300, "executor=ray", "--dry-run")
    assert done.returncode == 1
    assert "m.jsonl: 300 rows, 300 rejected" in done.stdout
    assert "plan: 0 new" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "has no column audio; it has image"),
        (["shard=3/2"], "shard: '3/2' is not i/n"),
    ],
)
def test_what_all_rows_show_is_refused_too(local_ray, tmp_path, arguments, message):
    done = render(tmp_path, "m.jsonl", '{"image": "a.png"}\n' * 300, "executor=ray", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_storage_that_does_not_answer_ends_the_job_with_3(local_ray, tmp_path):
    row = json.dumps({"image": "a.png", "audio": "broken://a.wav"})
    done = render(tmp_path, "m.jsonl", f"{row}\n" * 300, "executor=ray", "limits.allowed_schemes=[file,broken]")
    assert done.returncode == 3, done.stderr
    assert "broken://a.wav could not be accessed: the disk is read-only" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_all_of_it_in_object_storage(local_ray, tiny_model, tmp_path, s3):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    root = f"{s3}/long"
    fs.put_file(str(media.PORTRAIT), f"{root}/p.png")
    fs.pipe_file(f"{root}/a.wav", media.wav(media.tone()))
    rows = [{"clip_id": f"c{i}", "image": "p.png", "audio": "a.wav", "n": i, "speaker": "Ben"} for i in range(40)]
    rows[2:] = [row | {"seed": "x"} for row in rows[2:]]
    fs.pipe_file(f"{root}/m.jsonl", "\n".join(map(json.dumps, rows)).encode())
    fs.pipe_file(f"{root}/register.csv", b"consent_ref,speaker\nr1,Anna\n")
    arguments = [f"manifest={root}/m.jsonl", f"output={root}/out", "embed_videos=true", f"model={tiny_model.path}"]
    arguments += ["consent.speakers=['Anna']", f"consent.register={root}/register.csv", "max_failed_share=1"]
    arguments += ["features.workers=1", "render.workers=1", "render.num_gpus=0", "qc.enabled=false"]
    for planned in ("plan: 2 new, 0 changed, 0 done before", "plan: 0 new, 0 changed, 2 done before"):
        done = run_job("render", *arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"{root}/m.jsonl: about " in done.stdout
        assert f"{root}/m.jsonl: 40 rows, 38 rejected" in done.stdout
        assert planned in done.stdout
    fs.get(f"{root}/out/", f"{tmp_path}/got/", recursive=True)
    table = pq.read_table(tmp_path / "got" / "clips.parquet").to_pylist()
    assert [row["status"] for row in table] == ["done"] * 2 + ["rejected"] * 38
    assert [row["row"] for row in table if row["error_code"] == "value_invalid"] == list(range(3, 41))
    embedded = pq.read_table(tmp_path / "got" / "videos.parquet").to_pylist()
    assert [{name: value for name, value in row.items() if name != "video"} for row in embedded] == table
    for row in embedded[:2]:
        assert row["video"] == fs.cat_file(row["uri"])
    assert not any(row["video"] for row in embedded[2:])
    assert fs.exists(f"{root}/out/videos.parquet/_SUCCESS")
