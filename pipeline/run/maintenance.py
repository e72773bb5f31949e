"""Clean up after dead attempts in an output folder, and rebuild the table from the ledger. Runs without Ray."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.common.errors import CODES, RefusedError
from pipeline.common.interruptions import held
from pipeline.ledger.clip_row import plan_mark
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.done_record import record_of, split_stem, stem_of, stem_of_video, video_name
from pipeline.ledger.ledger import MOTION, Ledger
from pipeline.ledger.table import TABLE, TAKES, RowSpool, failed_rows, table_rows, write_table
from pipeline.ledger.table_csv import write_csv
from pipeline.qc.retakes import Takes
from pipeline.qc.stage import with_metrics
from pipeline.run.done_before import rows_in_tables
from pipeline.run.notify import EVENTS
from pipeline.run.plan import MISSING, planned, plans
from pipeline.run.programmes import begun_otherwise
from pipeline.run.summary import SUMMARY
from pipeline.storage.objects import NO_FILE, check_folder, list_folder, list_sizes
from pipeline.storage.records import Damaged, DamagedError, read_json
from pipeline.storage.run_lock import RunLock
from pipeline.storage.set_aside import clear_way, set_aside, shortened
from pipeline.storage.uris import is_local, join, shown

logger = logging.getLogger(__name__)

_OURS = re.compile(r"\.[0-9a-f]{12}(-\d+)?\.(json|jpg)$")
"""How the names of a clip's files end (`pipeline.ledger.ledger`): other files in the folders are somebody else's."""


_OUR_FILES = re.compile(r"(summary\..*json|failed\..*jsonl|(plan|clips)\..*parquet)")


@dataclass(frozen=True)
class Leftover:
    """A file that nothing needs."""

    uri: str
    why: str
    """orphan: no finished clip has this video; part: a half-written file; attempt: of a finished clip; version: of
    settings that the last plan does not have any more; broken: the clip is marked as done, but its video is missing or
    not what its row says; damaged: a file that cannot be read; figures: quality control results of a clip that is not
    done.
    """

    @property
    def is_lost(self) -> bool:
        """Whether the file was of use until something happened to it: it is moved aside, and not removed."""
        return self.why in ("broken", "damaged")


def check_is_output(output: str) -> None:
    """Raise RefusedError unless a run has left something in the folder, and StorageError."""
    check_folder(output, "output")
    files = {name for name, _ in list_sizes(output)}
    done = (split_stem(name.removesuffix(".json")) for name in list_folder(join(output, "done")))
    videos = (stem_of_video(name) for name in list_folder(join(output, "videos")))
    others = _is_of_another_job(output)
    if not ((any(map(_OUR_FILES.fullmatch, files)) and not others) or any(done) or any(videos)):
        why = ": the folder does not exist" if is_local(output) and not os.path.isdir(output) else ""
        why = f": its {SUMMARY} is that of another job" if others else why
        raise RefusedError(f"output: {shown(output)} contains no run{why}; give the output folder of a render job")


def _is_of_another_job(output: str) -> bool:
    """Whether summary.json was written by jobs.prepare or jobs.train; a damaged one does not say."""
    summary = read_json(join(output, SUMMARY))
    return isinstance(summary, dict) and "manifest" not in summary and not summary.keys().isdisjoint(("stage", "steps"))


@contextmanager
def all_locks(output: str, run: str) -> Iterator[None]:
    """Lock the output and each shard for which a run has left a lock. Raises LockedError if a run is active."""
    names = {"run.lock"} | {n for n in list_folder(output) if n.startswith("run.") and n.endswith(".lock")}
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(RunLock(output, run, name))
        yield


def leftovers(ledger: Ledger, *, versions: bool = False, verify: bool = False) -> Iterator[Leftover]:
    """Files that can be removed, in an order in which it is safe to remove them one by one. No run may be active.

    With `versions`, this includes clips that are done with settings or inputs that differ from the last plan. Clips
    that no plan contains are kept, because a manifest may be one of several. Reads every row of the ledger once; with
    `verify` also every video, and what quality control has measured. Raises DamagedError if there are `versions` but
    no readable plan.
    """
    output = ledger.output
    for folder in ("videos", "done", "attempts", "qc", MOTION, EVENTS):
        for name in list_folder(join(output, folder)):
            if name.startswith(".") and name.endswith(".part"):
                yield Leftover(join(output, folder, name), "part")
    keys = (
        (key, "")
        for clip_id, _, mark in planned(output)
        for key in (f"{shortened(clip_id)}/{mark}", shortened(clip_id))
    )
    wanted = DiskDict(keys if versions else ())
    videos = dict(ledger.videos())
    done, kept = set(), set()
    planned_now: set[str] = set()
    """Clips of programmes of which the planned version is done."""
    others: list[ClipRow] = []
    """Rows of programmes with other fingerprints than were planned."""
    for (clip_id, mark), row in _rows(ledger):
        uri, stem = ledger.done_uri(clip_id, mark), f"{clip_id}.{mark}"
        if isinstance(row, Damaged):
            yield Leftover(uri, "damaged")
            continue
        name = video_name(row)
        if _is_broken(ledger, row, videos.get(name), verify=verify):
            yield Leftover(uri, "broken")
        elif clip_id in wanted and f"{clip_id}/{plan_mark(mark)}" not in wanted:
            if row.get("programme"):
                others.append(row)
            else:
                yield Leftover(uri, "version")  # comes before its video: a clip that is marked as done has a video
        else:
            if row.get("programme"):
                planned_now.add(clip_id)
            done.add(stem)
            kept.add(name)
            if verify:
                yield from (Leftover(found.uri, "damaged") for found in ledger.damaged_measurements(clip_id, mark))
    stand_in = begun_otherwise(others)
    for row in others:
        stem, clip_id = stem_of(row["clip_id"], row["fingerprint"]), shortened(row["clip_id"])
        if stem in stand_in and clip_id not in planned_now:
            done.add(stem)
            kept.add(video_name(row))
        else:
            yield Leftover(ledger.done_uri(row["clip_id"], row["fingerprint"]), "version")
    for name in sorted(videos.keys() - kept):
        if videos[name] != NO_FILE and stem_of_video(name):
            yield Leftover(join(output, "videos", name), "orphan")
    for name in list_folder(join(output, "qc")):
        if name.rpartition(".")[0] not in done and _OURS.search(name):
            yield Leftover(join(output, "qc", name), "figures")
    for stem in sorted(ledger.motions() - done):
        clip_id, _, mark = stem.rpartition(".")
        if split_stem(stem):
            yield Leftover(ledger.motion_uri(clip_id, mark), "orphan")
    for _, note in ledger.notes():
        if isinstance(note, Damaged):
            yield Leftover(note.uri, "damaged")
    for stem, uri in ledger.attempts():
        if stem in done:
            yield Leftover(uri, "attempt")


def _rows(ledger: Ledger) -> Iterator[tuple[tuple[str, str], ClipRow | Damaged]]:
    """(clip_id, possibly shortened, fingerprint) and row of everything in done/ that has the name of a row."""
    names = (name.removesuffix(".json") for name, _ in ledger.listed() if name.endswith(".json"))
    for key, row in mapped(lambda key: ledger.look(*key), filter(None, map(split_stem, names))):
        if row is not None:
            yield key, row


def _is_broken(ledger: Ledger, row: ClipRow, size: int | None, *, verify: bool) -> bool:
    """Whether a row's video, of which there are `size` bytes, is missing or not what the row says."""
    if not size or size == NO_FILE or row.get("bytes") not in (None, size):
        return True
    return verify and row.get("sha256") not in (None, ledger.video_hash(video_name(row)))


def rebuild_table(ledger: Ledger, takes: Takes) -> tuple[str, int]:
    """Rebuild clips.parquet from the ledger and the last plan, with all shards in one; returns (its URI, clips done).

    There is one row per planned clip, from its best take. Clips that are not done come from failed.jsonl; those that
    are not in it either are `lost`. Without a plan, the newest version of every finished clip is used. A damaged row of
    the ledger is moved aside, and written again if a table has it. The log names what is damaged.
    """
    output = ledger.output
    plan = _plan(output)
    known = {clip_id for clip_id, _ in plan.numbers}
    versions: Spool[ClipRow] = Spool()
    unplanned: list[ClipRow] = []
    found: dict[str, dict[str, list[tuple[float, int]]]] = {}
    """Clip -> planned fingerprint -> when each take was committed, and its position among all rows."""
    for row in _whole_rows(ledger):
        clip_id, base = row["clip_id"], plan_mark(row["fingerprint"])
        if (clip_id, base) in plan.numbers or (not (plan.whole and plan.numbers) and clip_id not in known):
            found.setdefault(clip_id, {}).setdefault(base, []).append((row["committed"], len(versions)))
            versions.append(row | {"row": plan.numbers.get((clip_id, base), row["row"])})
        elif row.get("programme"):
            unplanned.append(row)
    stand_in, numbers = begun_otherwise(unplanned), {clip_id: number for (clip_id, _), number in plan.numbers.items()}
    planned_now = set(found)
    for row in unplanned:
        clip_id, base = row["clip_id"], plan_mark(row["fingerprint"])
        if clip_id not in planned_now and stem_of(clip_id, row["fingerprint"]) in stand_in:
            found.setdefault(clip_id, {}).setdefault(base, []).append((row["committed"], len(versions)))
            versions.append(row | {"row": numbers.get(clip_id, row["row"])})
    rows = RowSpool()
    for marks in found.values():
        newest = max(marks.values(), key=max)
        for _, i in newest:
            row = versions[i]
            measured = ledger.read_qc(row["clip_id"], row["fingerprint"])
            takes.hold(row if measured is None else with_metrics(row, measured))
        for row in takes.rest():
            rows.add(row)
    others = _not_done(output)
    for (clip_id, mark), number in plan.numbers.items():
        if clip_id not in found and number not in rows:
            other = others.get(number)  # numbers refer to the manifest of that time: its rows may have moved
            rows.add(other if other and other["clip_id"] == clip_id else _lost(clip_id, number, mark))
    for number, row in others.items():  # rejected rows of the manifest are in no plan
        if number not in rows and row["status"] == "rejected":
            rows.add(row)
    with held():
        for name in (TABLE, TAKES):
            clear_way(join(output, name), output)
        if len(takes.story):
            write_table(RowSpool(takes.story), output, name=TAKES)
        table = write_table(rows, output)
        write_csv(table)
        return table, len(found)


@dataclass(frozen=True)
class _Plan:
    """The last plan, over all its shards."""

    numbers: dict[tuple[str, str], int]
    """Row number by clip_id and fingerprint."""
    whole: bool
    """Whether no shard of it is damaged."""


def _plan(output: str) -> _Plan:
    numbers, whole = {}, True
    for name in plans(output):
        try:
            numbers.update({(clip_id, mark): row for clip_id, row, mark in planned(output, name)})
        except DamagedError as error:
            logger.warning("%s: it counts as absent", error.found)
            whole = False
    return _Plan(numbers, whole)


def _whole_rows(ledger: Ledger) -> Iterator[ClipRow]:
    """Rows of the ledger; those that are damaged are restored from the tables where a video has what they say."""
    damaged: set[str] = set()
    for (clip_id, mark), row in _rows(ledger):
        if isinstance(row, Damaged):
            damaged.add(f"{clip_id}.{mark}")
            logger.warning("%s: moved to %s", row, shown(set_aside(row.uri, ledger.output)))
        else:
            yield row
    if not damaged:
        return
    sizes = dict(ledger.videos())
    tables = [n for n in list_folder(ledger.output) if n.startswith(("clips.", "takes.")) and n.endswith(".parquet")]
    for row in rows_in_tables(ledger.output, tables):
        stem = stem_of(row["clip_id"], row["fingerprint"])
        if stem in damaged and not _is_broken(ledger, row, sizes.get(video_name(row)), verify=True):
            damaged.discard(stem)
            ledger.restore(record_of(row))
            yield row
    for stem in sorted(damaged):
        logger.warning("%s is not done any more: the next run renders it again", shown(stem))


def _not_done(output: str) -> dict[int, ClipRow]:
    """Rows by number that are not done, from each table and its failed.jsonl, one of which may be damaged."""
    found: dict[int, ClipRow] = {}
    names = sorted(name for name, _ in list_sizes(output))
    tables = [name for name in names if name.startswith("clips.") and name.endswith(".parquet")]
    lists = [name for name in names if name.startswith("failed.") and name.endswith(".jsonl")]
    for name in (*tables, *lists):  # a list has the values as the manifest gives them
        read = failed_rows if name in lists else table_rows
        try:
            found.update({row["row"]: row for row in read(join(output, name)) if row["status"] != "done"})
        except DamagedError as error:
            logger.warning("%s: it counts as absent", error.found)
    return found


def _lost(clip_id: str, number: int, mark: str) -> ClipRow:
    lost = {"status": CODES["lost"][0], "error_code": "lost", "error_message": MISSING["lost"]}
    return extended({"clip_id": clip_id, "row": number, "fingerprint": mark}, lost)
