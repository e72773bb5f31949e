"""Text files that hold tables: their encoding, and the rows of CSV files as spreadsheets and programs write them.

UTF-8 is read with and without a byte order mark, and UTF-16 and UTF-32 with one. Values may be separated by commas,
semicolons, tabs or vertical bars: the one that splits the first line into most names, or the one that a line `sep=;`
names, as Excel writes it.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import BinaryIO, NamedTuple

from pipeline.common.errors import ManifestError
from pipeline.common.quoted import quoted

HEAD = 4_096
"""Bytes that are looked at to find out what a file is."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", ""),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)

BINARY = (
    (b"PK\x03\x04", "an Excel workbook, or another file in ZIP format"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"PAR1", "a Parquet file, whose name must end in .parquet"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"%PDF", "a PDF document"),
)

SAVE = "save the table as 'CSV UTF-8'"

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_UNDECODED = re.compile("[\udc80-\udcff]")


class Raw(NamedTuple):
    """A row of a text file as it is stored."""

    line: int
    """Line of the file on which it begins, from 1."""
    content: str | dict[str, str]
    """JSON text, or CSV's texts by column."""
    notes: tuple[str, ...] = ()
    """What is to be said about the whole file."""
    problem: str = ""
    """Why it cannot be read."""
    short: str = ""
    """What is wrong if it ends before the last column, although its values can be read."""


def text_of(uri: str, file: BinaryIO) -> tuple[Iterator[str], tuple[str, ...]]:
    """(lines with their ends, notes) of a text file. Raises ManifestError, also while the lines are read."""
    head = file.read(HEAD)
    file.seek(0)
    for magic, what in BINARY:
        if head.startswith(magic):
            raise ManifestError(f"{uri} is {what}, and not a text: {SAVE}")
    encoding, name = next(((e, n) for mark, e, n in MARKS if head.startswith(mark)), ("utf-8", ""))
    if not name and b"\0" in head:
        raise ManifestError(f"{uri} contains zero bytes, as UTF-16 does, and has no mark at its start: {SAVE}")
    # Bytes that are not text become lone surrogates, so that the line that has them can be named.
    text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
    return _lines(uri, text, name), (f"the text is {name}",) if name else ()


def _lines(uri: str, text: io.TextIOWrapper, encoding: str) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(text, start=1):
            if not line.isascii() and (bad := _UNDECODED.search(line)):
                raise _undecoded(uri, number, ord(bad[0]) - 0xDC00)
            if "\0" in line:
                raise ManifestError(f"{uri}, line {number}: it contains a zero byte, which no text has: {SAVE}")
            yield line
    except UnicodeDecodeError:
        where = f", after line {number}" if number else ""
        raise ManifestError(f"{uri}{where}: this is not {encoding or 'UTF-8'} text: {SAVE}") from None


def _undecoded(uri: str, line: int, byte: int) -> ManifestError:
    western = bytes([byte]).decode("cp1252", "replace")
    guess = f" (in Windows-1252 it is {western!r})" if western.isprintable() and western != "\ufffd" else ""
    return ManifestError(f"{uri}, line {line}: the byte 0x{byte:02X}{guess} shows that this is not UTF-8 text: {SAVE}")


# --- CSV -------------------------------------------------------------------------------------------------------


def csv_rows(uri: str, lines: Iterator[str], notes: tuple[str, ...]) -> Iterator[Raw]:
    """Rows of a CSV file; lines without any character are no rows. Raises ManifestError for one that is broken.

    A row with more values than there are columns has a problem instead of values: from the first comma too many on,
    each value would be in the wrong column. In a row with fewer values the last ones are empty, because programs leave
    out separators at the end of a line; it is marked as short.
    """
    yield from csv_table(uri, lines, notes)[1]


def csv_table(uri: str, lines: Iterator[str], notes: tuple[str, ...]) -> tuple[tuple[str, ...], Iterator[Raw]]:
    """(names of the columns, rows) of a CSV file, see `csv_rows`. An empty file has no columns."""
    before, first = 0, ""
    for first in lines:
        before += 1
        if first.strip():
            break
    if re.match(r'\s*(\{\s*"|\[\s*\{)', first):
        raise ManifestError(f"{uri} holds JSON, and not CSV: its name must end in .jsonl or .json")
    delimiter = ""
    if separated := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):
        delimiter, first = separated[1], next(lines, "")
        before += 1
    delimiter = delimiter or _delimiter(first)
    if delimiter != ",":
        notes = (*notes, f"the values are separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise ManifestError(f"{uri}, line {before}: {_broken(str(error))}") from None
    width, notes = _header(uri, before, names, notes)

    def rows() -> Iterator[Raw]:
        line = before
        try:
            while True:
                line = before + reader.line_num
                values = next(reader, None)
                if values is None:
                    return
                if not values:
                    continue
                yield _row(line, names, width, values, notes, delimiter)
        except csv.Error as error:
            raise ManifestError(f"{uri}, line {line}: {_broken(str(error))}") from None

    return tuple(filter(str.strip, names)), rows()


def _chain(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _delimiter(header: str) -> str:
    """What separates the names in the first line of a table."""

    def count(delimiter: str) -> int:
        names = next(csv.reader([header], delimiter=delimiter), [])
        return 0 if any('"' in name for name in names) else len(names)  # a name in quotes was split

    return max(DELIMITERS, key=count)  # the first of several


def _header(uri: str, line: int, names: list[str], notes: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """(number of columns up to the last one with a name, notes). Raises ManifestError for the same name twice."""
    named = [name for name in names if name.strip()]
    twice = sorted({name for name in named if named.count(name) > 1}) if len(set(named)) < len(named) else []
    if twice:
        raise ManifestError(
            f"{uri}, line {line}: column {quoted(twice[0])} appears {named.count(twice[0])} times: keep one of them, "
            "or rename the others"
        )
    width = max((i for i, name in enumerate(names, start=1) if name.strip()), default=0)
    for i, name in enumerate(names[:width], start=1):
        if not name.strip():
            notes = (*notes, f"column {i} has no name and is left out")
    return width, notes


def _row(line: int, names: list[str], width: int, values: list[str], notes: tuple[str, ...], delimiter: str) -> Raw:
    if not any(map(str.strip, values)):
        return Raw(line, {}, notes)
    uneven = _uneven(values, width, DELIMITERS.get(delimiter, repr(delimiter)))
    # Columns without a name at the end of a spreadsheet are empty, and may be absent.
    if len(values) > len(names) or any(map(str.strip, values[width:])):
        return Raw(line, {}, notes, uneven)
    texts = {name: value for name, value in zip_longest(names, values, fillvalue="") if name.strip()}
    return Raw(line, texts, notes, short=uneven if len(values) < width else "")


def _uneven(values: list[str], width: int, separators: str) -> str:
    counts = f"it has {len(values)} values for {width} columns, so each may be in the wrong column"
    if len(values) < width:
        hint = f"write the {separators} of empty values as well, and put values with line breaks in double quotes"
    else:
        hint = f"put values that contain {separators} in double quotes, without a space before the quote"
        hint += "" if values[-1].strip() else f", and remove {separators} at the end of the line"
    return f"{counts}: {hint}"


def _broken(error: str) -> str:
    """What is wrong with a CSV file, in words of ours."""
    if "end of data" in error:
        return "a double quote is opened here and never closed"
    if "limit" in error:
        return f"a value has more than {csv.field_size_limit():,} characters: is a double quote never closed?"
    return "a value goes on after its closing double quote: write a double quote inside a value twice"
