"""The manifest's own columns in an output table: which become columns, of which type, and where the others go.

The number of columns is bounded, because a table takes time and space for every column of every row: rows that each
have column names of their own would make both grow with the square of the rows.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

OTHERS = "other_columns"
"""The column with a JSON object of the values that have no column of their own."""

OWN_COLUMNS = 256
"""Number of own columns: the first ones that have a value, in the order of the manifest."""

NAME_CHARACTERS = 200
"""Length of the name of an own column."""

FIELDS = 1_024
"""Number of different names inside the objects of all own columns; a column with more becomes JSON text."""


class OwnColumns:
    """Finds the own columns of rows that are shown group by group, in the order of the table."""

    def __init__(self, ours: Collection[str]) -> None:
        self._ours = frozenset(ours)
        self._types: dict[str, pa.DataType] = {}
        self._names: dict[str, dict[Any, Any]] = {}
        """Column -> names inside its values, as a tree."""
        self._counts: dict[str, int] = {}
        self._empty: dict[str, None] = {}
        """Columns without a value so far."""

    def see(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the names and types of some rows into account."""
        for row in rows:
            for name, value in row.items():
                if name in self._types or name in self._ours or len(name) > NAME_CHARACTERS:
                    continue
                if value is not None and len(self._types) < OWN_COLUMNS:
                    self._types[name] = pa.null()
                elif value is None and len(self._empty) < OWN_COLUMNS:
                    self._empty[name] = None
        for name, kind in self._types.items():
            if not pa.types.is_string(kind):
                self._types[name] = self._with(name, kind, [row.get(name) for row in rows])

    def fields(self) -> list[pa.Field]:
        """The own columns, sorted by name. A column without a type, or without a common one, is text."""
        kinds = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in self._types.items()}
        for name in self._empty:
            if len(kinds) < OWN_COLUMNS:
                kinds.setdefault(name, pa.string())
        return [pa.field(name, kinds[name]) for name in sorted(kinds)]

    def others(self, row: Mapping[str, Any], columns: Collection[str]) -> str | None:
        """The values of a row that are in none of the `columns`, as JSON; None if there are none."""
        rest = {
            name: value
            for name, value in row.items()
            if value is not None and name not in columns and name not in self._ours
        }
        return json.dumps(rest, default=str) if rest else None

    def _with(self, column: str, before: pa.DataType, values: list[Any]) -> pa.DataType:
        """Type of a column that has these values too."""
        if any(isinstance(value, dict | list | tuple) for value in values):
            known = self._counts.pop(column, 0)
            room = FIELDS - sum(self._counts.values())
            count = known + _new_names(self._names.setdefault(column, {}), values, room - known)
            if count > room:
                return pa.string()
            self._counts[column] = count
        return _unified(before, _common_type(values))


def without_others(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table with all its own values under their names, as they were before it was written."""
    text = row.get(OTHERS)
    try:
        rest = json.loads(text) if isinstance(text, str) else None
    except ValueError:  # a column of this name in a table of an earlier version
        return row
    return {**row, **rest, OTHERS: None} if isinstance(rest, dict) else row


def column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    """The values of a column; in a column of text, values that are none become JSON. Raises pa.ArrowException."""
    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return pa.array(values, type=field.type)


def _new_names(tree: dict[Any, Any], values: list[Any], room: int) -> int:
    """Add the names inside values to a tree; returns the number of new ones. Stops when there are more than `room`."""
    found, waiting = 0, [(tree, value) for value in reversed(values)]
    while waiting and found <= room:
        node, value = waiting.pop()
        if isinstance(value, dict):
            for name, part in value.items():
                if name not in node:
                    node[name] = {}
                    found += 1
                waiting.append((node[name], part))
        elif isinstance(value, list | tuple):
            waiting.extend((node, part) for part in value if isinstance(part, dict | list | tuple))
    return found


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
