"""One run of a rendering job: its plan, and what becomes of its clips. Runs without Ray; rows are passed in."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import Limits
from pipeline.common.quoted import NAMES, quoted
from pipeline.ledger.clip_row import RENDER_STEPS, clip_row, error_row, rejected_row
from pipeline.ledger.columns import ClipRow, extended, values_of
from pipeline.ledger.done_record import stem_of, video_name
from pipeline.ledger.ledger import WORKER_DIED, Ledger
from pipeline.ledger.table import TABLE, RowSpool, failed_rows, table_rows
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Manifest
from pipeline.qc.retakes import Takes, reviewed, take_clip
from pipeline.qc.stage import with_metrics
from pipeline.run.done_before import DoneBefore
from pipeline.run.fingerprint import Parts
from pipeline.run.plan import PLAN, Plan, make_plan, write_plan
from pipeline.run.plan_rows import Identities
from pipeline.run.programmes import Programmes
from pipeline.run.selection import Earlier, Selection
from pipeline.run.tally import Tally, steady
from pipeline.storage.records import DamagedError
from pipeline.storage.uris import join

EARLY = 20
"""Number of clips that must have ended before the share of failures can stop the run."""

FAILED = "failed.jsonl"
"""The rows that are not done, as a manifest that can be rendered again."""


@dataclass
class Run:
    """State of a run: only `begin` and `collect` change it (and `Prepared.read_manifest`), and others read it."""

    ledger: Ledger
    manifest: Manifest
    selection: Selection
    limits: Limits
    job: Parts
    max_failed_share: float = 1.0
    takes: Takes = field(default_factory=Takes)
    qc_version: str = ""
    """Version of the requested measurements (`qc.stage.qc_version`); empty without quality control."""
    continues: bool = False
    """Whether the manifest is the failed.jsonl of the same output: the other rows of its table and plan stay."""
    state: str = "planning"
    exit_code: int | None = None
    reason: str = ""
    plan: Plan = field(default_factory=Plan)
    unjudged: Spool[ClipRow] = field(default_factory=Spool)
    """Rows of clips that were done before and still have to be measured."""
    rows: RowSpool = field(default_factory=RowSpool)
    """Rows of the clips that have ended."""
    kept_undone: int = 0
    """Clips that this run did not take and that are not done, or fail quality control."""
    tally: Tally = field(default_factory=Tally)
    _marks: dict[int, str] = field(default_factory=dict)
    """Fingerprint of the delivered take of each row in a programme, by row number."""
    on_end: Callable[[ClipRow], object] = lambda row: None
    """Is told each row with which a clip ends, and a later one that replaces it."""

    @property
    def output(self) -> str:
        """Output folder of the run."""
        return self.ledger.output

    # --- Plan --------------------------------------------------------------------------------------------------

    def make_plan(self, identities: Identities | None = None, on_clip: Callable[[], object] = lambda: None) -> Plan:
        """Compare the manifest with the ledger, reporting each clip. Raises SelectionError and StorageError.

        Without `identities`, the storage is asked for each input file.
        """
        self.plan = make_plan(
            self.manifest.clips,
            self.ledger,
            self.job,
            self.limits,
            self.selection,
            self.statuses(),
            identities=identities,
            programmes=self._programmes(),
            on_clip=on_clip,
            measured=bool(self.qc_version),
        )
        return self.plan

    def _programmes(self) -> Programmes:
        columns = self.manifest.columns
        if columns is not None and "programme" not in columns:
            return Programmes()  # a million rows need not be read for nothing
        return Programmes(self.manifest.clips, self.manifest.rejected)

    def statuses(self) -> dict[str, Earlier]:
        """What clips that are not done ended with in the last run, by clip_id, if the selection is by that.

        They are also in the table, if failed.jsonl is damaged. Raises DamagedError if both are.
        """
        if not self.selection.by_status:
            return {}
        try:
            before = list(failed_rows(join(self.output, self.selection.name(FAILED))))
        except DamagedError:
            table = join(self.output, self.selection.name(TABLE))
            before = [row for row in table_rows(table) if row["status"] != "done"]
        return {row["clip_id"]: Earlier(row["status"], row.get("fingerprint") or "") for row in before}

    def check_reviews(self) -> None:
        """Raise ManifestError if there are reviews of clips that neither the manifest nor the last table has.

        A name with a typing error would otherwise leave a clip without the retake that somebody has asked for.
        """
        unknown = set(self.takes.reviews)
        if unknown:
            unknown -= {clip.clip_id for clip in self.manifest.clips} | {r.clip_id for r in self.manifest.rejected}
        if unknown:
            unknown -= {row["clip_id"] for row in self._last_table()}
        if unknown:
            names = ", ".join(map(quoted, sorted(unknown)[:NAMES]))
            raise ManifestError(
                f"the reviews name clips that are neither in the manifest nor in the output: {names}: correct these "
                "lines of review.csv, or remove them"
            )

    def retakes_asked(self) -> list[str]:
        """clip_ids whose delivered take, by the last table, is one for which a reviewer has asked for another."""
        if not self.takes.reviews:
            return []
        done = (row for row in self._last_table() if row["status"] == "done" and row["clip_id"] in self.takes.reviews)
        said = (reviewed(row, self.takes.reviews[row["clip_id"]]) for row in done)
        return [row["clip_id"] for row in said if row.get("review") == "retake"]

    def seconds_a_second(self) -> float | None:
        """Render-worker time per second of video, over the clips that are done here; None if there are none."""
        spent = video = 0.0
        for row in self._last_table():
            if row["status"] == "done":
                spent += sum(values_of(row).get(f"{step}_seconds") or 0.0 for step in RENDER_STEPS)
                video += row["duration"] or 0.0
        return spent / video if video else None

    def begin(self) -> None:
        """Store the plan, release quarantined clips that the user asked for, and account for clips that need no
        rendering.
        """
        if not self.selection.is_part:
            ours = DiskDict((clip.clip_id, "") for clip in self.manifest.clips) if self.continues else None
            write_plan(self.plan, self.output, self.job, self.selection.name(PLAN), ours)
        if self.selection.forgives:
            for clip in self.plan.todo:
                self.ledger.forgive(clip)
        for rejected in self.manifest.rejected:
            self.add(rejected_row(rejected))
        for clip in self.plan.quarantined:
            message = WORKER_DIED.format(stage="an earlier run's", clip_id=clip.clip_id)
            self.add(error_row(clip, ClipError("worker_died", message)))
        before = self.plan.before
        assert before is not None
        for row in self._rows_done_before(before):
            unmeasured = stem_of(row["clip_id"], row["fingerprint"]) in before.unmeasured
            if self.qc_version and (unmeasured or row.get("qc_version") != self.qc_version):
                self.unjudged.append(row)
            elif (delivered := self.takes.add(row)) is not None:
                self.add(delivered)
        self.state = "rendering"
        self.tally.rendering_since = steady()

    def _last_table(self) -> Iterator[ClipRow]:
        """Rows of the last table; a damaged one has none, and is a finding of the plan (`pipeline.run.state_files`)."""
        with suppress(DamagedError):
            yield from table_rows(join(self.output, self.selection.name(TABLE)))

    def _rows_done_before(self, before: DoneBefore) -> Iterator[ClipRow]:
        """All takes of each finished clip, from the last table where possible, and otherwise from the ledger."""
        clips, takes = self.plan.done, self.plan.takes
        for number, count in zip(clips.rows, takes, strict=True):
            if count > 1:
                self.takes.expect(number, count)
        wanted = DiskDict((f"{clip.clip_id}/{clip.fingerprint}", str(i)) for i, clip in enumerate(clips))
        found = bytearray(len(clips))
        for row in self._last_table() if clips else ():
            i = wanted.get(f"{row['clip_id']}/{row.get('fingerprint')}") if row["status"] == "done" else None
            if i is not None and not found[int(i)] and takes[int(i)] == 1:
                found[int(i)] = 1
                moved = row | {"uri": self.ledger.video_uri(video_name(row))}
                yield _of_this_manifest(moved, clips[int(i)])
        others = (take_clip(clips[i], n + 1) for i in range(len(clips)) if not found[i] for n in range(takes[i]))
        found_before = ((clip, before.row(stem_of(clip.clip_id, clip.fingerprint))) for clip in others)
        for (clip, _), stored in mapped(lambda one: self.stored(*one), found_before):
            if stored is not None:
                yield _of_this_manifest(stored, clip)

    def stored(self, clip: Clip, row: ClipRow | None = None) -> ClipRow | None:
        """Row of a finished clip (of one take) with its quality control metrics; None if the clip is not done.

        `row` is its row without them, if it has been read.
        """
        row = row or self.ledger.read(clip.clip_id, clip.fingerprint)
        known = self.ledger.read_qc(clip.clip_id, clip.fingerprint)
        return row if row is None or known is None else with_metrics(row, known)

    # --- Rendering ---------------------------------------------------------------------------------------------

    def collect(self, rows: Iterable[ClipRow], on_row: Callable[[ClipRow], object], *, rendered: bool = True) -> None:
        """Take the rows as they arrive; returns early, with `reason` set, if too many clips fail.

        Clips that need another take stay open, and `next_clips` returns them. `rendered` says whether this run rendered
        the rows.
        """
        bad = 0
        for ended, row in enumerate(rows, start=1):
            on_row(row)
            if rendered:
                self.tally.add_rendered(row, self.plan.length_of(row))
            delivered = self.takes.add(row)
            if delivered is not None:
                self.add(delivered)
            bad += row["status"] in ("failed", "quarantined")
            if ended >= EARLY and bad / ended > self.max_failed_share:
                codes = ", ".join(f"{code} x {n}" for code, n in self.tally.codes.most_common(3))
                self.state = "stopped"
                self.reason = (
                    f"{bad} of {ended} clips failed, more than max_failed_share = {self.max_failed_share:g}: {codes}"
                )
                return

    def next_clips(self) -> list[tuple[Clip, float]]:
        """Clips to render again, with seeds of their own, and their lengths in seconds."""
        wanted = self.takes.next_takes()
        clips = {number: take_clip(self.plan.clip(number), take) for number, take, _ in wanted}
        marks = self._marks | {number: clip.fingerprint for number, clip in clips.items() if clip.programme}
        return [(self.plan.programmes.continued(clips[number], marks), seconds) for number, _, seconds in wanted]

    def add(self, row: ClipRow) -> None:
        """Record that a clip has ended."""
        self.rows.add(row)
        self.tally.add(row)
        self.on_end(row)
        if row.get("programme") and row["status"] == "done":
            self._marks[row["row"]] = row["fingerprint"]

    def keep(self, row: ClipRow) -> None:
        """Take over the row of a clip that this run did not take."""
        self.rows.add(row)
        self.kept_undone += row["status"] != "done" or row.get("qc_status") == "fail"

    # --- The end -----------------------------------------------------------------------------------------------

    def rendering_ends(self) -> None:
        """Record that nothing more is rendered; may be called twice."""
        self.tally.rendered_until = self.tally.rendered_until or steady()

    def close(self, state: str, exit_code: int, reason: str = "") -> None:
        """Record that the run has ended, in whatever way."""
        self.rendering_ends()
        self.state, self.exit_code, self.reason = state, exit_code, reason or self.reason

    def errors(self, limit: int) -> Iterator[ClipRow]:
        """The first rows that are not done, in the order of the manifest."""
        yield from islice((row for row in self.rows if row["status"] != "done"), limit)


def _of_this_manifest(row: ClipRow, clip: Clip) -> ClipRow:
    """Adapt a row of an earlier run to this manifest: its row number, and its columns that do not affect the video."""
    now = clip_row(clip)
    ours = (
        "row",
        "language",
        "speaker",
        "consent_ref",
        "image",
        "audio",
        "faces",
        "audio_tracks",
        "pose",
        "pose_source",
    )
    own = {name: value for name, value in now.items() if name in ours or name == "tags" or name in clip.extra}
    return extended(row, own)
