"""One run of the job, from the plan to the files that it leaves. Runs without Ray: what renders is passed in.

clips.parquet   one row per clip, made from the ledger and this run
takes.parquet   every attempt of the clips that have more than one
failed.jsonl    the rows that are not done; a manifest that can be rendered again
summary.json    how it stands or ended, written anew every few seconds
plan.parquet    fingerprints and their parts, from which the next run says what changed
"""

import contextlib
import json
import logging
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.redaction import redacted_value
from pipeline.ledger.clip_row import RENDER_STEPS, StatusRow, clip_row, error_row, rejected_row, take_of
from pipeline.ledger.ledger import WORKER_DIED, Ledger
from pipeline.ledger.table import TABLE, RowSpool, failed_rows, table_rows, write_table
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Manifest
from pipeline.measure.metric import VERDICTS
from pipeline.qc.retakes import Takes, take_clip
from pipeline.qc.stage import with_figures
from pipeline.run.fingerprint import Parts
from pipeline.run.plan import PLAN, Plan, Selection, make_plan, reconcile, write_plan
from pipeline.storage.objects import join, parent, put_file, resolve, write_bytes

logger = logging.getLogger(__name__)

FAILED, SUMMARY, TAKES = "failed.jsonl", "summary.json", "takes.parquet"

EARLY = 20
"""Clips that must have ended before a share of failures stops the run."""


def new_run_id() -> str:
    """Unique, and sorted by time."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)


@dataclass
class Run:
    """State of a run; `summary` may be called from another thread."""

    ledger: Ledger
    manifest: Manifest
    selection: Selection
    limits: Limits
    job: Parts
    max_failed_share: float = 1.0
    takes: Takes = field(default_factory=Takes)
    qc_version: str = ""
    """Of the measurements that are wanted (`qc.stage.qc_version`); empty without quality control."""
    state: str = "planning"
    exit_code: int | None = None
    reason: str = ""
    plan: Plan = field(default_factory=Plan)
    render_workers: int = 0
    gpus_per_worker: float = 0.0
    unjudged: Spool[StatusRow] = field(default_factory=Spool)
    """Rows of clips that were done before and are to be measured."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Clips by the verdict of quality control."""
    reasons: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """Clips by status."""
    codes: Counter[str] = field(default_factory=Counter)
    rendered: Counter[str] = field(default_factory=Counter)
    """By this run: clips, further takes, frames, seconds of video and of each step."""
    _rows: RowSpool = field(default_factory=RowSpool)
    _started: float = field(default_factory=time.time)
    _rendering_since: float = 0.0
    _rendered_until: float = 0.0
    _finished: float = 0.0
    """Seconds of the clips of `plan.todo` that have ended, as estimated."""

    @property
    def output(self) -> str:
        """Folder of the run."""
        return self.ledger.output

    # --- Plan --------------------------------------------------------------------------------------------------

    def make_plan(self, on_clip: Callable[[], object] = lambda: None) -> Plan:
        """Compare the manifest with the ledger; tells of each clip. Raises SelectionError."""
        by_status = self.selection.only in ("failed", "quarantined")
        before = failed_rows(join(self.output, self.selection.name(FAILED))) if by_status else ()
        statuses = {row["clip_id"]: row["status"] for row in before}
        self.plan = make_plan(
            self.manifest.clips, self.ledger, self.job, self.limits, self.selection, statuses, on_clip=on_clip
        )
        return self.plan

    def seconds_a_second(self) -> float | None:
        """Time of a render worker per second of video, over the clips that are done here; None where there are none."""
        spent = video = 0.0
        for row in table_rows(join(self.output, self.selection.name(TABLE))):
            if row["status"] == "done":
                spent += sum(row.get(f"{step}_seconds") or 0.0 for step in RENDER_STEPS)
                video += row["duration"] or 0.0
        return spent / video if video else None

    def begin(self) -> None:
        """Keep the plan, let clips that were asked for be tried again, and account for what needs no rendering."""
        if not self.selection.only and not self.selection.limit:  # else it is not all that is wanted of this output
            write_plan(self.plan, self.output, self.job, self.selection.name(PLAN))
        if self.selection.forgives:
            for clip in self.plan.todo:
                self.ledger.forgive(clip)
        for rejected in self.manifest.rejected:
            self.add(rejected_row(rejected))
        for clip in self.plan.quarantined:
            message = WORKER_DIED.format(stage="an earlier run's", clip_id=clip.clip_id)
            self.add(error_row(clip, ClipError("worker_died", message)))
        for row in self._rows_done_before():
            if self.qc_version and row.get("qc_version") != self.qc_version:
                self.unjudged.append(row)
            elif (delivered := self.takes.add(row)) is not None:
                self.add(delivered)
        self._rendering_since = time.time()
        self.state = "rendering"
        self.write_summary()

    def _rows_done_before(self) -> Iterator[StatusRow]:
        """All takes of each clip: from the last table where it has them, else requests to the ledger."""
        clips, takes = self.plan.done, self.plan.takes
        for number, count in zip(clips.rows, takes, strict=True):
            if count > 1:
                self.takes.expect(number, count)
        wanted = DiskDict((f"{clip.clip_id}/{clip.fingerprint}", str(i)) for i, clip in enumerate(clips))
        found = bytearray(len(clips))
        for row in table_rows(join(self.output, self.selection.name(TABLE))) if clips else ():
            i = wanted.get(f"{row['clip_id']}/{row.get('fingerprint')}") if row["status"] == "done" else None
            if i is not None and not found[int(i)] and takes[int(i)] == 1:
                found[int(i)] = 1
                yield _of_this_manifest(row, clips[int(i)])
        others = (take_clip(clips[i], n + 1) for i in range(len(clips)) if not found[i] for n in range(takes[i]))
        for clip, stored in mapped(self._stored, others):
            if stored is not None:
                yield _of_this_manifest(stored, clip)

    def _stored(self, clip: Clip) -> StatusRow | None:
        row = self.ledger.read(clip.clip_id, clip.fingerprint)
        known = self.ledger.read_qc(clip.clip_id, clip.fingerprint)
        return row if row is None or known is None else with_figures(row, known)

    # --- Rendering ---------------------------------------------------------------------------------------------

    def collect(
        self, rows: Iterable[StatusRow], on_row: Callable[[StatusRow], object], *, rendered: bool = True
    ) -> None:
        """Take the rows as they come; returns early, with `reason` set, where too many clips fail.

        Clips that want another take stay open: `next_clips` tells of them. `rendered`: by this run.
        """
        bad = 0
        for ended, row in enumerate(rows, start=1):
            on_row(row)
            if rendered:
                self._count(row)
            delivered = self.takes.add(row)
            if delivered is not None:
                self.add(delivered)
            bad += row["status"] in ("failed", "quarantined")
            if ended >= EARLY and bad / ended > self.max_failed_share:
                codes = ", ".join(f"{code} x {n}" for code, n in self.codes.most_common(3))
                self.state = "stopped"
                self.reason = (
                    f"{bad} of {ended} clips failed, more than max_failed_share = {self.max_failed_share:g}: {codes}"
                )
                return

    def next_clips(self) -> list[tuple[Clip, float]]:
        """Clips to render again, with seeds of their own, and their length in seconds."""
        wanted = self.takes.next_takes()
        return [(take_clip(self.plan.clip(number), take), seconds) for number, take, seconds in wanted]

    def add(self, row: StatusRow) -> None:
        """A clip has ended."""
        self._rows.add(row)
        self.counts[row["status"]] += 1
        if row.get("error_code"):
            self.codes[row["error_code"]] += 1
        if row.get("qc_status"):
            self.verdicts[row["qc_status"]] += 1
            self.reasons.update(row["qc_reasons"] or ())

    def _count(self, row: StatusRow) -> None:
        """What this run has rendered, further takes too."""
        if take_of(row) == 1:
            self._finished += self.plan.length_of(row)
        if row["status"] == "done":
            self.rendered["clips" if take_of(row) == 1 else "takes"] += 1
            for name in ("frames", "duration", *(f"{step}_seconds" for step in RENDER_STEPS)):
                self.rendered[name] += row.get(name) or 0

    # --- The end -----------------------------------------------------------------------------------------------

    def finish(self, missing: str = "lost", *, embed_videos: bool = False) -> str:
        """Give every planned clip its one row, and write the tables and failed.jsonl; returns the table.

        `missing` is the code of clips without a row (`plan.MISSING`). Those that a worker committed without coming to
        report it are done all the same.
        """
        self._rendered_until = time.time()
        for row in self.unjudged:
            if row["row"] not in self._rows:  # quality control did not come to it
                self.takes.hold(row)
        for row in self.takes.rest():
            if row["row"] not in self._rows:
                self.add(row)
        if len(self._rows) < len(self.plan) + len(self.manifest.rejected):
            done = DiskDict((f"{clip_id}/{mark}", "") for clip_id, mark in self.ledger.done())
            silent = (clip for clip in self.plan.clips if clip.row not in self._rows)
            late = (clip for clip in silent if f"{clip.clip_id}/{clip.fingerprint}" in done)
            for _, stored in mapped(self._stored, late):
                if stored is not None:
                    self._count(stored)
                    self.takes.hold(stored)
            for open_row in self.takes.rest():
                self.add(open_row)
        for row in reconcile(self.plan.clips, self._rows, missing):
            self.add(row)
        if self.selection.only or self.selection.limit:
            self._keep_others()
        name = self.selection.name(TABLE)
        table = write_table(self._rows, self.output, name=name, embed_videos=embed_videos)
        self._write_takes()
        refused = {rejected.row: i for i, rejected in enumerate(self.manifest.rejected)}
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            for row in self._rows:
                if row["status"] != "done":
                    i = refused.get(row["row"])
                    given = {} if i is None else self.manifest.rejected[i].values
                    file.write(json.dumps(self._renderable(row, given), default=str) + "\n")
            file.flush()
            put_file(Path(file.name), join(self.output, self.selection.name(FAILED)))
        return table

    def _write_takes(self) -> None:
        """All attempts of clips that have more than one; those that this run did not take keep theirs."""
        name = self.selection.name(TAKES)
        rows = RowSpool(self.takes.story)
        kept = [row for row in table_rows(join(self.output, name)) if row["row"] not in rows]
        if self.selection.only or self.selection.limit:
            for row in kept:
                rows.add(row)
        if len(rows) or kept:
            write_table(rows, self.output, name=name)

    def _renderable(self, row: StatusRow, given: dict[str, Any]) -> StatusRow:
        """A row that is a row of a manifest too: what was given, wrong values and all, and an emotion that reads back.

        `given`: the manifest's own values, where it was them that were refused.
        """
        values = redacted_value(given)
        for name in ("image", "audio", "pose"):
            if isinstance(values.get(name), str):
                with contextlib.suppress(ClipError):
                    values[name] = resolve(parent(self.manifest.uri), values[name])
        if not given:
            named = row.get("emotion_source") == "manifest" and row.get("emotion") is not None
            values["emotion"] = json.loads(row["emotion"]) if named else None
        return row | values

    def _keep_others(self) -> None:
        """Rows of the last table whose clips this run did not take."""
        ours = DiskDict((f"{clip.row}/{clip.clip_id}", "") for clip in self.manifest.clips)
        for row in table_rows(join(self.output, self.selection.name(TABLE))):
            if row["row"] not in self._rows and f"{row['row']}/{row['clip_id']}" in ours:
                self._rows.add(row)

    def close(self, state: str, exit_code: int, reason: str = "") -> None:
        """The run has ended, in whatever way."""
        self._rendered_until = self._rendered_until or time.time()
        self.state, self.exit_code, self.reason = state, exit_code, reason or self.reason
        self.write_summary()

    def errors(self, limit: int) -> Iterator[StatusRow]:
        """The first rows that are not done, in the manifest's order."""
        yield from islice((row for row in self._rows if row["status"] != "done"), limit)

    def idle_share(self) -> float | None:
        """Share of their time that the render workers did not render; None before there is something to tell."""
        spent = (time.time() - self._rendering_since) * self.render_workers
        if not self.rendered["clips"] or not spent:
            return None
        return max(0.0, 1 - sum(self.rendered[f"{step}_seconds"] for step in RENDER_STEPS) / spent)

    def summary(self) -> dict[str, Any]:
        """How the run stands."""
        now = time.time()
        ended = sum(self.counts[status] for status in ("failed", "quarantined", "rejected")) + self.rendered["clips"]
        idle = self.idle_share()
        return {
            "run": self.ledger.run,
            "state": self.state,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "manifest": self.manifest.uri,
            "planned": len(self.plan) + len(self.manifest.rejected),
            "to_render": len(self.plan.todo),
            "changed": dict(self.plan.changed),
            "ended": ended,
            **{status: self.counts[status] for status in ("done", "failed", "rejected", "quarantined")},
            "rendered": self.rendered["clips"],
            "retakes": self.rendered["takes"],
            "qc": {verdict: self.verdicts[verdict] for verdict in VERDICTS} if self.qc_version else None,
            "qc_thresholds": list(self.takes.texts),
            "qc_reasons": dict(self.reasons.most_common(10)),
            "frames": int(self.rendered["frames"]),
            "video_seconds": round(float(self.rendered["duration"]), 3),
            "errors": dict(self.codes.most_common(10)),
            "render_workers": self.render_workers,
            "gpus_per_worker": self.gpus_per_worker,
            "rendering_seconds": round(self._rendered_for(now), 1),
            "seconds_left": self._seconds_left(now),
            "render_idle_share": None if idle is None else round(idle, 3),
            "started": round(self._started, 1),
            "updated": round(now, 1),
            "seconds": round(now - self._started, 1),
        }

    def _rendered_for(self, now: float) -> float:
        """Seconds for which the render workers were held; 0 where there were none."""
        return (self._rendered_until or now) - self._rendering_since if self.render_workers else 0.0

    def _seconds_left(self, now: float) -> float | None:
        """At the speed so far, by the clips' estimated lengths; None before one has ended."""
        if self.state != "rendering" or not self._finished:
            return None
        left = sum(self.plan.seconds) - self._finished
        return round(max(0.0, left) * (now - self._rendering_since) / self._finished, 1)

    def write_summary(self) -> None:
        """Write summary.json."""
        text = json.dumps(self.summary(), indent=2) + "\n"
        write_bytes(text.encode(), join(self.output, self.selection.name(SUMMARY)))


def _of_this_manifest(row: StatusRow, clip: Clip) -> StatusRow:
    """A row of an earlier run under this manifest's row number, with its columns that change no picture."""
    now = clip_row(clip)
    ours = ("row", "language", "speaker", "consent_ref", "image", "audio", "pose", "pose_source")
    own = {name: value for name, value in now.items() if name in ours or name == "tags" or name in clip.extra}
    return row | own
