"""The tables of an evaluation: pairs.parquet, one row per pair, and systems.parquet, one row per system and metric."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.metrics import ALL, PAIR_METRICS
from pipeline.evaluation.stage import OF_VIDEO, Row
from pipeline.evaluation.systems import Result
from pipeline.ledger.own_columns import OTHERS, OwnColumns, column
from pipeline.storage.objects import put_file
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import join, parent

PAIRS, SYSTEMS = "pairs.parquet", "systems.parquet"

COUNTS = ("frames", "width", "height", "frames_compared")

_MEASURED = dict.fromkeys(
    (*(f.column for f in PAIR_METRICS), "frames_compared", *OF_VIDEO, *(f"reference_{name}" for name in OF_VIDEO))
)

_PAIR_COLUMNS: list[tuple[str, Any]] = [
    ("row", pa.int64()),
    ("system", pa.string()),
    ("reference", pa.string()),
    ("generated", pa.string()),
    ("status", pa.string()),  # done | rejected | failed
    ("error_code", pa.string()),
    ("error_message", pa.string()),
    *((name, pa.int64() if name.removeprefix("reference_") in COUNTS else pa.float64()) for name in _MEASURED),
    ("notes", pa.list_(pa.string())),  # why a metric is empty, and what a reader must know
    ("networks", pa.string()),  # JSON {setting: SHA-256 of the file}
    (OTHERS, pa.string()),  # JSON {name: value}: the manifest's columns beyond the first 256
]
PAIR_SCHEMA = pa.schema(_PAIR_COLUMNS)

_SYSTEM_COLUMNS: list[tuple[str, Any]] = [
    ("system", pa.string()),
    ("figure", pa.string()),
    ("name", pa.string()),
    ("unit", pa.string()),
    ("value", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("count", pa.int64()),
    ("reference_count", pa.int64()),
    ("dimension", pa.int64()),
    ("floor", pa.float64()),
    ("floor_counts", pa.list_(pa.int64())),
    ("note", pa.string()),
    ("networks", pa.string()),
]
SYSTEM_SCHEMA = pa.schema(_SYSTEM_COLUMNS)


def complete_notes(row: Row, missing: Mapping[str, str]) -> Row:
    """A pair's row with a reason for each metric whose network was not given, which comes before any other reason."""
    reasons = [f"{column}: {why}" for column, why in missing.items() if column in PAIR_SCHEMA.names]
    others = [note for note in row.get("notes", ()) if note.partition(":")[0] not in missing]
    return row | {"notes": [*others, *reasons]}


def write_pairs(rows: Sequence[Row], output: str, networks: Mapping[str, str]) -> str:
    """Write `output`/pairs.parquet; the manifest's other columns are in `extra` of each row, and come after ours."""
    given = {"networks": json.dumps(networks, sort_keys=True)}
    schema = PAIR_SCHEMA
    extra: list[dict[str, Any]] = [row.get("extra", {}) for row in rows]
    own = OwnColumns(())
    own.see(extra)
    fields = own.fields()
    names = {field.name for field in fields}
    full = [row | given | {OTHERS: own.others(more, names)} for row, more in zip(rows, extra, strict=True)]
    columns = [pa.array([row.get(field.name) for row in full], field.type) for field in schema]
    for field in fields:
        schema = schema.append(field.with_name(f"manifest_{field.name}") if field.name in schema.names else field)
        columns.append(column(field, extra))
    return _write(pa.table(columns, schema=schema), join(output, PAIRS))


def write_systems(results: Sequence[Result], output: str, networks: Mapping[str, str]) -> str:
    """Write `output`/systems.parquet."""
    metrics = {metric.column: metric for metric in ALL}
    given = json.dumps(networks, sort_keys=True)
    rows = [
        result.as_row() | {"name": metrics[result.figure].name, "unit": metrics[result.figure].unit, "networks": given}
        for result in results
    ]
    return _write(pa.Table.from_pylist(rows, schema=SYSTEM_SCHEMA), join(output, SYSTEMS))


def _write(table: pa.Table, uri: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "table.parquet"
        pq.write_table(table, local)
        clear_way(uri, parent(uri))
        put_file(local, uri)
    return uri
