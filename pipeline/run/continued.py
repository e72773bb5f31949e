"""A run on the failed.jsonl of its own output: its rows take the places in the table that they had before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from pipeline.common.disk_collections import Spool
from pipeline.ledger.table import TABLE, table_rows
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Manifest, Rejected
from pipeline.run.run import FAILED
from pipeline.run.selection import Selection
from pipeline.storage.objects import read_bytes
from pipeline.storage.targets import lines_with, same_place
from pipeline.storage.uris import join

T = TypeVar("T", Clip, Rejected)

ROWS = ("clip_id", "row", "status", "error_code")
"""Columns of every failed.jsonl."""


def continues(manifest: str, output: str, selection: Selection) -> bool:
    """Whether a manifest is the list of rows that an earlier run of the same output did not finish.

    Raises StorageError.
    """
    failed = join(output, selection.name(FAILED))
    try:
        return same_place(manifest, failed) and read_bytes(failed) is not None and lines_with(*ROWS)(failed)
    except ValueError:  # damaged, or somebody else's
        return False


def with_earlier_rows(manifest: Manifest, output: str, selection: Selection) -> Manifest:
    """The manifest with the row numbers that its rows had before (column `row`), in their order.

    A row that somebody has added, or whose number appears twice, gets a number after those of the table.
    """
    taken: set[int] = set()
    table = join(output, selection.name(TABLE))
    highest = max((row["row"] for row in table_rows(table)), default=0)
    highest = max(chain([highest], map(_given, manifest.clips), map(_given, manifest.rejected)))

    def number(one: Clip | Rejected) -> int:
        nonlocal highest
        found = _given(one)
        if found < 1 or found in taken:
            highest += 1
            found = highest
        taken.add(found)
        return found

    def numbered(items: Sequence[T]) -> Spool[T]:
        numbers = [number(one) for one in items]
        order: Callable[[int], int] = numbers.__getitem__
        return Spool(replace(items[i], row=numbers[i]) for i in sorted(range(len(numbers)), key=order))

    return Manifest(manifest.uri, numbered(manifest.clips), numbered(manifest.rejected))


def _given(one: Clip | Rejected) -> int:
    """The number that a row had before; 0 if it says none."""
    value: Any = (one.extra if isinstance(one, Clip) else one.values).get("row")
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
