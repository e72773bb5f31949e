"""The rows of a table: Parquet, CSV, JSON or a folder of Parquet files, read one after another.

A row is read in two steps, because the second may run elsewhere (`pipeline.cluster.manifest_data`): `raw_rows` takes it
from the file, and `Parser` makes its values of it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from pipeline.common.bounded import bounded_row
from pipeline.common.errors import ManifestError, StorageError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.quoted import kind, quoted
from pipeline.manifest.columns import ColumnError, naming
from pipeline.manifest.noticed import Noticed, Notices, place
from pipeline.manifest.table_json import json_rows, parse_json, values_of
from pipeline.manifest.table_parquet import check_rows, parquet_rows
from pipeline.manifest.table_text import SAVE, Raw, csv_rows, text_of
from pipeline.manifest.values import is_blank, trimmed
from pipeline.storage.near_names import missing
from pipeline.storage.objects import filesystem, list_folder
from pipeline.storage.records import is_of_the_storage
from pipeline.storage.trouble import raise_if_trouble, reason
from pipeline.storage.uris import join

CSV = (".csv", ".tsv")
JSON = (".jsonl", ".json", ".ndjson")
TEXTS = CSV + JSON
SHEETS = f"; {SAVE}"
FORMATS = (".parquet", *TEXTS)


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    number: int
    """From 1, not counting a header or lines without any character."""
    values: dict[str, Any]
    """Values by column; without any value, the row is to be left out."""
    line: int = 0
    """Line of the file on which it begins, from 1; 0 where there are no lines."""
    noticed: tuple[Noticed, ...] = ()
    problem: str = ""
    """Why the row could not be read; it has no values then."""
    short: str = ""
    """What is wrong if the row ends before the last column. Its last values are empty, unless others are shifted."""

    @property
    def place(self) -> str:
        """`row 3 (line 4)`, for messages."""
        return place(self.number, self.line)


class Parser:
    """Makes rows of raw rows, for a table with these known columns."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def __call__(self, number: int, raw: Any) -> Row:
        """The row with this number; its `problem` says why if it cannot be read."""
        line, content, notes, problem, short = raw if isinstance(raw, Raw) else Raw(0, raw)
        noticed = [Noticed(note) for note in notes]
        if problem:
            return Row(number, {}, line, tuple(noticed), problem)
        try:
            values = values_of(content) if isinstance(content, str) else content
            if not isinstance(values, Mapping):
                raise ValueError(f"it is {kind(values)} and not a mapping of columns to values")
            columns = tuple(map(str, values))
            names = naming(columns, self._known)
        except (ColumnError, ValueError) as error:
            return Row(number, {}, line, tuple(noticed), str(error))
        noticed.extend(map(Noticed, names.notes))
        named = {names.known.get(name, name): value for name, value in zip(columns, values.values(), strict=True)}
        if all(map(is_blank, named.values())):
            return Row(number, {}, line, (*noticed, Noticed("rows without any value were left out", of_row=True)))
        if short:
            noticed.append(Noticed("rows that end before the last column were filled up with empty values", True))
        for name in self._known:
            if isinstance(value := named.get(name), str) and (text := trimmed(value)) != value:
                named[name] = text
                if text:
                    noticed.append(Noticed(f"spaces around values of column {name} were removed", True, quoted(value)))
        if isinstance(tags := named.get("tags"), str) and isinstance(content, dict) and line and tags[:1] in "{[":
            with contextlib.suppress(ValueError):
                named["tags"] = parse_json(tags)  # CSV has no types
        return Row(number, bounded_row(named, self._known), line, tuple(noticed), short=short)


def read_rows(
    uri: str, known: tuple[str, ...], notices: Notices | None = None, *, most: int = MAX_ROWS
) -> Iterator[Row]:
    """Rows of a table with these known columns, without those that have no value; `notices` gets what was noticed.

    Raises ManifestError for a table that cannot be read or has more than `most` rows.
    """
    parse = Parser(known)
    for number, raw in enumerate(raw_rows(uri, most), start=1):
        row = parse(number, raw)
        if notices is not None:
            notices.add(row.noticed, row.number, row.line)
        if row.values or row.problem:
            yield row


def parts_of(uri: str) -> list[str]:
    """The files of a manifest: itself, or the Parquet files of a folder, in the order of their names.

    Raises ManifestError if it can be neither.
    """
    if not uri.lower().endswith(TEXTS):
        with contextlib.suppress(NotADirectoryError):
            names = [name for name in list_folder(uri) if name.lower().endswith(".parquet") and name[0] not in "._"]
            if names:
                return [join(uri, name) for name in sorted(names)]
    if not uri.lower().endswith(FORMATS):
        raise ManifestError(
            f"{uri} is not a manifest: its name must end in {', '.join(FORMATS)}, or it must be a folder of Parquet "
            f"files{SHEETS if uri.lower().endswith(('.xlsx', '.xls', '.ods', '.numbers')) else ''}"
        )
    return [uri]


def raw_rows(uri: str, most: int = MAX_ROWS) -> Iterator[Any]:
    """Rows of a table as they are stored: dicts of Parquet's values, and `Raw` rows of texts.

    Raises ManifestError, also for more than `most` rows, and StorageError.
    """
    try:
        rows = chain.from_iterable(raw_rows_of(part, most) for part in parts_of(uri))
        for number, row in enumerate(rows, start=1):
            check_rows(uri, number, most)
            yield row
    except (ManifestError, StorageError):
        raise
    except Exception as error:
        raise_if_trouble(error, f"{uri} could not be read")
        raise


def raw_rows_of(uri: str, most: int = MAX_ROWS) -> Iterator[Any]:
    """Raw rows of one of the files; a Parquet file with more than `most` rows is refused before any is read."""
    with opened(uri) as file:
        yield from parquet_rows(uri, file, most) if uri.lower().endswith(".parquet") else text_rows(uri, file)


@contextlib.contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """A file of a table, to be read; what goes wrong meanwhile becomes ManifestError or StorageError."""
    try:
        fs, path = filesystem(uri)
        with fs.open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise ManifestError(missing(uri)) from None
    except ManifestError:
        raise
    except IsADirectoryError:
        raise ManifestError(f"{uri} is a folder, and there are no Parquet files in it") from None
    except Exception as error:  # errors of the storage and of every format
        if uri.lower().endswith(".parquet") and not is_of_the_storage(error):
            raise ManifestError(f"{uri} could not be read: it is not a Parquet file, or it is damaged") from error
        raise_if_trouble(error, f"{uri} could not be read")
        raise ManifestError(f"{uri} could not be read: {reason(error)}") from error


def text_rows(uri: str, file: BinaryIO) -> Iterator[Raw]:
    """Raw rows of an open CSV or JSON file; the name `uri` tells which it is. Raises ManifestError."""
    return (csv_rows if uri.lower().endswith(CSV) else json_rows)(uri, *text_of(uri, file))
