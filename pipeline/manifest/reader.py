"""The manifest: Parquet, CSV or JSONL rows -> validated clips (`pipeline.manifest.clip`) and rejected rows.

A wrong value rejects its row, with the row number, the column and the allowed values. A table that cannot be a manifest
at all (unreadable, empty, or without a required column) is refused as a whole.
"""

import csv
import heapq
import io
import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models import FloatConfig
from models.sampling import choose_sampler
from pipeline.common.disk_collections import Spool
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.redaction import carries_credentials, redacted
from pipeline.manifest.clip import Clip, Wanted, default_id, is_absent, read_clip
from pipeline.manifest.settings import ClipDefaults
from pipeline.storage.objects import absolute, filesystem, parent, raise_if_trouble

FORMATS = (".parquet", ".csv", ".jsonl")
REQUIRED = ("image", "audio")
SHOWN = 20
"""Number of rows that a message lists."""


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be rendered, and why."""

    row: int
    clip_id: str
    error: ClipError
    values: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read and checked: each row is in one of the two lists, both in the manifest's order."""

    uri: str
    clips: Spool[Clip]
    rejected: Spool[Rejected]

    def __len__(self) -> int:
        return len(self.clips) + len(self.rejected)


def read_manifest(
    uri: str,
    defaults: ClipDefaults | None = None,
    model: FloatConfig | None = None,
    *,
    solver: str = "auto",
) -> Manifest:
    """Read a manifest and validate it for a model; None stands for one of the paper's default variant.

    Raises ManifestError for a manifest that is refused as a whole, and ValueError for a solver that cannot sample the
    model.
    """
    model = model or FloatConfig()
    wanted = Wanted(model, choose_sampler(model.objective, solver), defaults or ClipDefaults())
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    columns: set[str] = set()

    def rows() -> Iterator[tuple[int, Any]]:
        for row, values in read_rows(uri):
            columns.update(values if isinstance(values, dict) else ())
            yield row, values

    manifest = checked_rows(uri, rows(), parent(uri), wanted)
    if not len(manifest):
        raise ManifestError(f"{uri} has no rows")
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ManifestError(
            f"{uri} has no column {' and no column '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}"
        )
    return manifest


def checked_rows(uri: str, rows: Iterable[tuple[int, Any]], base: str, wanted: Wanted) -> Manifest:
    """Rows (number, values) as clips or as rejected rows; relative paths start at the folder `base`."""
    valid: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    for row, values in rows:
        try:
            valid.append(read_clip(row, values, base, wanted))
        except ClipError as error:
            known = {name: v for name, v in values.items() if not is_absent(v)} if isinstance(values, dict) else {}
            name = redacted(str(known.get("clip_id") or default_id(known) or f"row-{row}"))
            refused.append(Rejected(row, name, error, known))
    return Manifest(uri, *_reject_duplicates(valid, refused))


def _reject_duplicates(clips: Spool[Clip], rejected: Spool[Rejected]) -> tuple[Spool[Clip], Spool[Rejected]]:
    """Reject all rows with a repeated clip_id, because it is unknown which one is meant."""
    # Two names that differ only in case are the same file on many disks. A hash of each name fits in memory, and only
    # names with a repeated hash are compared.
    hashes = np.frombuffer(array("q", (hash(clip.clip_id.casefold()) for clip in clips)), dtype=np.int64)
    values, counts = np.unique(hashes, return_counts=True)
    suspects = np.flatnonzero(np.isin(hashes, values[counts > 1]))
    rows: dict[str, list[int]] = defaultdict(list)
    for i in suspects.tolist():
        rows[clips[i].clip_id.casefold()].append(clips[i].row)
    twice = {row for same in rows.values() if len(same) > 1 for row in same}
    if not twice:
        return clips, rejected
    unique: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    duplicates = (_duplicate(clip, rows[clip.clip_id.casefold()]) for clip in clips if clip.row in twice)
    for one in heapq.merge(rejected, duplicates, key=lambda one: one.row):
        refused.append(one)
    for clip in clips:
        if clip.row not in twice:
            unique.append(clip)
    return unique, refused


def _duplicate(clip: Clip, rows: list[int]) -> Rejected:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    error = ClipError(
        "clip_id_duplicate",
        f"row {clip.row}: rows {', '.join(map(str, rows[:SHOWN]))}{more} have the same clip_id {clip.clip_id!r} (by "
        "default the name of the audio file): give each row its own",
    )
    files = {"image": clip.image, "audio": clip.audio} | ({} if clip.pose is None else {"pose": clip.pose})
    return Rejected(clip.row, clip.clip_id, error, files | clip.extra)


# --- Reading ---------------------------------------------------------------------------------------------------


def read_rows(uri: str) -> Iterator[tuple[int, Any]]:
    """(row number from 1, values) of a Parquet, CSV or JSONL table.

    A JSONL line that is not an object yields its error instead of values. Raises ManifestError for a table that cannot
    be read.
    """
    suffix = next((s for s in FORMATS if uri.lower().endswith(s)), None)
    if suffix is None:
        raise ManifestError(f"{uri} is not a manifest: its name must end in {', '.join(FORMATS)}")
    try:
        fs, path = filesystem(uri)
        if suffix == ".parquet":
            with fs.open(path, "rb") as file:
                batches = pq.ParquetFile(file).iter_batches()
                rows = (row for batch in batches for row in batch.to_pylist())
                yield from enumerate(rows, start=1)
            return
        with fs.open(path, "rb") as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            yield from _csv_rows(text) if suffix == ".csv" else _jsonl_rows(text)
    except FileNotFoundError:
        raise ManifestError(f"{uri} does not exist") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{uri} is not UTF-8 text: {error}") from None
    except Exception as error:  # errors of the storage and of every format
        raise_if_trouble(error, f"{uri} could not be read")
        raise ManifestError(f"{uri} could not be read: {type(error).__name__}: {error}") from error


def _csv_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(csv.DictReader(text, strict=True), start=1):
        extra = row.pop(None, None)
        # CSV has no types: a value that must be a number or a mapping is parsed as JSON.
        values = {name: _from_text(name, value) for name, value in row.items()}
        yield number, values if extra is None else {**values, "(more values than columns)": extra}


NUMBERS = ("seed", "nfe", "a_cfg_scale", "e_cfg_scale", "r_cfg_scale")


def _from_text(column: str, value: str | None) -> Any:
    if value is not None and (column in NUMBERS or (column in ("emotion", "tags") and value[:1] in "{[")):
        try:
            return _json(value)
        except ValueError:
            return value
    return value


def _json(text: str) -> Any:
    """Value of a JSON text. Raises ValueError if it is not JSON, or has half a surrogate pair (`\\ud800`), which no
    table can store.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _jsonl_rows(text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    number = 0
    for line in text:
        if line.strip():
            number += 1
            try:
                yield number, _json(line)
            except ValueError as error:
                yield number, error
