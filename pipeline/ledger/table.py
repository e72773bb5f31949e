"""The output table: status rows -> Parquet, one row per planned clip."""

import contextlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.disk_collections import Spool, batched
from pipeline.ledger.columns import SCHEMA, ClipRow, with_names_of_now
from pipeline.storage.objects import filesystem, join, put_file
from pipeline.storage.records import reading

TABLE = "clips.parquet"
TAKES = "takes.parquet"

GROUP = 2_000
"""Number of rows in memory at a time."""


class RowSpool:
    """Status rows on the local disk, so that the driver's memory does not grow with their number."""

    def __init__(self, rows: Iterable[ClipRow] = ()) -> None:
        self._rows: Spool[ClipRow] = Spool()
        self._numbers = array("q")
        self._known = bytearray()
        for row in rows:
            self.add(row)

    def add(self, row: ClipRow) -> None:
        """Append a row."""
        number = row["row"]
        self._rows.append(row)
        self._numbers.append(number)
        self._known.extend(bytes(max(0, number + 1 - len(self._known))))
        self._known[number] = 1

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, number: object) -> bool:
        """Whether this row of the manifest has a status."""
        return isinstance(number, int) and number < len(self._known) and bool(self._known[number])

    def __iter__(self) -> Iterator[ClipRow]:
        """Iterate in the order of the manifest."""
        for i in np.argsort(np.array(self._numbers, dtype=np.int64), kind="stable"):
            yield self._rows[i]


def write_table(rows: RowSpool, output: str, *, name: str = TABLE) -> str:
    """Write `output`/`name` and return its URI.

    The manifest's own columns come after ours; if their values have no common Arrow type, they are written as JSON.
    """
    schema = SCHEMA
    for column, kind in sorted(_types_of_others(rows, set(SCHEMA.names)).items()):
        schema = schema.append(pa.field(column, kind))
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / name
        with pq.ParquetWriter(local, schema) as writer:
            for group in batched(rows, GROUP):
                writer.write_table(pa.table([_column(field, group) for field in schema], schema=schema))
        uri = join(output, name)
        put_file(local, uri)  # a reader sees either the old table or the new one
    return uri


def table_rows(uri: str, columns: Sequence[str] = ()) -> Iterator[ClipRow]:
    """Rows of an earlier table, with these columns or all; nothing if there is no table. Raises DamagedError.

    A column `video` is left out: earlier versions embedded the videos in this table.
    """
    for batch in _batches(uri, columns):
        yield from map(with_names_of_now, batch.to_pylist())


def check_table(uri: str) -> None:
    """Raise DamagedError if there is a table that cannot be read from its start to its end."""
    for _ in _batches(uri):
        pass


def _batches(uri: str, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError), reading(uri, "a table of clips"), fs.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        if missing := {"clip_id", "row", "status"} - set(names):
            raise ValueError(f"it has no {missing}")
        chosen = [name for name in names if name != "video" and (not columns or name in columns)]
        yield from table.iter_batches(GROUP, columns=chosen)


def failed_rows(uri: str) -> Iterator[ClipRow]:
    """Rows of an earlier failed.jsonl; nothing if there is none. Raises DamagedError."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError), reading(uri, "a list of rows"), fs.open(path, "rb") as file:
        for line in file:
            row = with_names_of_now(json.loads(line))
            if not (isinstance(row["clip_id"], str) and isinstance(row["row"], int) and isinstance(row["status"], str)):
                raise ValueError("it is not a row")
            yield row


def _types_of_others(rows: Iterable[ClipRow], ours: set[str]) -> dict[str, pa.DataType]:
    """Type of each column from the manifest: the common type of all its values, or string."""
    types: dict[str, pa.DataType] = {}
    for group in batched(rows, GROUP):
        for column in {name for row in group for name in row} - ours:
            found = _common_type([row.get(column) for row in group])
            types[column] = _unified(types.get(column, pa.null()), found)
    return {column: pa.string() if pa.types.is_null(kind) else kind for column, kind in types.items()}


def _common_type(values: list[Any]) -> pa.DataType:
    try:
        found = pa.array(values).type
        # Parquet has fewer types than Arrow; for example, it refuses structs without fields.
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("values", found)])).close()
    except (pa.ArrowException, OverflowError):
        return pa.string()
    return found


def _unified(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    schemas = [pa.schema([("values", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _column(field: pa.Field, rows: Sequence[ClipRow]) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return pa.array(values, type=field.type)
