"""The videos of an output as a dataset that this process or Ray Data writes: readers find the same in it."""

import shutil

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.cluster import video_data
from pipeline.ledger.table import RowSpool, write_table
from pipeline.ledger.video_table import VIDEOS, VIDEOS_PER_GROUP, replace_videos, write_videos
from tests.jobs.test_damage import DAMAGES

ROWS = 3 * VIDEOS_PER_GROUP + 3


def rows_of(folder, number=ROWS, **columns):
    """Rows with their videos in files, and one that has none; out of order, as they arrive."""
    rows = [{"clip_id": "bad", "row": number + 1, "status": "failed", "error_message": None, **columns}]
    for i in reversed(range(number)):
        (folder / f"{i}.mp4").write_bytes(bytes([i]) * 10_000)
        rows.append({"clip_id": f"c{i}", "row": i + 1, "status": "done", "uri": str(folder / f"{i}.mp4"), **columns})
    return RowSpool(rows)


@pytest.fixture(params=["process", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.xdist_group("ray")])])
def write(request, monkeypatch):
    """What writes the dataset: this process, or tasks of Ray Data, whose parts are small."""
    if request.param == "process":
        return write_videos
    request.getfixturevalue("local_ray")
    monkeypatch.setattr(video_data, "ROWS", 10)
    monkeypatch.setattr(video_data, "PART_BYTES", 60_000)
    return video_data.write_videos


def test_the_dataset_has_the_rows_of_the_table_and_the_files_byte_for_byte(write, tmp_path):
    table = write_table(rows_of(tmp_path, note={"x": 1}), str(tmp_path / "out"))
    folder = replace_videos(table, str(tmp_path / "out" / VIDEOS), write)
    found = pq.read_table(folder)
    assert found.column("video").to_pylist() == [bytes([i]) * 10_000 for i in range(ROWS)] + [None]
    assert found.drop_columns(["video"]).equals(pq.read_table(table))
    assert found.schema.field("video").type == pa.binary()
    parts = sorted((tmp_path / "out" / VIDEOS).glob("*.parquet"))
    assert len(parts) == 1 if write is write_videos else len(parts) >= 4
    for part in parts:
        groups = pq.read_metadata(part)
        assert all(groups.row_group(i).num_rows <= VIDEOS_PER_GROUP for i in range(groups.num_row_groups))
    assert ds.dataset(folder, format="parquet").count_rows() == ROWS + 1


def test_a_second_run_leaves_no_part_of_the_first(write, tmp_path):
    folder = str(tmp_path / "out" / VIDEOS)
    replace_videos(write_table(rows_of(tmp_path), str(tmp_path / "out")), folder, write)
    replace_videos(write_table(rows_of(tmp_path, 3), str(tmp_path / "out")), folder, write)
    assert pq.read_table(folder).column("clip_id").to_pylist() == ["c0", "c1", "c2", "bad"]
    assert (tmp_path / "out" / VIDEOS / "_SUCCESS").exists()


def test_a_dataset_that_is_not_whole_has_no_mark_of_success(write, tmp_path):
    folder = str(tmp_path / "out" / VIDEOS)
    table = write_table(rows_of(tmp_path), str(tmp_path / "out"))
    replace_videos(table, folder, write)
    (tmp_path / f"{ROWS - 1}.mp4").unlink()
    with pytest.raises(FileNotFoundError):
        replace_videos(table, folder, write)
    assert not (tmp_path / "out" / VIDEOS / "_SUCCESS").exists()


def test_the_videos_take_the_place_of_a_column_of_the_manifest(tmp_path):
    table = write_table(rows_of(tmp_path, 1, video="take-3.mov"), str(tmp_path))
    found = pq.read_table(replace_videos(table, str(tmp_path / VIDEOS), write_videos))
    assert pq.read_table(table).column("video").to_pylist() == ["take-3.mov"] * 2
    assert found.column("video").to_pylist() == [bytes(10_000), None]


def test_no_rows_are_an_empty_dataset(tmp_path):
    table = write_table(RowSpool([]), str(tmp_path))
    assert pq.read_table(replace_videos(table, str(tmp_path / VIDEOS), write_videos)).num_rows == 0


def test_table_and_videos_may_be_in_object_storage(s3):
    fs, root = s3fs.S3FileSystem(skip_instance_cache=True), f"{s3}/embedded"
    fs.pipe_file(f"{root}/videos/a.mp4", b"film")
    table = write_table(RowSpool([{"clip_id": "a", "row": 1, "status": "done", "uri": f"{root}/videos/a.mp4"}]), root)
    replace_videos(table, f"{root}/{VIDEOS}", write_videos)
    with fs.open(f"{root}/{VIDEOS}/part-000000.parquet") as file:
        assert pq.read_table(file).column("video").to_pylist() == [b"film"]
    assert fs.exists(f"{root}/{VIDEOS}/_SUCCESS")


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["", "_SUCCESS", "part-000000.parquet"])
def test_a_damaged_dataset_is_written_again_and_nothing_of_others_is_touched(name, how, tmp_path):
    table = write_table(rows_of(tmp_path, 3), str(tmp_path / "out"))
    folder, foreign = tmp_path / "out" / VIDEOS, tmp_path / "foreign"
    foreign.write_text("precious")
    replace_videos(table, str(folder), write_videos)
    if name:
        how(folder / name, foreign)
    else:
        shutil.rmtree(folder)
        folder.touch()
        how(folder, foreign)
    replace_videos(table, str(folder), write_videos)
    assert pq.read_table(folder).num_rows == 4
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == ["_SUCCESS", "part-000000.parquet"]
    assert foreign.read_text() == "precious"
