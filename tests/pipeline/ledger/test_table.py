"""The output table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.ledger.clip_row import SCHEMA
from pipeline.ledger.table import RowSpool, table_rows, write_table


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


def test_a_table_may_be_in_object_storage(s3):
    uri = write_table(RowSpool([row(1, note=[1])]), f"{s3}/results")
    assert uri == f"{s3}/results/clips.parquet"
    with s3fs.S3FileSystem().open(uri) as file:
        assert pq.read_table(file).column("note").to_pylist() == [[1]]


def test_the_videos_in_a_table_of_an_earlier_version_are_left_out(tmp_path):
    table = pq.read_table(write_table(RowSpool([row(1), row(2)]), str(tmp_path / "new")))
    pq.write_table(table.append_column("video", pa.array([b"film", None])), tmp_path / "old.parquet")
    assert list(table_rows(str(tmp_path / "old.parquet"))) == table.to_pylist()


def test_no_rows_are_an_empty_table(tmp_path):
    assert pq.read_table(write_table(RowSpool([]), str(tmp_path))).num_rows == 0
