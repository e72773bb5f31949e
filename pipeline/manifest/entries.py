"""Cells that hold a list of objects, its entries: spans of a clip, faces, audio tracks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.common.quoted import quoted
from pipeline.manifest.table_json import parse_json
from pipeline.manifest.values import is_absent

Given = Mapping[str, Any]
"""The values of an entry that are not absent."""


def of_text(value: Any) -> Any:
    """The value of a cell: JSON in it is read, because CSV has no types. Raises ValueError."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return parse_json(value)
        except ValueError as error:
            raise ValueError(f"{quoted(value)} is not JSON: {error}") from None
    return value


def is_list_of_entries(value: Any) -> bool:
    """Whether a value (`of_text`) is a list of entries. An empty list and a list of pairs, as Arrow returns a map
    column, are none.
    """
    return isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)


def given_in(entry: Mapping[Any, Any], keys: Sequence[str]) -> dict[str, Any]:
    """What an entry gives. Raises ValueError for a name that is not one of `keys`."""
    # A struct column of Parquet has every name in every entry, with null where it is not given.
    given = {str(name): value for name, value in entry.items() if not is_absent(value)}
    if unknown := [name for name in given if name not in keys]:
        raise ValueError(f"{quoted(unknown[0])} is not one of {', '.join(keys)}")
    return given


def with_changed(value: Any, key: str, changed: Callable[[Any], Any]) -> Any:
    """The value of a cell with `changed` of what its entries have under `key`; as it is if it cannot be read."""
    try:
        entries = of_text(value)
    except ValueError:  # the row reports this
        return value
    if not is_list_of_entries(entries):
        return value
    return [
        {**entry, key: changed(entry[key])} if isinstance(entry, Mapping) and not is_absent(entry.get(key)) else entry
        for entry in entries
    ]
