"""The plan: which clips must be rendered, and which are done already."""

import json
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.disk_collections import REQUESTS, DiskDict, Spool, batched
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.done_record import stem_of
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import TABLE, TAKES
from pipeline.manifest.clip import Clip
from pipeline.run.done_before import DoneBefore
from pipeline.run.fingerprint import Parts, joined
from pipeline.run.plan_rows import Identifier, Identities
from pipeline.run.planned_clips import PlannedClips
from pipeline.run.programmes import Programmes
from pipeline.run.selection import Earlier, Selection
from pipeline.storage.findings import finding_of
from pipeline.storage.objects import filesystem, list_folder, put_file
from pipeline.storage.records import Damaged, DamagedError, reading
from pipeline.storage.uris import join, shown

GROUP = 2_000
"""Number of rows in memory at a time."""

PLAN = "plan.parquet"
"""The plan of the last run: clip_id, row, fingerprint and the parts of the fingerprint as JSON."""


@dataclass
class Plan:
    """What to do with each clip that a run takes. All of them have fingerprints."""

    todo: PlannedClips = field(default_factory=PlannedClips)
    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    """Estimated length of each clip in `todo`."""
    done: PlannedClips = field(default_factory=PlannedClips)
    takes: "array[int]" = field(default_factory=lambda: array("I"))
    """Number of takes of each clip in `done` (pipeline.qc.retakes)."""
    quarantined: PlannedClips = field(default_factory=PlannedClips)
    left: int = 0
    """Number of clips beyond `limit`."""
    unchanged: int = 0
    """Number of clips that were rejected in the last run, and that only=failed leaves out because nothing changed."""
    changed: Counter[str] = field(default_factory=Counter)
    """For clips in `todo` that were done with other settings: how many changed in which part."""
    changed_clips: int = 0
    before: DoneBefore | None = None
    """What was done before the run, and what was damaged."""
    programmes: Programmes = field(default_factory=Programmes)
    parts: Spool[dict[str, Any]] = field(default_factory=Spool)
    """clip_id, row, fingerprint and, as JSON, the parts of the fingerprint except for those that the whole job shares.
    """

    def __len__(self) -> int:
        return len(self.todo) + len(self.done) + len(self.quarantined)

    @property
    def clips(self) -> Iterator[Clip]:
        """All clips that must end with a status."""
        return chain(self.todo, self.done, self.quarantined)

    def clip(self, row: int) -> Clip:
        """The clip in `todo` or `done` with this row number in the manifest."""
        for clips in (self.todo, self.done):
            i = bisect_left(clips.rows, row)
            if i < len(clips) and clips.rows[i] == row:
                return clips[i]
        raise KeyError(f"row {row} is not in the plan")

    def length_of(self, row: ClipRow) -> float:
        """Estimated seconds of a clip in `todo`, or 0 for other clips."""
        i = bisect_left(self.todo.rows, row["row"])
        return self.seconds[i] if i < len(self.todo) and self.todo.rows[i] == row["row"] else 0.0

    def describe(self) -> str:
        """One or two lines for the user."""
        new = len(self.todo) - self.changed_clips
        parts = [f"{new} new", f"{self.changed_clips} changed", f"{len(self.done)} done before"]
        if self.quarantined:
            parts.append(f"{len(self.quarantined)} quarantined (only=quarantined tries them again)")
        if self.unchanged:
            parts.append(f"{self.unchanged} rejected before and not changed since (only=rejected tries them again)")
        if self.left:
            parts.append(f"{self.left} left out by limit")
        text = f"plan: {', '.join(parts)}; to render: an estimated {sum(self.seconds) / 60:.1f} minutes of audio"
        if self.changed:
            text += "\n      changed: " + ", ".join(f"{name} x {n}" for name, n in self.changed.most_common())
        return text


def make_plan(
    clips: Sequence[Clip],
    ledger: Ledger,
    job: Parts,
    limits: Limits,
    selection: Selection,
    statuses: dict[str, Earlier],
    *,
    identities: Identities | None = None,
    programmes: Programmes | None = None,
    threads: int = REQUESTS,
    on_clip: Callable[[], object] = lambda: None,
    measured: bool = False,
) -> Plan:
    """Compare the clips with what is done, with one listing of the ledger and one of the videos.

    What is damaged is in `Plan.before`; with `measured`, also what quality control has left.

    Without `identities`, there is one request per input file. Needs about 100 bytes of memory per clip, of which the
    returned plan keeps 30. Raises SelectionError and StorageError.
    """
    done = DoneBefore(ledger, (selection.name(TABLE), selection.name(TAKES)))
    before = cache(
        lambda: DiskDict(_last_parts(ledger.output, selection.name(PLAN)))
    )  # not read if nothing has changed
    quarantined = set() if selection.forgives else _quarantined(ledger, done)
    programmes = programmes or Programmes()
    identify = partial(Identifier(limits, job).of, threads=threads) if identities is None else identities.of
    linked = programmes.identities(identify) if programmes else {}
    todo, finished, left = (PlannedClips(clips, programmes.places) for _ in range(3))
    plan = Plan(before=done, todo=todo, done=finished, quarantined=left, programmes=programmes)
    identified = identify(selection.of(clips, statuses), known=linked)
    for (position, clip), identity, takes in done.of(identified, measured=measured):
        mark = identity.fingerprint
        if selection.is_unchanged(statuses.get(clip.clip_id), mark):
            plan.unchanged += 1
            on_clip()
            continue
        plan.parts.append({"clip_id": clip.clip_id, "row": clip.row, "fingerprint": mark, "parts": identity.parts})
        on_clip()
        if takes:
            plan.done.add(position, clip.row, mark)
            plan.takes.append(takes)
        elif stem_of(clip.clip_id, mark) in quarantined:
            plan.quarantined.add(position, clip.row, mark)
        elif selection.limit and len(plan.todo) >= selection.limit:
            plan.left += 1
        else:
            plan.todo.add(position, clip.row, mark)
            plan.seconds.append(identity.seconds)
            if done.has_another(clip, mark):
                plan.changed_clips += 1
                own, old = json.loads(identity.parts), json.loads(before().get(clip.clip_id) or "{}")
                plan.changed.update(name for name, value in joined(own, job).items() if old and old.get(name) != value)
    if programmes and plan.todo and plan.done:
        _redo(plan, ledger)
    return plan


def _redo(plan: Plan, ledger: Ledger) -> None:
    """Plan rows of programmes again whose last motion is lost, if it is needed."""
    states = ledger.motions()
    rows = plan.programmes.to_redo(plan.done.has, plan.todo.has, lambda clip_id, mark: stem_of(clip_id, mark) in states)
    if not rows:
        return
    lengths = dict(zip(plan.todo.rows, plan.seconds, strict=True))
    plan.done, plan.todo, gone = plan.done.moved(plan.todo, rows)
    plan.takes = array("I", (takes for i, takes in enumerate(plan.takes) if i not in set(gone)))
    plan.seconds = array("d", (lengths.get(row, 0.0) for row in plan.todo.rows))


def _quarantined(ledger: Ledger, done: DoneBefore) -> set[str]:
    """`stem_of` the clips that are left alone; a damaged note holds none of them."""
    found = set()
    for stem, note in ledger.notes():
        if isinstance(note, Damaged):
            clip_id = shown(stem.rpartition(".")[0])
            done.findings.append(finding_of(note, f"the clip {clip_id} is not in quarantine any more"))
        elif note and note.get("quarantined"):
            found.add(stem)
    return found


def _last_parts(output: str, name: str) -> Iterator[tuple[str, str]]:
    """`read_plan`; nothing if the plan is damaged."""
    with suppress(DamagedError):
        yield from read_plan(output, name)


# --- The plan on the storage -----------------------------------------------------------------------------------


def write_plan(plan: Plan, output: str, job: Parts, name: str = PLAN, ours: DiskDict | None = None) -> None:
    """Store the fingerprints and their parts, so that the next run can tell what has changed.

    If the run has planned only the clips `ours`, those of all others stay in the stored plan.
    """
    columns = ["clip_id", "fingerprint", "parts"]
    types: dict[str, pa.DataType] = {"row": pa.int64(), **dict.fromkeys(columns, pa.string())}
    schema = pa.schema(types, metadata={"job": json.dumps(job)})
    kept = () if ours is None else (row for row in _plan_rows(output, name)[1] if row["clip_id"] not in ours)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / name
        with pq.ParquetWriter(local, schema) as writer:
            for group in batched(chain(kept, plan.parts), GROUP):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        put_file(local, join(output, name))


def planned(output: str, *names: str) -> Iterator[tuple[str, int, str]]:
    """(clip_id, row, fingerprint) of the last plan, over these of its shards or all. Raises DamagedError."""
    for name in names or plans(output):
        for row in _plan_rows(output, name)[1]:
            yield row["clip_id"], row["row"], row["fingerprint"]


def plans(output: str) -> list[str]:
    """Names of the last plan's shards."""
    return sorted(name for name in list_folder(output) if name.startswith("plan.") and name.endswith(".parquet"))


def read_plan(output: str, name: str = PLAN) -> Iterator[tuple[str, str]]:
    """(clip_id, parts of its fingerprint as JSON) of the last plan; empty if there is none. Raises DamagedError."""
    job, rows = _plan_rows(output, name)
    for row in rows:
        yield row["clip_id"], json.dumps(joined(json.loads(row["parts"]), job))


def _plan_rows(output: str, name: str) -> tuple[Parts, Iterator[dict[str, Any]]]:
    """(parts that all clips share, rows) of a stored plan; both are empty if there is none. Raises DamagedError."""
    uri = join(output, name)
    fs, path = filesystem(uri)
    try:
        with reading(uri, "a plan"), fs.open(path, "rb") as file:
            schema = pq.read_schema(file)
            job = json.loads((schema.metadata or {}).get(b"job", b"{}"))
            if missing := {"clip_id", "row", "fingerprint", "parts"} - set(schema.names):
                raise ValueError(f"it has no {missing}")
    except FileNotFoundError:
        return {}, iter(())

    def rows() -> Iterator[dict[str, Any]]:
        with reading(uri, "a plan"), fs.open(path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(GROUP):
                yield from batch.to_pylist()

    return job, rows()


# --- Clips without a row ---------------------------------------------------------------------------------------

MISSING = {
    "lost": "no worker reported on this clip, because its worker died or the cluster failed: run the job again",
    "interrupted": "the job was stopped before this clip was done: run the job again",
    "stopped": "the job stopped early because too many clips failed: find out why, and run it again",
}


def reconcile(clips: Iterable[Clip], reported: Container[int], code: str = "lost") -> Iterator[ClipRow]:
    """Rows for the planned clips that have none; `reported` are the manifest rows that have one."""
    # Compared by row and not by clip_id, which a rejected row may share with a clip.
    for clip in clips:
        if clip.row not in reported:
            yield error_row(clip, ClipError(code, MISSING[code]))
