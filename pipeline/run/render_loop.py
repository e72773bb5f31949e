"""The loop of a rendering job: plan, render, judge, render failures again, and finish.

Both the command line (`jobs.render`) and Python (`floatcast.render`) call it. It prints nothing, but reports to a
`Listener`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from models import MOTION_FPS
from pipeline.cluster.connect import open_executor
from pipeline.cluster.executor import Executor
from pipeline.cluster.pools import SMALL_SIDE, least_unit_seconds, starving
from pipeline.cluster.serial import SerialExecutor
from pipeline.cluster.work_units import Units
from pipeline.common.errors import ClusterError, WorkersLostError
from pipeline.common.interruptions import Interruptions, held
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.table import TABLE, TAKES, table_rows
from pipeline.ledger.video_table import VIDEOS, replace_videos
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Programme
from pipeline.render.device import choose_slots
from pipeline.render.variants import choose_mode
from pipeline.report.render_report import REPORT, write_report
from pipeline.run.exit_codes import BUG, DONE, INCOMPLETE, INFRASTRUCTURE, INTERRUPTED, code_of
from pipeline.run.graph import judge_graph, render_graph
from pipeline.run.listener import Listener, Work
from pipeline.run.notify import notifying
from pipeline.run.planned_clips import PlannedClips
from pipeline.run.prepare_run import Prepared
from pipeline.run.rounds import in_rounds
from pipeline.run.state_files import damaged_files
from pipeline.run.summary import summary_of, write_summary
from pipeline.run.tables import write_tables
from pipeline.storage.findings import move_aside, told
from pipeline.storage.objects import check_writable
from pipeline.storage.run_lock import LockedError, RunLock
from pipeline.storage.uris import join

SAMPLE = 200
"""So many clips are looked at to tell whether emotions are named or heard."""


@dataclass
class Outcome:
    """How a run ended."""

    code: int = DONE
    """Exit code, see `pipeline.run.exit_codes`."""
    table: str = ""
    """URI of clips.parquet; empty if it could not be written."""
    report: str = ""
    problems: list[BaseException] = field(default_factory=list)
    """What went wrong with the run itself. What is wrong with a clip is in its row."""


class RenderLoop:
    """Renders what `prepare_run` has checked. For one run."""

    def __init__(self, prepared: Prepared, listener: Listener | None = None) -> None:
        self._prepared, self._settings, self._model = prepared, prepared.settings, prepared.model
        self.run = prepared.run
        self._executor: Executor | None = None
        self._listener = listener or Listener()

    def plan(self, connection: ExitStack | None = None) -> None:
        """Compare the manifest with what is done; each input file is requested.

        A long manifest that was not read yet is read now, by tasks on the cluster. With a `connection`, damaged files
        are moved aside; without one, nothing is written.
        """
        run, identities, rows = self.run, None, self._prepared.rows
        with self._listener.progress(Work("comparing", rows or len(run.manifest.clips))) as on_clip:

            def compared() -> None:
                on_clip({"status": "compared"})

            if rows and connection is not None:
                identities = self._prepared.read_manifest(self._connected(connection), compared)
            damaged = list(damaged_files(run.output, run.selection))
            plan = run.make_plan(identities, (lambda: None) if rows else compared)
        if rows:
            self._listener.say(run.manifest.describe())
        run.check_reviews()
        self._listener.say(plan.describe())
        assert plan.before is not None
        found = [damaged, plan.before.findings]
        if connection is not None:  # this run renders: it puts right what it can
            move_aside(chain(*found), run.output)
            plan.before.restore()
        for line in told(found, run.output, moved=connection is not None):
            self._listener.say(line)

    def render(self) -> Outcome:
        """Render everything; every planned clip ends with one row. Raises RefusedError, StorageError and ClusterError.

        Any other exception on the way, including an interruption, is part of the outcome.
        """
        run = self.run
        check_writable(run.output)
        lock = run.selection.name("run.lock")
        outcome = Outcome()
        with (
            Interruptions(),
            RunLock(run.output, run.ledger.run, lock, on_beat=lambda: write_summary(run)) as locked,
            notifying(run, self._prepared.receiver) as notifier,
            ExitStack() as connection,
        ):
            try:
                self.plan(connection)
                if notifier is not None:
                    notifier.start()
                run.begin()
                write_summary(run)
            except KeyboardInterrupt:  # nothing has changed but what a reader is told
                run.close("interrupted", INTERRUPTED)
                write_summary(run)
                raise
            missing = self._rendered(outcome, locked, connection)
            with held():
                embeds = self._settings.embed_videos and not outcome.problems and run.state != "stopped"
                if not embeds:  # nothing goes on while the tables are written, and others can use the cluster
                    connection.close()
                locked.check()  # the tables are then the other run's
                self._finish(outcome, missing, embeds=embeds)
                if notifier is not None and (undelivered := notifier.finish()):
                    self._listener.say(undelivered)
        return outcome

    def _connected(self, connection: ExitStack) -> Executor:
        """The executor, which is open until `connection` ends."""
        if self._executor is None:
            opening = open_executor(self._settings.executor, self._settings.address, self._listener.say)
            self._executor = connection.enter_context(opening)
        return self._executor

    def _rendered(self, outcome: Outcome, held: RunLock, connection: ExitStack) -> str:
        """Render; returns the error code for clips that have no row afterwards."""
        run = self.run
        try:
            self._collect(self._connected(connection), held)
        except KeyboardInterrupt as error:
            self._problem(outcome, error, "interrupted: finished clips are kept; run the same command again to resume")
            return "interrupted"
        except WorkersLostError as error:
            self._problem(outcome, error, "the job could not continue")
        except ClusterError as error:  # nothing has started yet
            run.close("failed", INFRASTRUCTURE, str(error))
            write_summary(run)
            raise
        except LockedError:
            raise
        except Exception as error:  # the outer boundary of a run: every clip still gets its row
            self._problem(outcome, error, "the job could not continue")
        if run.state != "stopped":
            return "lost"
        outcome.code = INCOMPLETE
        self._listener.say(f"stopped: {run.reason}")
        return "stopped"

    def _finish(self, outcome: Outcome, missing: str, *, embeds: bool) -> None:
        """Write the tables, the summary and the report."""
        run = self.run
        try:
            outcome.table = write_tables(run, missing)
        except Exception as error:  # the summary still says how the run ended
            self._problem(outcome, error, f"the table {join(run.output, run.selection.name(TABLE))} was not written")
        if embeds and outcome.table:
            self._embed(outcome)
        undone = set(run.tally.statuses) - {"done"} or run.tally.verdicts["fail"] or run.kept_undone
        if outcome.code == DONE and undone:
            outcome.code = INCOMPLETE
        state = {INTERRUPTED: "interrupted", INFRASTRUCTURE: "failed", BUG: "failed"}.get(outcome.code, "finished")
        run.close("stopped" if missing == "stopped" else state, outcome.code)
        write_summary(run)
        if outcome.table:
            try:
                name = run.selection.name(REPORT)
                takes = run.selection.name(TAKES)
                rows = table_rows(outcome.table)
                outcome.report, _ = write_report(run.output, rows, summary_of(run), name=name, takes=takes)
            except Exception as error:  # the clips are done nevertheless
                self._problem(outcome, error, "the report was not written")

    def _embed(self, outcome: Outcome) -> None:
        """Write the table with the videos in it."""
        assert self._executor is not None
        videos = join(self.run.output, self.run.selection.name(VIDEOS))
        try:
            self._listener.say(f"writing {videos}")
            replace_videos(outcome.table, videos, self._executor.write_videos)
        except (Exception, KeyboardInterrupt) as error:  # the clips are done nevertheless
            self._problem(outcome, error, f"{videos} was not written")

    def _problem(self, outcome: Outcome, error: BaseException, doing: str) -> None:
        outcome.problems.append(error)
        outcome.code = code_of(error)
        self._listener.problem(error, doing)

    # --- Rendering ---------------------------------------------------------------------------------------------

    def _collect(self, executor: Executor, held: RunLock) -> None:
        """Do the work of the plan, and report the progress as metrics of the cluster."""
        if isinstance(executor, SerialExecutor):  # this process has no endpoint for metrics
            return self._work_through(executor, held)
        from pipeline.cluster.metrics import RunMetrics  # importing Ray takes seconds

        with RunMetrics(self.run.ledger, lambda: summary_of(self.run)):
            return self._work_through(executor, held)

    def _work_through(self, executor: Executor, held: RunLock) -> None:
        """Judge clips that are done but not judged, render the plan, and render again what fails."""
        run, settings = self.run, self._settings
        again = run.next_clips()
        if not (run.plan.todo or again or run.unjudged):
            return
        small = self._model.config.image_size <= SMALL_SIDE
        pools = executor.pools(settings.features, settings.render, settings.qc, settings.wait_minutes, small=small)
        heard = self._model.config.emotion == "speech" and any(
            clip.emotion is None for clip in islice(run.plan.todo, SAMPLE)
        )
        if warning := starving(pools, heard=heard):
            self._listener.say(f"warning: {warning}")
        share = sum(run.plan.seconds) / pools.render.workers
        pools.render.mode = choose_mode(pools.render.mode, gpu=pools.render.on_gpu, seconds=share)
        window_seconds = self._model.config.window / MOTION_FPS
        places: dict[str, Any] = {"ledger": run.ledger, "limits": settings.limits, "video": settings.video}
        judging = judge_graph(pools, window_seconds=window_seconds, **places)
        rendering = render_graph(
            pools,
            model=settings.model,
            window_seconds=window_seconds,
            provenance=settings.provenance,
            audio_seconds=share,
            **places,
        )

        def one_round(clips: Sequence[Clip], seconds: Sequence[float]) -> Iterator[ClipRow]:
            # Small jobs get smaller units, so that every worker gets some.
            workers = max(pools.features.workers, pools.render.workers)
            each = max(1, len(clips) // (4 * workers))
            slots = choose_slots(settings.render.slots, gpu=pools.render.num_gpus > 0)
            longest = max(settings.render.unit_seconds, least_unit_seconds(pools.render))
            at_most = min(longest, sum(seconds) / (4 * workers))
            units = Units(clips, seconds, at_most, min(slots, each), together(clips))
            self._listener.say(f"{len(clips)} clips in {len(units)} units on {pools.describe()}")
            return executor.run(units, rendering)

        def render(clips: Sequence[Clip], seconds: Sequence[float]) -> None:
            if not clips:
                return
            run.tally.workers, run.tally.gpus_per_worker = pools.render.workers, pools.render.num_gpus
            run.tally.pools = pools.sizes()
            lengths = {clip.row: length for clip, length in again}

            def length(row: ClipRow) -> float:
                return run.plan.length_of(row) or lengths.get(row["row"], 0.0)

            work = Work("rendering", len(clips), sum(seconds), length, executor.under_way)
            with self._listener.progress(work) as on_row:
                run.collect(_while_held(in_rounds(one_round, clips, seconds, self._listener.say), held), on_row)

        if run.unjudged:
            self._listener.say(f"quality control of {len(run.unjudged)} clips that are done already")
            units = Units(run.unjudged, [row["duration"] for row in run.unjudged], settings.render.unit_seconds)
            with self._listener.progress(Work("judging", len(run.unjudged))) as on_row:
                run.collect(executor.run(units, judging), on_row, rendered=False)
            again += run.next_clips()
        render(run.plan.todo, run.plan.seconds)
        while run.state != "stopped" and (again := again + run.next_clips()):
            self._listener.say(
                f"{len(again)} clips fail quality control or a reviewer asked for a retake: rendering another take"
            )
            render([clip for clip, _ in again], [length for _, length in again])
            again = []


def together(clips: Sequence[Clip]) -> dict[int, tuple[str, int]]:
    """Index of each clip in a programme -> the programme, and its number there."""
    places: Iterable[Programme | None] = (clip.programme for clip in clips)
    if isinstance(clips, PlannedClips):
        places = map(clips.place, range(len(clips)))
    return {i: (place.key, place.number) for i, place in enumerate(places) if place is not None}


def _while_held(rows: Iterator[ClipRow], held: RunLock) -> Iterator[ClipRow]:
    """Yield the rows while this run holds the output. Raises LockedError if another run has taken it over."""
    for row in rows:
        held.check()
        yield row
