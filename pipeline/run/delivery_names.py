"""Names of delivered files, from a template such as `{language}/{clip_id}.mp4` and the rows of the output table.

The template ends in .mp4. A file of another container has its own ending in place of it.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any

from pipeline.common.errors import RefusedError
from pipeline.common.quoted import quoted
from pipeline.ledger.done_record import video_name
from pipeline.manifest.clip_ids import file_name_problem, without_unsuitable
from pipeline.media.presets import SUFFIXES
from pipeline.storage.set_aside import shortened

SHOWN = 5
"""Rows that a refusal names."""


def fields_of(template: str) -> tuple[str, ...]:
    """Names of the columns that a template uses. Raises RefusedError for what is no template of file names."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise RefusedError(f"name: {quoted(template)} is not a template: write {{clip_id}}.mp4") from None
    if any(how or spec for _, _, spec, how in parts):
        raise RefusedError(f"name: {quoted(template)} formats a column, but columns are only put in: {{row}}.mp4")
    names = tuple(name for _, name, *_ in parts if name is not None)
    if not all(names):
        raise RefusedError(f"name: {quoted(template)} has empty braces: write the name of a column into them")
    if "\\" in template or any(p in ("", ".", "..") for p in template.split("/")):
        raise RefusedError(f"name: {quoted(template)} is not a path below the folder to=: write folder/{{clip_id}}.mp4")
    if not template.endswith(".mp4"):
        raise RefusedError(f"name: {quoted(template)} does not end in .mp4, which other containers replace by theirs")
    return names


def delivery_names(template: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The path of each row's file below the target folder, in order.

    Raises RefusedError, after the last row, if a row has no value for the template, or if two rows would have the same
    name; names that differ only in case are the same, because they are on many disks.
    """
    fields = fields_of(template)
    taken: dict[str, str] = {}
    empty: list[str] = []
    twice: list[str] = []
    for row in rows:
        values = {field: _part(row, field) for field in fields}
        clip = str(row["clip_id"])
        if missing := [field for field, value in values.items() if not value]:
            empty.append(f"{clip} has no {' and no '.join(missing)}")
            continue
        filled = "".join(text + (values[field] if field else "") for text, field, *_ in Formatter().parse(template))
        filled = filled.removesuffix(".mp4") + _suffix(row)
        name = "/".join(map(_component, filled.split("/")))
        other = taken.setdefault(name.casefold(), clip)
        if other != clip:
            twice.append(f"{other} and {clip} would both be {name}")
        yield name
    for problems, advice in (
        (empty, "fill it in, or leave the column out of the template"),
        (twice, "use a column that tells them apart, such as {clip_id}"),
    ):
        if problems:
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise RefusedError(f"name: {'; '.join(problems[:SHOWN])}{more}: {advice}")


def _part(row: Mapping[str, Any], field: str) -> str:
    """A column's value as a part of a name, without characters that separate folders or are unseen."""
    if field not in row:
        raise RefusedError(f"name: the table has no column {quoted(field)}; --help says where the columns are listed")
    value = row["clip_id"] if field == "title" and row[field] is None else row[field]  # as in the file itself
    if value is not None and not isinstance(value, str | int | float):
        raise RefusedError(f"name: column {field} holds lists or objects, which are no names of files")
    return without_unsuitable(unicodedata.normalize("NFC", "" if value is None else str(value)))


def _suffix(row: Mapping[str, Any]) -> str:
    """Ending of a row's video, which says what it is."""
    name = video_name(row)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), ".mp4")


def _component(name: str) -> str:
    """A folder's or file's name that every system can hold."""
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    stem = name.removesuffix(suffix)
    stem = shortened(stem)
    return f"_{stem}{suffix}" if file_name_problem(stem) else f"{stem}{suffix}"
