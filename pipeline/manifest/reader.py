"""The manifest: rows of Parquet, CSV or JSON -> validated clips (`pipeline.manifest.clip`) and rejected rows.

A wrong value rejects its row, with the row number, the column and the allowed values. A row without any value is left
out. A table that cannot be a manifest at all (unreadable, empty, or without a required column) is refused as a whole.
"""

import heapq
from array import array
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models import FloatConfig
from models.sampling import choose_sampler
from pipeline.common.disk_collections import Spool, batched, mapped
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.quoted import quoted
from pipeline.common.redaction import carries_credentials, redacted
from pipeline.manifest.clip import COLUMNS, Clip, Wanted, read_clip
from pipeline.manifest.clip_ids import shown_id
from pipeline.manifest.columns import missing_columns
from pipeline.manifest.noticed import Notices
from pipeline.manifest.programme import Member, problems
from pipeline.manifest.requests import as_asked, row_of
from pipeline.manifest.rows import CSV, JSON, TEXTS, Parser, Row, opened, parts_of, raw_rows
from pipeline.manifest.settings import ClipDefaults
from pipeline.manifest.table_parquet import check_parquet
from pipeline.manifest.table_parquet import check_rows as check_count
from pipeline.manifest.table_text import Raw
from pipeline.manifest.values import is_absent
from pipeline.media.settings import VideoSettings
from pipeline.storage.objects import filesystem
from pipeline.storage.uris import absolute, parent

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
    notes: tuple[str, ...] = ()
    """Sentences about what was understood although it is not written as the guide says."""
    columns: frozenset[str] | None = None
    """All columns that the table has; None if that is unknown, because the rows are not from a table."""

    def __len__(self) -> int:
        return len(self.clips) + len(self.rejected)

    def describe(self) -> str:
        """A line for the user, and one for each note."""
        first = f"{self.uri}: {len(self)} rows, {len(self.rejected)} rejected"
        return "\n".join([first, *(f"  note: {note}" for note in self.notes)])


def wanted_of(
    model: FloatConfig,
    defaults: ClipDefaults,
    solver: str = "auto",
    video: VideoSettings | None = None,
    *,
    signs: bool = False,
) -> Wanted:
    """What rows are checked against. Raises ValueError for a solver that cannot sample the model."""
    return Wanted(model, choose_sampler(model.objective, solver), defaults, video or VideoSettings(), signs)


def read_manifest(
    uri: str,
    defaults: ClipDefaults | None = None,
    model: FloatConfig | None = None,
    *,
    solver: str = "auto",
    most: int = MAX_ROWS,
    video: VideoSettings | None = None,
    signs: bool = False,
) -> Manifest:
    """Read a manifest and validate it for a model; None stands for one of the paper's default variant.

    Raises ManifestError for a manifest that is refused as a whole, as one with more than `most` rows is, and ValueError
    for a solver that cannot sample the model.
    """
    wanted = wanted_of(model or FloatConfig(), defaults or ClipDefaults(), solver, video, signs=signs)
    uri = located(uri)
    parse = Parser(COLUMNS)
    rows = (parse(number, raw) for number, raw in enumerate(raw_rows(uri, most), start=1))
    return manifest_of(uri, (check_rows(group, parent(uri), wanted) for group in batched(rows, GROUP)), whole=True)


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
    notices: Notices = field(default_factory=Notices)


def check_rows(rows: Iterable[Row], base: str, wanted: Wanted) -> Checked:
    """Rows as clips or as rejected rows; relative paths start at the folder `base`."""
    checked = Checked()
    for row in rows:
        values, noticed = as_asked(row.values)
        row = replace(row, values=values, noticed=(*row.noticed, *noticed))
        checked.columns.update(row.values)
        checked.notices.add(row.noticed, row.number, row.line)
        if not row.values and not row.problem:
            continue
        try:
            clip, noticed = read_clip(row, base, wanted)
            checked.clips.append(clip)
            checked.notices.add(noticed, row.number, row.line)
        except ClipError as error:
            known = {name: value for name, value in row.values.items() if not is_absent(value)}
            name = redacted(shown_id(row.number, known))
            # Values that may be in wrong columns must not become a row of failed.jsonl, which would not show it.
            checked.rejected.append(Rejected(row.number, name, error, {} if row.short else known))
    return checked


def manifest_of(uri: str, parts: Iterable[Checked], *, whole: bool = False) -> Manifest:
    """The manifest of all its parts, in their order; clips with the same clip_id are rejected.

    Raises ManifestError for a `whole` manifest without rows, without a required column, or of which no row can be read.
    """
    valid: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    columns: set[str] = set()
    notices = Notices()
    hashes = array("q")
    members: list[Member] = []
    for part in parts:
        columns |= part.columns
        notices.merge(part.notices)
        for clip in part.clips:
            valid.append(clip)
            hashes.append(hash(clip.clip_id.casefold()))
            if clip.programme is not None:
                members.append(Member(clip.row, clip.clip_id, clip.programme))
        for rejected in part.rejected:
            refused.append(rejected)
    if whole:
        if not len(valid) + len(refused):
            raise ManifestError(f"{uri} has no rows with values: give one row for each clip")
        if not columns:
            raise _unreadable(uri, refused[0].error.message, len(refused))
        _check_columns(uri, columns)
    clips, rejected_rows = _reject_duplicates(valid, refused, hashes)
    if wrong := problems(members):
        clips, rejected_rows = _reject(clips, rejected_rows, wrong, lambda clip: _disordered(clip, wrong[clip.row]))
    return Manifest(uri, clips, rejected_rows, notices.sentences(), frozenset(columns) if whole else None)


def _unreadable(uri: str, first: str, rows: int) -> ManifestError:
    """The refusal of a table of which no row can be read; `first` says why of the first one."""
    return ManifestError(f"{uri}, {first}" + (f"; none of its {rows} rows can be read" if rows > 1 else ""))


def _check_columns(uri: str, columns: Iterable[str]) -> None:
    columns = set(columns)
    silent = "audio" not in columns and not columns.isdisjoint(("seconds", "faces"))
    if missing := missing_columns(columns, REQUIRED[:1] if silent else REQUIRED):
        hint = "; the first line must name the columns" if uri.lower().endswith(CSV) else ""
        raise ManifestError(f"{uri} has {missing}{hint}")


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
        clip = clips[i]
        rows[clip.clip_id.casefold()].append(clip.row)
    twice = {row for same in rows.values() if len(same) > 1 for row in same}
    if not twice:
        return clips, rejected
    return _reject(clips, rejected, twice, lambda clip: _duplicate(clip, rows[clip.clip_id.casefold()]))


def _reject(
    clips: Spool[Clip], rejected: Spool[Rejected], rows: Container[int], why: Callable[[Clip], Rejected]
) -> tuple[Spool[Clip], Spool[Rejected]]:
    """Move the clips of these rows to the rejected ones."""
    kept: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    for one in heapq.merge(rejected, (why(clip) for clip in clips if clip.row in rows), key=lambda one: one.row):
        refused.append(one)
    for clip in clips:
        if clip.row not in rows:
            kept.append(clip)
    return kept, refused


def _disordered(clip: Clip, problem: str) -> Rejected:
    return Rejected(clip.row, clip.clip_id, ClipError("value_invalid", f"{clip.place}, {problem}"), row_of(clip))


def _duplicate(clip: Clip, rows: list[int]) -> Rejected:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    error = ClipError(
        "clip_id_duplicate",
        f"{clip.place}: rows {', '.join(map(str, rows[:SHOWN]))}{more} have the same clip_id {quoted(clip.clip_id)} "
        "(by default the name of the audio file): give each row its own",
    )
    return Rejected(clip.row, clip.clip_id, error, row_of(clip))


# --- Long manifests --------------------------------------------------------------------------------------------


def glance(uri: str, most: int = MAX_ROWS) -> int:
    """The number of rows of a manifest, estimated from its first rows and its size if it is a text.

    Raises ManifestError if its first rows show that it will be refused as a whole, or if it is Parquet and has more
    than `most` rows, and StorageError.
    """
    uri = located(uri)
    parts = parts_of(uri)
    raw = list(islice(raw_rows(uri, most), SHOWN))
    rows = [
        row for number, one in enumerate(raw, start=1) if (row := Parser(COLUMNS)(number, one)).values or row.problem
    ]
    if rows and len(parts) == 1 and not uri.lower().endswith(JSON):  # all columns are in every row
        if all(row.problem for row in rows):
            raise ManifestError(f"{uri}, {rows[0].place}: {rows[0].problem}; the next rows cannot be read either")
        _check_columns(uri, set().union(*(row.values for row in rows)))
    if uri.lower().endswith(TEXTS):
        fs, path = filesystem(uri)
        return len(raw) * fs.size(path) // max(1, sum(map(_length, raw)))
    count = 0
    for part, metadata in mapped(_metadata, parts):
        check_parquet(part, metadata, most)
        count += metadata.num_rows
    check_count(uri, count, most)
    return count


def _length(raw: Raw) -> int:
    if isinstance(raw.content, str):
        return len(raw.content)
    return sum(len(text) + 1 for text in raw.content.values())


def _metadata(part: str) -> pq.FileMetaData:
    with opened(part) as file:
        return pq.read_metadata(file)
