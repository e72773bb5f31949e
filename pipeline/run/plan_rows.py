"""The plan of some rows of a manifest: they are checked, and their clips identified and fingerprinted.

For a long manifest this is done beside the data, in tasks on the cluster (`pipeline.cluster.manifest_data`). The driver
gets the clips for its disk and a fingerprint for each, and does what needs all rows: it counts them, finds repeated
clip_ids, and compares the fingerprints with what is done.
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pipeline.cluster.executor import Executor
from pipeline.common.disk_collections import Spool, mapped
from pipeline.common.limits import Limits
from pipeline.manifest.clip import COLUMNS, Clip, Wanted
from pipeline.manifest.noticed import Notices
from pipeline.manifest.reader import Checked, Manifest, check_rows, manifest_of
from pipeline.manifest.rows import Parser, Row
from pipeline.run.fingerprint import Parts, clip_parts, fingerprint, identify, joined, sounds_of
from pipeline.run.lengths import seconds_of
from pipeline.run.selection import Earlier, Selection
from pipeline.storage.uris import parent

PORTRAITS = 10_000
"""Number of shared inputs whose identity is kept."""

THREADS = 16
"""Number of requests to the storage that one task waits for at a time."""


@dataclass(frozen=True)
class Identity:
    """What the plan must know of a clip's inputs and settings."""

    fingerprint: str
    parts: str
    """The parts of the fingerprint as JSON, except for those that the whole job shares."""
    seconds: float
    """Length of the clip, which is estimated if it has no slot."""


Chosen = tuple[int, Clip]
"""A clip that the run takes, and its position among the manifest's clips."""


class Identifier:
    """Asks the storage for the inputs of clips; for several threads at a time."""

    def __init__(self, limits: Limits, job: Parts) -> None:
        self._limits, self._job = limits, job
        self._shared = lru_cache(maxsize=PORTRAITS)(lambda uri: identify(uri, limits))  # many clips share a portrait

    def __call__(self, clip: Clip) -> Identity:
        """Raises StorageError if the storage does not answer."""
        image, (audio, *others) = self._shared(clip.image), sounds_of(clip, self._limits)
        pose = None if clip.pose is None else self._shared(clip.pose)
        tracks = [self._shared(track.uri) for track in clip.audio_tracks]
        own = clip_parts(clip, image, audio, {}, pose, tracks, others)
        seconds = seconds_of(clip, audio.size, *(sound.size for sound in others))
        return Identity(fingerprint(joined(own, self._job)), json.dumps(own), seconds)

    def of(
        self, chosen: Iterable[Chosen], threads: int, known: Mapping[int, Identity] | None = None
    ) -> Iterator[tuple[Chosen, Identity]]:
        """Each clip with its identity, in order; those of `known` rows are taken from there. Threads, because each
        request waits for the storage.
        """
        known = known or {}
        return mapped(lambda one: known.get(one[1].row) or self(one[1]), chosen, threads)


class Identities:
    """Identities of a manifest's clips by row number, on this machine's disk, with 16 bytes of memory each."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._items: Spool[Identity] = Spool()

    def add(self, row: int, identity: Identity) -> None:
        """Add the identity of a row; call this in the order of rows."""
        self._rows.append(row)
        self._items.append(identity)

    def of(
        self, chosen: Iterable[Chosen], known: Mapping[int, Identity] | None = None
    ) -> Iterator[tuple[Chosen, Identity]]:
        """Each clip with its identity, or that which is `known` of its row; the clips are in the order of rows."""
        i, known = 0, known or {}
        for position, clip in chosen:
            if (identity := known.get(clip.row)) is None:  # a clip that fills a gap is always known
                while self._rows[i] < clip.row:
                    i += 1
                assert self._rows[i] == clip.row
                identity = self._items[i]
            yield (position, clip), identity


# --- Beside the data -------------------------------------------------------------------------------------------


@dataclass
class PlannedRows:
    """What `RowPlanner` makes of some rows, which it numbers from 1."""

    count: int
    columns: set[str]
    clips: list[Clip]
    identities: list[Identity | None]
    """One per clip; None for a clip that the run does not take, unless it is in a programme."""
    refused: list[Row]
    """The rows that are rejected. The driver checks these again to learn why, because the message names the row's
    number in the manifest.
    """
    notices: Notices


@dataclass(frozen=True)
class RowPlanner:
    """Checks and identifies some rows of a manifest. Small enough to be sent to every worker."""

    uri: str
    wanted: Wanted
    limits: Limits
    job: Parts
    selection: Selection
    statuses: dict[str, Earlier] = field(default_factory=dict)
    plan: str = ""
    """Name of this plan. A worker keeps the identities of portraits for one plan and not longer."""

    def __call__(self, raw: list[Any]) -> PlannedRows:
        """Raises StorageError if the storage does not answer."""
        rows = list(map(Parser(COLUMNS), range(1, len(raw) + 1), raw))
        checked = check_rows(rows, parent(self.uri), self.wanted)
        chosen = [
            (i, clip)
            for i, clip in enumerate(checked.clips)
            if clip.programme is not None or self.selection.takes(clip, self.statuses)
        ]
        identities: list[Identity | None] = [None] * len(checked.clips)
        for (i, _), identity in _identifier(self).of(chosen, THREADS):
            identities[i] = identity
        numbers = {rejected.row for rejected in checked.rejected}
        refused = [row for row in rows if row.number in numbers]
        return PlannedRows(len(rows), checked.columns, checked.clips, identities, refused, checked.notices)


_identifiers: dict[str, Identifier] = {}
"""Of the last plan for which this process has worked."""


def _identifier(planner: RowPlanner) -> Identifier:
    if planner.plan not in _identifiers:
        _identifiers.clear()
        _identifiers[planner.plan] = Identifier(planner.limits, planner.job)
    return _identifiers[planner.plan]


# --- On the driver ---------------------------------------------------------------------------------------------


def planned_manifest(
    planner: RowPlanner, executor: Executor, on_row: Callable[[], object] = lambda: None
) -> tuple[Manifest, Identities]:
    """The manifest and the identities of the clips that the run takes, with the work in the executor's tasks.

    Raises ManifestError and StorageError.
    """
    identities = Identities()

    def parts() -> Iterator[Checked]:
        before = 0
        for planned in executor.map_rows(planner.uri, planner, planner.limits.max_rows):
            refused = (replace(row, number=before + row.number) for row in planned.refused)
            part = check_rows(refused, parent(planner.uri), planner.wanted)
            part.columns, part.notices = planned.columns, Notices()
            part.notices.merge(planned.notices, before)
            part.clips = [replace(clip, row=before + clip.row) for clip in planned.clips]
            for clip, identity in zip(part.clips, planned.identities, strict=True):
                if identity is not None:
                    identities.add(clip.row, identity)
            for _ in range(planned.count):
                on_row()
            before += planned.count
            yield part

    return manifest_of(planner.uri, parts(), whole=True), identities
