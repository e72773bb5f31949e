"""The output table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.ledger.clip_row import SCHEMA
from pipeline.ledger.table import ROWS_PER_GROUP, RowSpool, write_table


def row(number, **columns):
    return {"clip_id": f"clip-{number}", "row": number, "status": "failed", **columns}


def test_rows_are_in_the_manifests_order_and_have_all_columns(tmp_path):
    uri = write_table(RowSpool([row(3), row(1, frames=25, face_box=[1.0, 2.0, 3.0, 4.0]), row(2)]), str(tmp_path))
    table = pq.read_table(uri)
    assert table.schema.names == SCHEMA.names
    assert table.column("row").to_pylist() == [1, 2, 3]
    assert table.column("frames").to_pylist() == [25, None, None]
    assert table.column("face_box").to_pylist()[0] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["a", None], pa.string(), ["a", None]),
        ([1, 2], pa.int64(), [1, 2]),
        ([None, None], pa.string(), [None, None]),
        ([{"x": 1}, {"x": 2}], pa.struct([("x", pa.int64())]), [{"x": 1}, {"x": 2}]),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([[1], {"x": 1}], pa.string(), ["[1]", '{"x": 1}']),
        ([1, True], pa.string(), ["1", "true"]),
        ([2**70, None], pa.string(), [str(2**70), None]),  # beyond Arrow's integers
        ([{}, None], pa.string(), ["{}", None]),  # beyond Parquet's structs
        ([{"x": {}}], pa.string(), ['{"x": {}}']),
        ([b"\0\xff"], pa.binary(), [b"\0\xff"]),
    ],
)
def test_columns_of_the_manifest_keep_their_type_or_become_json(tmp_path, values, kind, expected):
    rows = [row(number, note=value) for number, value in enumerate(values)]
    table = pq.read_table(write_table(RowSpool(rows), str(tmp_path)))
    assert table.schema.field("note").type == kind
    assert table.column("note").to_pylist() == expected


def test_embedded_videos_are_the_files_byte_for_byte(tmp_path):
    rows = []
    for number in range(ROWS_PER_GROUP + 3):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(bytes([number]) * 100)
        rows.append(row(number, status="done", uri=str(path)))
    rows.append(row(999))
    uri = write_table(RowSpool(rows), str(tmp_path / "out"), embed_videos=True)
    videos = pq.read_table(uri).column("video").to_pylist()
    assert videos == [bytes([number]) * 100 for number in range(ROWS_PER_GROUP + 3)] + [None]
    assert pq.ParquetFile(uri).num_row_groups == 2


@pytest.mark.parametrize("own", ["take-3.mov", b"bytes"])
def test_a_video_column_of_the_manifest_passes_through_unless_videos_are_embedded(tmp_path, own):
    (tmp_path / "clip.mp4").write_bytes(b"ours")
    rows = [row(1, status="done", uri=str(tmp_path / "clip.mp4"), video=own)]
    assert pq.read_table(write_table(RowSpool(rows), str(tmp_path / "a"))).column("video").to_pylist() == [own]
    table = pq.read_table(write_table(RowSpool(rows), str(tmp_path / "b"), embed_videos=True))
    assert table.schema.names.count("video") == 1
    assert table.column("video").to_pylist() == [b"ours"]


def test_table_and_videos_may_be_in_object_storage(s3):
    fs = s3fs.S3FileSystem()
    fs.pipe_file(f"{s3}/results/videos/a.mp4", b"film")
    rows = [row(1, status="done", uri=f"{s3}/results/videos/a.mp4", note=[1])]
    uri = write_table(RowSpool(rows), f"{s3}/results", embed_videos=True)
    assert uri == f"{s3}/results/clips.parquet"
    with fs.open(uri) as file:
        table = pq.read_table(file)
    assert table.column("video").to_pylist() == [b"film"]
    assert table.column("note").to_pylist() == [[1]]


def test_no_rows_are_an_empty_table(tmp_path):
    assert pq.read_table(write_table(RowSpool([]), str(tmp_path))).num_rows == 0
