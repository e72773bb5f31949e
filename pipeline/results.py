"""The output table: status rows -> Parquet, one row per planned clip."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.status import SCHEMA, StatusRow
from pipeline.storage import filesystem, is_local, join

TABLE = "clips.parquet"

ROWS_PER_GROUP = 32
"""With embedded videos a row is megabytes: small groups bound the memory of writer and reader."""


def write_table(rows: Sequence[StatusRow], output: str, *, embed_videos: bool = False) -> str:
    """Write `output`/clips.parquet and return its URI.

    The manifest's own columns follow ours; where their values have no common Arrow type, they are written as JSON.
    With `embed_videos` a binary column `video` holds each delivered MP4 (null where there is none); the files are
    read back in groups, so that memory does not grow with the number of clips; a column `video` of the manifest's own
    gives way to it.
    """
    schema = SCHEMA
    ours = {*SCHEMA.names, "video"} if embed_videos else set(SCHEMA.names)
    for name in sorted({name for row in rows for name in row} - ours):
        schema = schema.append(pa.field(name, _common_type([row.get(name) for row in rows])))
    file_schema = schema.append(pa.field("video", pa.binary())) if embed_videos else schema
    ordered = sorted(rows, key=lambda row: row["row"])
    uri = join(output, TABLE)
    fs, path = filesystem(uri)
    if is_local(uri):  # object storage has no folders
        fs.makedirs(fs._parent(path), exist_ok=True)
    with fs.open(path, "wb") as file, pq.ParquetWriter(file, file_schema) as writer:
        size = ROWS_PER_GROUP if embed_videos else 10_000
        for start in range(0, len(ordered), size):
            group = ordered[start : start + size]
            columns = [_column(field, group) for field in schema]
            if embed_videos:
                columns.append(pa.array([_video(row) for row in group], type=pa.binary()))
            writer.write_table(pa.table(columns, schema=file_schema))
    return uri


def _common_type(values: list[Any]) -> pa.DataType:
    try:
        found = pa.array(values).type
        # Parquet has fewer types than Arrow: it refuses structs without fields here.
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("values", found)])).close()
    except (pa.ArrowException, OverflowError):
        return pa.string()
    return pa.string() if pa.types.is_null(found) else found


def _column(field: pa.Field, rows: Sequence[StatusRow]) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return pa.array(values, type=field.type)


def _video(row: StatusRow) -> bytes | None:
    if row["status"] != "done":
        return None
    fs, path = filesystem(row["uri"])
    return fs.cat_file(path)
