"""The damage drill for the outputs of `jobs.prepare` and `jobs.evaluate`, and for an output in object storage."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.training_data.damaged import damaged_shards
from tests import media, reels, synthetic_videos
from tests.jobs import test_prepare
from tests.jobs.test_damage import DAMAGES, cut, folder, garbage, link_to_a_foreign_file, one
from tests.running import run_job


def check_right(done, foreign):
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert foreign.read_text() == "precious"


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "foreign").write_text("precious")
    return tmp_path / "foreign"


# --- Prepared videos -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
def test_a_shard_that_is_not_whole_is_found(how, tmp_path, foreign):
    for key in ("a", "b", "c", "d"):
        pq.write_table(pa.table({"clip_id": ["x", "y"]}), tmp_path / f"{key}.parquet")
    how(tmp_path / "b.parquet", foreign)
    assert list(damaged_shards(str(tmp_path), [("a", 2), ("b", 2), ("c", 3), ("e", 2)])) == ["b", "c", "e"]


@pytest.fixture(scope="module")
def prepared_videos(tmp_path_factory):
    """A folder of a video with a sample and one without, and what `jobs.prepare` made of it."""
    place = tmp_path_factory.mktemp("prepared")
    wave = synthetic_videos.speech(3.0)
    pictures = list(reels.speaker(wave))
    reels.write(place / "src" / "anna" / "one.mp4", pictures, wave)
    reels.write(place / "src" / "ben" / "mute.mp4", pictures)
    assert prepare(place / "src", place / "out").returncode == 0
    return place


def prepare(source, output):
    return test_prepare.run(f"source={source}", f"output={output}", *test_prepare.SMALL)


DERIVED = ("samples.parquet", "samples.jpg", "report.html", "summary.json", "splits.json", "done/mute-*.json")
COSTLY = [("clips/one-*.parquet", cut), ("clips/one-*.parquet", folder), ("done/one-*.json", garbage)]
NOT_LOOKED_AT = ("samples.jpg", "report.html")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, how) for name in DERIVED for how in (cut, folder, link_to_a_foreign_file)), *COSTLY],
)
def test_what_prepare_has_lost_is_made_again_and_nothing_else(name, how, prepared_videos, tmp_path, foreign):
    output = tmp_path / "out"
    shutil.copytree(prepared_videos / "out", output)
    file = one(output, name)
    splits = (output / "splits.json").read_text()
    how(file, foreign)
    done = prepare(prepared_videos / "src", output)
    check_right(done, foreign)
    if name not in NOT_LOOKED_AT or how is folder:
        assert f"{file} is damaged" in done.stderr
    again = int(name.startswith(("clips", "done")))
    assert f"{2 - again} done before" in done.stdout
    assert file.is_file()
    assert not file.is_symlink()
    assert test_prepare.samples(output) == test_prepare.samples(prepared_videos / "out")
    assert (output / "splits.json").read_text() == splits


@pytest.mark.slow
@pytest.mark.parametrize("how", [cut, folder])
def test_damaged_thumbnails_are_left_out_of_the_report(how, prepared_videos, tmp_path, foreign):
    output = tmp_path / "out"
    shutil.copytree(prepared_videos / "out", output)
    file = one(output, "tiles/one-*.jpg")
    how(file, foreign)
    done = prepare(prepared_videos / "src", output)
    check_right(done, foreign)
    assert f"{file} is damaged" in done.stderr
    assert "2 done before" in done.stdout


# --- Evaluations -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A pair of videos and its evaluation."""
    place = tmp_path_factory.mktemp("evaluated")
    wave = synthetic_videos.speech(2.0)
    video = synthetic_videos.SyntheticVideo
    video(wave=wave).write(place / "real.mp4", speed="ultrafast")
    darker = video(wave=wave, edit=lambda number, picture: (picture * 0.9).astype(np.uint8))
    darker.write(place / "ours.mp4", speed="ultrafast")
    (place / "pairs.csv").write_text("reference,generated,system\nreal.mp4,ours.mp4,ours\n")
    assert evaluate(place, place / "out").returncode == 0
    return place


def evaluate(place, output):
    arguments = (f"manifest={place}/pairs.csv", f"output={output}", "comparison_side=128", "executor=serial")
    return run_job("evaluate", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("done/video-*.json", cut),
        ("done/video-*.json", folder),
        ("done/video-*.times.npy", cut),
        ("done/video-*.times.npy", folder),
        ("done/pair-*.json", garbage),
        ("pairs.parquet", folder),
        ("systems.parquet", folder),
        ("*.html", folder),
        ("comparison/*.mp4", folder),
    ],
)
def test_what_evaluate_has_lost_is_measured_again(name, how, evaluated, tmp_path, foreign):
    output = tmp_path / "out"
    shutil.copytree(evaluated / "out", output)
    file = sorted(output.glob(name))[0]
    kept = {other: other.stat().st_mtime_ns for other in output.glob("done/*.json") if other.stem not in file.name}
    how(file, foreign)
    done = evaluate(evaluated, output)
    check_right(done, foreign)
    assert f"{file} is damaged" in done.stderr
    assert file.is_file()
    assert {other: other.stat().st_mtime_ns for other in kept} == kept
    for table in ("pairs.parquet", "systems.parquet"):
        found, expected = (pq.read_table(place / table).to_pylist() for place in (output, evaluated / "out"))
        for row, right in zip(found, expected, strict=True):
            for column, value in right.items():
                assert row[column] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), column


# --- Object storage --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_output_in_object_storage_is_made_whole_again(s3, tiny_model, tmp_path):
    (tmp_path / "face.png").write_bytes(media.PORTRAIT.read_bytes())
    (tmp_path / "tone.wav").write_bytes(media.wav(media.tone(seconds=0.3)))
    rows = [{"clip_id": name, "image": "face.png", "audio": "tone.wav", "seed": i} for i, name in enumerate("abc")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output, storage = f"{s3}/damaged/{tmp_path.name}", s3fs.S3FileSystem(use_listings_cache=False)
    settings = (f"model={tiny_model.path}", f"output={output}", "executor=serial", "qc.enabled=false")

    def render(*, done_before):
        done = run_job("render", f"manifest={tmp_path / 'm.jsonl'}", *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{done_before} done before" in done.stdout
        return done

    render(done_before=0)
    for pattern, damaged, again in (
        ("clips.parquet", lambda data: data[: len(data) // 2], 0),
        ("plan.parquet", lambda data: b"", 0),
        ("summary.json", lambda data: b"[1]", 0),
        ("videos/b.*.mp4", lambda data: data[: len(data) // 2], 1),
        ("videos/b.*.mp4", None, 1),
        ("done/b.*.json", lambda data: b"", 0),
    ):
        (path,) = storage.glob(f"{output}/{pattern}")
        if damaged is None:
            storage.rm_file(path)
        else:
            storage.pipe_file(path, damaged(storage.cat_file(path)))
        done = render(done_before=3 - again)
        assert f"NOTE: s3://{path} " in done.stdout
        assert len(storage.glob(f"{output}/videos/*.mp4")) == len(storage.glob(f"{output}/done/*.json")) == 3
    with storage.open(f"{output}/clips.parquet", "rb") as file:
        assert {row["status"] for row in pq.read_table(file).to_pylist()} == {"done"}
