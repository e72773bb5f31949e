"""The manifest of an evaluation: pairs of a real and a generated video, each with the name of a system."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.redaction import carries_credentials, redacted_value
from pipeline.manifest.reader import read_rows
from pipeline.storage.objects import absolute, parent, resolve

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


def read_pairs(uri: str) -> tuple[list[Pair], list[RejectedPair]]:
    """Read a Parquet, CSV or JSONL manifest; paths may be relative to it. Raises ManifestError."""
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    pairs: list[Pair] = []
    rejected: list[RejectedPair] = []
    columns: set[str] = set()
    for row, values in read_rows(uri):
        columns.update(values if isinstance(values, dict) else ())
        try:
            pairs.append(_pair(row, values, parent(uri)))
        except ClipError as error:
            rejected.append(RejectedPair(row, redacted_value(values) if isinstance(values, dict) else {}, error))
    if not pairs and not rejected:
        raise ManifestError(f"{uri} has no rows")
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ManifestError(
            f"{uri} has no column {' and no column '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}"
        )
    return pairs, rejected


def _pair(row: int, values: Any, base: str) -> Pair:
    if not isinstance(values, Mapping):
        raise ClipError("row_unreadable", f"row {row}: the line is not a JSON object ({values})")
    texts = {name: _text(row, name, values.get(name)) for name in REQUIRED}
    for name in ("reference", "generated"):
        texts[name] = resolve(base, texts[name])
        if carries_credentials(texts[name]):
            raise ClipError("uri_not_allowed", f"row {row}, column {name}: it contains credentials; remove them")
    extra = {name: value for name, value in values.items() if name not in REQUIRED}
    return Pair(row, texts["reference"], texts["generated"], texts["system"], extra)


def _text(row: int, column: str, value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        raise ClipError("value_missing", f"row {row}, column {column}: a value is required")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ClipError("value_invalid", f"row {row}, column {column}: {value!r} is not text")
    return str(value).strip()
