"""The manifest of an evaluation: pairs of a real and a generated video, each with the name of a system."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.redaction import carries_credentials, redacted_value
from pipeline.manifest.columns import missing_columns
from pipeline.manifest.noticed import Notices
from pipeline.manifest.rows import Row, read_rows
from pipeline.manifest.values import Values, is_absent
from pipeline.storage.uris import absolute, parent, resolve

REQUIRED = ("reference", "generated", "system")


@dataclass(frozen=True)
class Pair:
    """One row of the manifest."""

    row: int
    """Row number, from 1, not counting a header."""
    reference: str
    """URI or absolute path of the real video."""
    generated: str
    system: str
    extra: dict[str, Any] = field(default_factory=dict)
    """Other columns, which are passed through."""


@dataclass(frozen=True)
class RejectedPair:
    """A row that is not a valid pair, and why."""

    row: int
    values: dict[str, Any]
    error: ClipError


def read_pairs(uri: str, notices: Notices | None = None, most: int = MAX_ROWS) -> tuple[list[Pair], list[RejectedPair]]:
    """Read a Parquet, CSV or JSON manifest; paths may be relative to it.

    Raises ManifestError, also for more than `most` rows.

    `notices` gets what was understood although it is not written as the guide says.
    """
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    pairs: list[Pair] = []
    rejected: list[RejectedPair] = []
    columns: set[str] = set()
    for row in read_rows(uri, REQUIRED, notices, most=most):
        columns.update(row.values)
        try:
            pairs.append(_pair(row, parent(uri)))
        except ClipError as error:
            rejected.append(RejectedPair(row.number, redacted_value(row.values), error))
    if not pairs and not rejected:
        raise ManifestError(f"{uri} has no rows with values: give one row for each pair")
    if not columns:
        raise ManifestError(f"{uri}, {rejected[0].error.message}")
    if missing := missing_columns(columns, REQUIRED):
        raise ManifestError(f"{uri} has {missing}")
    return pairs, rejected


def _pair(row: Row, base: str) -> Pair:
    if row.problem:
        raise ClipError("row_unreadable", f"{row.place}: {row.problem}")
    values = Values(row.place, {name: value for name, value in row.values.items() if not is_absent(value)})
    extra = {name: value for name, value in row.values.items() if name not in REQUIRED}
    real, made = (resolve(base, values.file(name, values.required(name))) for name in ("reference", "generated"))
    return Pair(row.number, real, made, values.required("system"), extra)
