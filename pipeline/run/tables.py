"""The files that a run leaves at its end.

clips.parquet   one row per clip, from the ledger and this run; short ones also as clips.csv
takes.parquet   every take of the clips that have more than one
failed.jsonl    the rows that are not done, as a manifest that can be rendered again
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.common.disk_collections import DiskDict, mapped
from pipeline.common.errors import ClipError
from pipeline.common.redaction import redacted_value
from pipeline.ledger.columns import ClipRow, extended, values_of
from pipeline.ledger.done_record import stem_of
from pipeline.ledger.table import TABLE, TAKES, RowSpool, table_rows, write_table
from pipeline.ledger.table_csv import write_csv
from pipeline.manifest.delivery import with_places
from pipeline.manifest.requests import WANTED, given_emotion
from pipeline.run.lost_videos import LostVideos
from pipeline.run.plan import reconcile
from pipeline.run.run import FAILED, Run
from pipeline.storage.objects import put_file
from pipeline.storage.uris import join, parent, resolve


def write_tables(run: Run, missing: str = "lost") -> str:
    """Give every planned clip its one row, and write the tables and failed.jsonl; returns the URI of clips.parquet.

    `missing` is the code of clips without a row (`plan.MISSING`). Clips that a worker committed but could not report
    any more are done nevertheless.
    """
    run.rendering_ends()
    _add_silent(run)
    for row in reconcile(run.plan.clips, run.rows, missing):
        run.add(row)
    lost = LostVideos(run)
    lost.take_back()
    if run.selection.is_part or run.continues:
        _keep_others(run, lost)
    table = write_table(run.rows, run.output, name=run.selection.name(TABLE))
    write_csv(table)
    _write_takes(run)
    _write_failed(run)
    return table


def _add_silent(run: Run) -> None:
    """Rows of clips that are done, but were not reported by a worker or not judged by quality control."""
    for row in run.unjudged:
        if row["row"] not in run.rows:
            run.takes.hold(row)
    for row in run.takes.rest():
        if row["row"] not in run.rows:
            run.add(row)
    if len(run.rows) == len(run.plan) + len(run.manifest.rejected):
        return
    done = DiskDict((f"{clip_id}.{mark}", "") for clip_id, mark in run.ledger.done())
    silent = (clip for clip in run.plan.clips if clip.row not in run.rows)
    late = (clip for clip in silent if stem_of(clip.clip_id, clip.fingerprint) in done)
    for _, stored in mapped(run.stored, late):
        if stored is not None:
            run.tally.add_rendered(stored, run.plan.length_of(stored))
            run.takes.hold(stored)
    for row in run.takes.rest():
        run.add(row)


def _keep_others(run: Run, lost: LostVideos) -> None:
    """Rows of the last table for clips that this run did not take, or that its manifest leaves out if it continues."""
    ours = DiskDict((f"{clip.row}/{clip.clip_id}", "") for clip in run.manifest.clips)
    names = chain((c.clip_id for c in run.manifest.clips), (r.clip_id for r in run.manifest.rejected))
    named = DiskDict((name, "") for name in names)
    for row in table_rows(join(run.output, run.selection.name(TABLE))):
        left_out = run.continues and row["clip_id"] not in named
        not_taken = run.selection.is_part and f"{row['row']}/{row['clip_id']}" in ours
        if row["row"] not in run.rows and (left_out or not_taken):
            run.keep(lost.checked(row))


def _write_takes(run: Run) -> None:
    """All takes of clips that have more than one; clips that this run did not take keep their earlier rows."""
    name = run.selection.name(TAKES)
    rows = RowSpool(run.takes.story)
    kept = [row for row in table_rows(join(run.output, name)) if row["row"] not in rows]
    if run.selection.is_part or run.continues:
        for row in kept:
            rows.add(row)
    if len(rows) or kept:
        write_table(rows, run.output, name=name)


def _write_failed(run: Run) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, default=str) + "\n" for row in _renderable(run))
        file.flush()
        put_file(Path(file.name), join(run.output, run.selection.name(FAILED)))


def _renderable(run: Run) -> Iterator[ClipRow]:
    """Rows that are not done, in a form that is also a manifest.

    They contain the given values, including wrong ones, an emotion that can be read back, and under the manifest's
    names what else was asked for.
    """
    refused = {rejected.row: i for i, rejected in enumerate(run.manifest.rejected)}
    for row in run.rows:
        if row["status"] == "done":
            continue
        i = refused.get(row["row"])
        given: dict[str, Any] = {} if i is None else run.manifest.rejected[i].values
        values = with_places(redacted_value(given), lambda place: _resolved(run, place))
        known: dict[str, Any] = {name: value for name, value in values_of(row).items() if name not in WANTED.values()}
        if not given:
            values["emotion"] = given_emotion(row)
            values |= {name: values_of(row).get(wanted) for name, wanted in WANTED.items()}
        yield extended({}, known | values)


def _resolved(run: Run, place: str) -> str:
    with contextlib.suppress(ClipError):
        return resolve(parent(run.manifest.uri), place)
    return place
