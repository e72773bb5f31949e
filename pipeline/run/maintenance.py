"""Clean up after dead attempts in an output folder, and rebuild the table from the ledger. Runs without Ray."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.common.errors import CODES, RefusedError
from pipeline.ledger.clip_row import plan_mark
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import RowSpool, failed_rows, write_table
from pipeline.qc.retakes import Takes
from pipeline.qc.stage import with_metrics
from pipeline.run.plan import MISSING, planned
from pipeline.run.tables import TAKES
from pipeline.storage.objects import check_folder, is_local, join, list_folder
from pipeline.storage.run_lock import RunLock
from pipeline.storage.uris import shown

_OURS = re.compile(r"\.[0-9a-f]{12}(-\d+)?(\.[0-9a-f]{6})?\.(mp4|json|jpg)$")
"""How the names of a clip's files end (`pipeline.ledger.ledger`): other files in the folders are somebody else's."""


@dataclass(frozen=True)
class Leftover:
    """A file that nothing needs."""

    uri: str
    why: str
    """orphan: no finished clip has this video; part: a half-written file; attempt: of a finished clip; version: of
    settings that the last plan does not have any more; broken: the clip is marked as done, but its video is missing;
    figures: quality control results of a clip that is not done.
    """


def check_is_output(output: str) -> None:
    """Raise RefusedError unless a run has left something in the folder, and StorageError."""
    check_folder(output, "output")
    files = (name.partition(".")[0] for name in list_folder(output))
    folders = (True for folder in ("done", "videos") for _ in list_folder(join(output, folder)))
    if not any(name in ("summary", "plan", "failed", "clips") for name in files) and not any(folders):
        there = "" if not is_local(output) or os.path.isdir(output) else ": the folder does not exist"
        raise RefusedError(f"output: {shown(output)} contains no run{there}; give the output folder of a render job")


@contextmanager
def all_locks(output: str, run: str) -> Iterator[None]:
    """Lock the output and each shard for which a run has left a lock. Raises LockedError if a run is active."""
    names = {"run.lock"} | {n for n in list_folder(output) if n.startswith("run.") and n.endswith(".lock")}
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(RunLock(output, run, name))
        yield


def leftovers(ledger: Ledger, *, versions: bool = False) -> Iterator[Leftover]:
    """Files that can be removed, in an order in which it is safe to remove them one by one. No run may be active.

    With `versions`, this includes clips that are done with settings or inputs that differ from the last plan. Clips
    that no plan contains are kept, because a manifest may be one of several. Reads every row of the ledger once.
    """
    output = ledger.output
    for folder in ("videos", "done", "attempts", "qc"):
        for name in list_folder(join(output, folder)):
            if name.startswith(".") and name.endswith(".part"):
                yield Leftover(join(output, folder, name), "part")
    keys = ((key, "") for clip_id, _, mark in planned(output) for key in (f"{clip_id}/{mark}", clip_id))
    wanted = DiskDict(keys if versions else ())
    videos = set(list_folder(join(output, "videos")))
    done, kept = set(), set()
    for (clip_id, mark), row in mapped(lambda key: ledger.read(*key), ledger.done()):
        name = str(row and row["uri"]).rsplit("/", 1)[-1]
        if name not in videos:
            yield Leftover(ledger.done_uri(clip_id, mark), "broken")
        elif clip_id in wanted and f"{clip_id}/{plan_mark(mark)}" not in wanted:
            yield Leftover(
                ledger.done_uri(clip_id, mark), "version"
            )  # comes before its video: a clip that is marked as done has a video
        else:
            done.add((clip_id, mark))
            kept.add(name)
    for name in sorted(videos - kept):
        if name.endswith(".mp4") and _OURS.search(name):
            yield Leftover(join(output, "videos", name), "orphan")
    measured = {f"{clip_id}.{mark}" for clip_id, mark in done}
    for name in list_folder(join(output, "qc")):
        if name.rpartition(".")[0] not in measured and _OURS.search(name):
            yield Leftover(join(output, "qc", name), "figures")
    for clip_id, mark, uri in ledger.attempts():
        if (clip_id, mark) in done:
            yield Leftover(uri, "attempt")


def rebuild_table(ledger: Ledger, takes: Takes) -> tuple[str, int]:
    """Rebuild clips.parquet from the ledger and the last plan, with all shards in one; returns (its URI, clips done).

    There is one row per planned clip, from its best take. Clips that are not done come from failed.jsonl; those that
    are not in it either are `lost`. Without a plan, the newest version of every finished clip is used.
    """
    plan = {(clip_id, mark): row for clip_id, row, mark in planned(ledger.output)}
    versions: Spool[ClipRow] = Spool()
    found: dict[str, dict[str, list[tuple[float, int]]]] = {}
    """Clip -> planned fingerprint -> when each take was committed, and its position among all rows."""
    for (clip_id, mark), row in mapped(lambda key: ledger.read(*key), ledger.done()):
        base = plan_mark(mark)
        if row is not None and (not plan or (clip_id, base) in plan):
            found.setdefault(clip_id, {}).setdefault(base, []).append((row["committed"], len(versions)))
            versions.append(row | {"row": plan.get((clip_id, base), row["row"])})
    rows = RowSpool()
    for marks in found.values():
        newest = max(marks.values(), key=max)
        for _, i in newest:
            row = versions[i]
            known = ledger.read_qc(row["clip_id"], row["fingerprint"])
            takes.hold(row if known is None else with_metrics(row, known))
        for row in takes.rest():
            rows.add(row)
    others = _not_done(ledger.output)
    for (clip_id, mark), number in plan.items():
        if clip_id not in found and number not in rows:
            other = others.get(number)  # numbers refer to the manifest of that time: its rows may have moved
            rows.add(other if other and other["clip_id"] == clip_id else _lost(clip_id, number, mark))
    for number, row in others.items():  # rejected rows of the manifest are in no plan
        if number not in rows and row["status"] == "rejected":
            rows.add(row)
    if len(takes.story):
        write_table(RowSpool(takes.story), ledger.output, name=TAKES)
    return write_table(rows, ledger.output), len(found)


def _not_done(output: str) -> dict[int, ClipRow]:
    found: dict[int, ClipRow] = {}
    for name in list_folder(output):
        if name.startswith("failed.") and name.endswith(".jsonl"):
            found.update({row["row"]: row for row in failed_rows(join(output, name))})
    return found


def _lost(clip_id: str, number: int, mark: str) -> ClipRow:
    lost = {"status": CODES["lost"][0], "error_code": "lost", "error_message": MISSING["lost"]}
    return extended({"clip_id": clip_id, "row": number, "fingerprint": mark}, lost)
