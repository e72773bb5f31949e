"""clips.csv, the output table for people with a spreadsheet: only for runs that a person can read as a whole."""

import csv
import io
import json
from typing import Any

import pyarrow.parquet as pq

from pipeline.common.csv_cells import cell
from pipeline.ledger.table import table_rows
from pipeline.storage.objects import filesystem, remove, write_bytes
from pipeline.storage.trouble import MISNAMED

MOST_ROWS = 10_000

BEGINNING = "\ufeffclip_id,row,status,"
"""How such a file begins: a mark by which spreadsheets know UTF-8, and the first columns of the table."""


def write_csv(table: str) -> str:
    """Write the table at `table` as CSV beside it; returns its URI, or "" if there is none.

    There is none for more than `MOST_ROWS` rows, whose older file is removed, nor where a file of somebody else has
    the name.
    """
    uri = f"{table.removesuffix('.parquet')}.csv"
    if (beginning := _beginning(uri)) not in (None, BEGINNING):
        return ""
    fs, path = filesystem(table)
    with fs.open(path, "rb") as file:
        found = pq.ParquetFile(file)
        names, count = [name for name in found.schema_arrow.names if name != "other_columns"], found.metadata.num_rows
    if count > MOST_ROWS:
        if beginning is not None:
            remove(uri)
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore")
    writer.writeheader()
    for row in table_rows(table):
        writer.writerow({name: cell(plain(value)) for name, value in row.items() if value is not None})
    write_bytes(text.getvalue().encode("utf-8-sig"), uri)
    return uri


def plain(value: Any) -> Any:
    """A value of the table for a cell of CSV: lists are joined, and other nested values are JSON."""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return "; ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _beginning(uri: str) -> str | None:
    """The first characters of a file; None if there is no such file."""
    fs, path = filesystem(uri)
    try:
        with fs.open(path, "rb") as file:
            return file.read(len(BEGINNING.encode())).decode(errors="replace")
    except FileNotFoundError:
        return None
    except MISNAMED:
        return ""
