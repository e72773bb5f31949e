"""The rows of a manifest's table: Parquet, CSV, JSONL or a folder of Parquet files, read one after another.

A row is read in two steps, because the second may run elsewhere (`pipeline.cluster.manifest_data`): `raw_rows` takes it
from the file, and `parsed` makes its values of it.
"""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.parquet as pq

from pipeline.common.bounded import bounded_row
from pipeline.common.errors import ManifestError, StorageError
from pipeline.storage.objects import filesystem, join, list_folder, raise_if_trouble

FORMATS = (".parquet", ".csv", ".jsonl")


def read_rows(uri: str) -> Iterator[tuple[int, Any]]:
    """(row number from 1, values) of a Parquet, CSV or JSONL table.

    A JSONL line that is not an object yields its error instead of values. Raises ManifestError for a table that cannot
    be read.
    """
    return enumerate(map(parsed(uri), raw_rows(uri)), start=1)


def parts_of(uri: str) -> list[str]:
    """The files of a manifest: itself, or the Parquet files of a folder, in the order of their names.

    Raises ManifestError if it can be neither.
    """
    if not uri.lower().endswith((".csv", ".jsonl")):
        with contextlib.suppress(NotADirectoryError):
            names = [name for name in list_folder(uri) if name.lower().endswith(".parquet") and name[0] not in "._"]
            if names:
                return [join(uri, name) for name in sorted(names)]
    if not uri.lower().endswith(FORMATS):
        raise ManifestError(
            f"{uri} is not a manifest: its name must end in {', '.join(FORMATS)}, or it must be a folder of Parquet "
            "files"
        )
    return [uri]


def raw_rows(uri: str) -> Iterator[Any]:
    """Rows of a table as they are stored: dicts of Parquet's values, dicts of CSV's texts, lines of JSONL.

    Raises ManifestError and StorageError.
    """
    try:
        for part in parts_of(uri):
            yield from raw_rows_of(part)
    except (ManifestError, StorageError):
        raise
    except Exception as error:
        raise_if_trouble(error, f"{uri} could not be read")
        raise


def raw_rows_of(uri: str) -> Iterator[Any]:
    """Raw rows of one of the files."""
    try:
        fs, path = filesystem(uri)
        with fs.open(path, "rb") as file:
            if uri.lower().endswith(".parquet"):
                for batch in pq.ParquetFile(file).iter_batches():
                    yield from batch.to_pylist()
                return
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            yield from csv.DictReader(text, strict=True) if uri.lower().endswith(".csv") else filter(str.strip, text)
    except FileNotFoundError:
        raise ManifestError(f"{uri} does not exist") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{uri} is not UTF-8 text: {error}") from None
    except Exception as error:  # errors of the storage and of every format
        raise_if_trouble(error, f"{uri} could not be read")
        raise ManifestError(f"{uri} could not be read: {type(error).__name__}: {error}") from error


def parsed(uri: str) -> Callable[[Any], Any]:
    """What makes the values of a row, within `pipeline.common.bounded`, or the ValueError of a JSONL line."""
    forms: dict[str, Callable[[Any], Any]] = {"csv": _csv_values, "jsonl": _jsonl_values}
    form = forms.get(uri.lower().rsplit(".", 1)[-1], lambda row: row)
    return lambda raw: bounded_row(form(raw))


def _csv_values(row: dict[Any, Any]) -> dict[str, Any]:
    # CSV has no types: a value that must be a number or a mapping is parsed as JSON.
    values = {name: _from_text(name, value) for name, value in row.items() if name is not None}
    return values if None not in row else {**values, "(more values than columns)": row[None]}


NUMBERS = ("seed", "nfe", "a_cfg_scale", "e_cfg_scale", "r_cfg_scale")


def _from_text(column: str, value: str | None) -> Any:
    if value is not None and (column in NUMBERS or (column in ("emotion", "tags") and value[:1] in "{[")):
        try:
            return _json(value)
        except ValueError:
            return value
    return value


def _jsonl_values(line: str) -> Any:
    try:
        return _json(line)
    except ValueError as error:
        return error


def _json(text: str) -> Any:
    """Value of a JSON text. Raises ValueError if it is not JSON, or has half a surrogate pair (`\\ud800`), which no
    table can store.
    """
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value
