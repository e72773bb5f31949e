"""The manifest: rows of Parquet, CSV or JSONL -> validated clips (`pipeline.manifest.clip`) and rejected rows.

A wrong value rejects its row, with the row number, the column and the allowed values. A table that cannot be a manifest
at all (unreadable, empty, or without a required column) is refused as a whole.
"""

import heapq
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models import FloatConfig
from models.sampling import choose_sampler
from pipeline.common.disk_collections import Spool, batched, mapped
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.redaction import carries_credentials, redacted
from pipeline.manifest.clip import Clip, Wanted, default_id, is_absent, read_clip
from pipeline.manifest.rows import parsed, parts_of, raw_rows, read_rows
from pipeline.manifest.settings import ClipDefaults
from pipeline.storage.objects import absolute, filesystem, parent

REQUIRED = ("image", "audio")
SHOWN = 20
"""Number of rows that a message lists."""

GROUP = 1_000
"""Number of rows that are checked at a time."""


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

    def describe(self) -> str:
        """One line for the user."""
        return f"{self.uri}: {len(self)} rows, {len(self.rejected)} rejected"


def wanted_of(model: FloatConfig, defaults: ClipDefaults, solver: str = "auto") -> Wanted:
    """What rows are checked against. Raises ValueError for a solver that cannot sample the model."""
    return Wanted(model, choose_sampler(model.objective, solver), defaults)


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
    wanted = wanted_of(model or FloatConfig(), defaults or ClipDefaults(), solver)
    uri = located(uri)
    parts = (check_rows(rows, parent(uri), wanted) for rows in batched(read_rows(uri), GROUP))
    return manifest_of(uri, parts, whole=True)


def located(uri: str) -> str:
    """The absolute URI of a manifest. Raises ManifestError if it contains credentials."""
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    return uri


@dataclass
class Checked:
    """Some rows of a manifest, checked."""

    columns: set[str] = field(default_factory=set)
    clips: list[Clip] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def check_rows(rows: Iterable[tuple[int, Any]], base: str, wanted: Wanted) -> Checked:
    """Rows (number, values) as clips or as rejected rows; relative paths start at the folder `base`."""
    checked = Checked()
    for row, values in rows:
        checked.columns.update(values if isinstance(values, dict) else ())
        try:
            checked.clips.append(read_clip(row, values, base, wanted))
        except ClipError as error:
            known = {name: v for name, v in values.items() if not is_absent(v)} if isinstance(values, dict) else {}
            name = redacted(str(known.get("clip_id") or default_id(known) or f"row-{row}"))
            checked.rejected.append(Rejected(row, name, error, known))
    return checked


def manifest_of(uri: str, parts: Iterable[Checked], *, whole: bool = False) -> Manifest:
    """The manifest of all its parts, in their order; clips with the same clip_id are rejected.

    Raises ManifestError for a `whole` manifest without rows, or without a required column.
    """
    valid: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    columns: set[str] = set()
    hashes = array("q")
    for part in parts:
        columns |= part.columns
        for clip in part.clips:
            valid.append(clip)
            hashes.append(hash(clip.clip_id.casefold()))
        for rejected in part.rejected:
            refused.append(rejected)
    manifest = Manifest(uri, *_reject_duplicates(valid, refused, hashes))
    if whole:
        if not len(manifest):
            raise ManifestError(f"{uri} has no rows")
        _check_columns(uri, columns)
    return manifest


def _check_columns(uri: str, columns: set[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ManifestError(
            f"{uri} has no column {' and no column '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}"
        )


def _reject_duplicates(
    clips: Spool[Clip], rejected: Spool[Rejected], hashed: "array[int]"
) -> tuple[Spool[Clip], Spool[Rejected]]:
    """Reject all rows with a repeated clip_id, because it is unknown which one is meant."""
    # Two names that differ only in case are the same file on many disks. A hash of each name fits in memory, and only
    # names with a repeated hash are compared.
    hashes = np.frombuffer(hashed, dtype=np.int64)
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


# --- Long manifests --------------------------------------------------------------------------------------------


def glance(uri: str) -> int:
    """The number of rows of a manifest, estimated from its first rows and its size if it is a text.

    Raises ManifestError if its first rows show that it will be refused as a whole, and StorageError.
    """
    uri = located(uri)
    parts = parts_of(uri)
    raw = list(islice(raw_rows(uri), SHOWN))
    if raw and len(parts) == 1 and not uri.lower().endswith(".jsonl"):  # all columns are in every row
        _check_columns(uri, set().union(*map(parsed(uri), raw)))
    if uri.lower().endswith((".csv", ".jsonl")):
        fs, path = filesystem(uri)
        lengths = [
            len(row) if isinstance(row, str) else sum(len(text or "") + 1 for text in row.values()) for row in raw
        ]
        return len(raw) * fs.size(path) // max(1, sum(lengths))
    return sum(rows for _, rows in mapped(_rows_in, parts))


def _rows_in(part: str) -> int:
    fs, path = filesystem(part)
    with fs.open(path, "rb") as file:
        return pq.ParquetFile(file).metadata.num_rows
