"""The output table: status rows -> Parquet, one row per planned clip."""

import json
import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.status import SCHEMA, StatusRow
from pipeline.storage import filesystem, join, put_file

TABLE = "clips.parquet"

ROWS_PER_GROUP = 32
"""With embedded videos a row is megabytes: small groups bound the memory of writer and reader."""


class RowSpool:
    """Status rows on this machine's disk, so that a driver's memory does not grow with them."""

    def __init__(self, rows: Iterable[StatusRow] = ()) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the spool
        self._numbers, self._offsets = array("q"), array("q")
        for row in rows:
            self.add(row)

    def add(self, row: StatusRow) -> None:
        """Append a row."""
        self._numbers.append(row["row"])
        self._offsets.append(self._file.seek(0, os.SEEK_END))
        pickle.dump(row, self._file)

    @property
    def numbers(self) -> set[int]:
        """Rows of the manifest that have a status."""
        return set(self._numbers)

    def __iter__(self) -> Iterator[StatusRow]:
        """In the manifest's order."""
        for _, offset in sorted(zip(self._numbers, self._offsets, strict=True)):
            self._file.seek(offset)
            yield pickle.load(self._file)  # written by this process


def write_table(rows: RowSpool, output: str, *, name: str = TABLE, embed_videos: bool = False) -> str:
    """Write `output`/`name` and return its URI.

    The manifest's own columns follow ours; where their values have no common Arrow type, they are written as JSON.
    With `embed_videos` a binary column `video` holds each delivered MP4 (null where there is none); the files are
    read back in groups, so that memory does not grow with the number of clips; a column `video` of the manifest's own
    gives way to it.
    """
    schema = SCHEMA
    ours = {*SCHEMA.names, "video"} if embed_videos else set(SCHEMA.names)
    for column in sorted({name for row in rows for name in row} - ours):
        schema = schema.append(pa.field(column, _common_type([row.get(column) for row in rows])))
    file_schema = schema.append(pa.field("video", pa.binary())) if embed_videos else schema
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / name
        with pq.ParquetWriter(local, file_schema) as writer:
            for group in batched(rows, ROWS_PER_GROUP if embed_videos else 10_000):
                columns = [_column(field, group) for field in schema]
                if embed_videos:
                    columns.append(pa.array([_video(row) for row in group], type=pa.binary()))
                writer.write_table(pa.table(columns, schema=file_schema))
        uri = join(output, name)
        put_file(local, uri)  # a reader sees the old table or the new one
    return uri


def batched(rows: Iterable[StatusRow], size: int) -> Iterator[list[StatusRow]]:
    """Lists of `size` rows."""
    rows = iter(rows)
    while group := list(islice(rows, size)):
        yield group


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
