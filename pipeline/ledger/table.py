"""The output table: status rows -> Parquet, one row per planned clip."""

import contextlib
import json
import logging
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.disk_collections import Spool
from pipeline.ledger.columns import SCHEMA, ClipRow, with_names_of_now
from pipeline.ledger.own_columns import OTHERS, OwnColumns, column, without_others
from pipeline.storage.objects import filesystem, put_file
from pipeline.storage.records import reading
from pipeline.storage.uris import join

TABLE = "clips.parquet"
TAKES = "takes.parquet"

KIND = "a table of clips"
"""What such a file is called in messages."""

GROUP = 2_000
GROUP_BYTES = 64 << 20
"""Number of rows in memory at a time, and their size."""
READ = 64
"""Number of rows that are read at a time: their values may be long."""

logger = logging.getLogger(__name__)


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
        for i in self._order():
            yield self._rows[i]

    def groups(self) -> Iterator[list[ClipRow]]:
        """The rows in the order of the manifest, as many at a time as memory should hold."""
        group: list[ClipRow] = []
        room = GROUP_BYTES
        for i in self._order():
            size = self._rows.stored_bytes(i)
            if group and (len(group) == GROUP or size > room):
                yield group
                group, room = [], GROUP_BYTES
            group.append(self._rows[i])
            room -= size
        if group:
            yield group

    def _order(self) -> np.ndarray:
        return np.argsort(np.array(self._numbers, dtype=np.int64), kind="stable")


def write_table(rows: RowSpool, output: str, *, name: str = TABLE) -> str:
    """Write `output`/`name` and return its URI.

    The manifest's own columns come after ours; if their values have no common Arrow type, they are written as JSON. The
    table is read back before it replaces an earlier one.
    """
    own = OwnColumns(SCHEMA.names)
    for group in rows.groups():
        own.see(group)
    fields = own.fields()
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / name
        try:
            _write(rows, local, own, fields)
        except (pa.ArrowException, OverflowError, OSError) as error:
            logger.warning(
                "%s: the manifest's own columns are written as text, because their values do not fit together", name
            )
            logger.debug("why", exc_info=error)
            _write(rows, local, own, [pa.field(field.name, pa.string()) for field in fields])
        uri = join(output, name)
        put_file(local, uri)  # a reader sees either the old table or the new one
    return uri


def _write(rows: RowSpool, local: Path, own: OwnColumns, fields: Sequence[pa.Field]) -> None:
    """Raises pa.ArrowException, OverflowError or OSError for a table that cannot be written or not be read back."""
    schema = pa.schema([*SCHEMA, *fields])
    names = {field.name for field in fields}
    with pq.ParquetWriter(local, schema) as writer:
        for group in rows.groups():
            whole = [{**row, OTHERS: own.others(row, names)} for row in group]
            writer.write_table(pa.table([column(field, whole) for field in schema], schema=schema))
    with pq.ParquetFile(local) as table:
        if table.metadata.num_rows != len(rows) or not table.schema_arrow.equals(schema):
            raise pa.ArrowInvalid("it is not read back as it was written")
        next(table.iter_batches(1), None)  # one row: what is unreadable are types, which all rows share


def table_rows(uri: str, columns: Sequence[str] = ()) -> Iterator[ClipRow]:
    """Rows of an earlier table, with these columns or all; nothing if there is no table. Raises DamagedError.

    Values in the column of other values are under their own names again. A column `video` is left out: earlier versions
    embedded the videos in this table.
    """
    with reading(uri, KIND):
        for batch in _batches(uri, columns):
            yield from (with_names_of_now(without_others(row)) for row in batch.to_pylist())


def check_table(uri: str) -> None:
    """Raise DamagedError if there is a table that cannot be read from its start to its end."""
    for _ in _batches(uri):
        pass


def _batches(uri: str, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError), reading(uri, KIND), fs.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        if missing := {"clip_id", "row", "status"} - set(names):
            raise ValueError(f"it has no {missing}")
        chosen = [name for name in names if name != "video" and (not columns or name in columns)]
        yield from table.iter_batches(GROUP if columns else READ, columns=chosen)


def failed_rows(uri: str) -> Iterator[ClipRow]:
    """Rows of an earlier failed.jsonl; nothing if there is none. Raises DamagedError."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError), reading(uri, "a list of rows"), fs.open(path, "rb") as file:
        for line in file:
            row = with_names_of_now(json.loads(line))
            if not (isinstance(row["clip_id"], str) and isinstance(row["row"], int) and isinstance(row["status"], str)):
                raise ValueError("it is not a row")
            yield row
