"""Render a manifest: `python -m jobs.render manifest=... output=... model=... [key=value ...]`."""

if __name__ == "__main__":  # before the imports that take seconds
    from jobs.cli.first_line import first_line

    first_line("render")

import logging
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.cli.checking import check_inputs, check_problem_file
from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail, told
from jobs.cli.preview import FLAG, preview, with_number
from jobs.cli.submitted import lost_output
from models import ModelFolder
from pipeline.common.options import option
from pipeline.common.progress import duration_text
from pipeline.common.terminal import one_line
from pipeline.ledger.columns import ClipRow
from pipeline.measure.metric import VERDICTS
from pipeline.run.exit_codes import DONE, INCOMPLETE, INTERRUPTED, REFUSED
from pipeline.run.prepare_run import prepare_run
from pipeline.run.preview import PreviewSettings
from pipeline.run.render_loop import Outcome, RenderLoop
from pipeline.run.run import FAILED, Run
from pipeline.run.screen import Screen
from pipeline.run.settings import CLIP_COLUMNS, RenderSettings
from pipeline.storage.uris import join

USAGE = """
Render the talking-portrait videos of a manifest, on a Ray cluster or on this machine.

  python -m jobs.render                                          render the demo manifest to ./out (bundled model)
  python -m jobs.render manifest=m.csv output=s3://bucket/run1 model=s3://bucket/models/float
  python -m jobs.render --dry-run manifest=m.csv output=out      show what would be rendered and why; render nothing
  python -m jobs.render --check manifest=m.csv                   fetch and check every input file; render nothing
  python -m jobs.render --preview 4 manifest=m.csv output=out    the first seconds of 4 clips that differ, on one page
  python -m jobs.render manifest=m.csv output=out only=failed    try the failed clips again

Running the same command again resumes where the last run ended. Clips that are done with the same inputs and settings
are not rendered again. summary.json in the output folder shows the progress or the result of a run.

Options: --help, --dry-run, --check, --preview [n]
Exit codes: 0 every clip is done, and none fails quality control; 1 finished, but some clips failed, were rejected, are
quarantined or fail quality control; 2 the configuration or the manifest was refused; 3 the cluster or the storage
failed; 4 a bug; 130 interrupted.
"""

SHOWN = 20
"""Number of clips that are listed one by one."""

DEMO = Path(__file__).parent / "demo" / "manifest.jsonl"


@dataclass
class RenderJob(RenderSettings):
    """Configuration of `jobs.render`, with the demo as the default manifest."""

    manifest: str = option(
        str(DEMO),
        f"Parquet, CSV or JSONL file or folder of Parquet files, local or s3://; columns: {CLIP_COLUMNS}, crop ...",
    )

    problems: str = option(
        "", "With --check: also write all problems and notes into this file (.csv or .jsonl), local or s3://."
    )
    faces: str = option(
        "",
        "With --check: also write into this folder, local or s3://, a picture of the numbered faces for each clip "
        "whose row should say which face is meant.",
    )
    preview: PreviewSettings = field(default_factory=PreviewSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    arguments = with_number(sys.argv[1:] if argv is None else argv)
    job, flags = parse(RenderJob, USAGE, arguments, ["--dry-run", "--check", FLAG])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if problem := lost_output(job.output):
        return fail(problem, REFUSED)
    if job.problems and "--check" not in flags:
        return fail("problems: only --check writes this file; a run writes failed.jsonl instead", REFUSED)
    if job.faces and "--check" not in flags:
        return fail("faces: only --check writes these pictures; defaults.face says which face is rendered", REFUSED)
    if len(flags) > 1:
        return fail(f"{' and '.join(sorted(flags))} exclude each other: give one of them", REFUSED)
    return ended(lambda: _work(job, flags, arguments))


def _work(job: RenderJob, flags: set[str], arguments: Sequence[str]) -> int:
    start = time.monotonic()
    if job.problems:
        check_problem_file(job.problems, job)
    prepared = prepare_run(job, renders=not flags)
    run = prepared.run
    print(f"{run.manifest.uri}: about {prepared.rows} rows" if prepared.rows else run.manifest.describe())
    _print_model(prepared.model)
    if "--check" in flags:
        return check_inputs(prepared, job.problems, job.faces)
    if FLAG in flags:
        return preview(prepared, job.preview, arguments, JobScreen())
    loop = RenderLoop(prepared, JobScreen())
    if "--dry-run" in flags:
        return _dry_run(loop)
    outcome = loop.render()
    _print_summary(run, time.monotonic() - start, outcome)
    _print_model(prepared.model)
    return outcome.code


class JobScreen(Screen):
    """Also prints problems, because no caller catches them here."""

    def problem(self, error: BaseException, doing: str) -> None:
        """Print the problem as an error."""
        if isinstance(error, KeyboardInterrupt):
            fail(doing, INTERRUPTED)
        else:
            told(error, doing)


# --- Without rendering -----------------------------------------------------------------------------------------


def _dry_run(loop: RenderLoop) -> int:
    """Print what would be rendered and why; reads the ledger and asks for each input's identity, but writes nothing."""
    run = loop.run
    loop.plan()
    plan = run.plan
    for rejected in run.manifest.rejected[:SHOWN]:
        print(f"  rejected  {one_line(rejected.clip_id)}  {rejected.error.code}: {rejected.error.message}")
    if len(run.manifest.rejected) > SHOWN:
        print(f"  ... and {len(run.manifest.rejected) - SHOWN} more")
    for clip in plan.todo[:SHOWN]:
        print(f"  would render {clip.clip_id}")
    if len(plan.todo) > SHOWN:
        print(f"  ... and {len(plan.todo) - SHOWN} more")
    if asked := run.retakes_asked():
        names = one_line(", ".join(asked[:SHOWN]))
        print(f"  would render another take of {len(asked)} clips, as reviewers have asked: {names}")
    cost = run.seconds_a_second()
    if cost is None:
        print(
            "no clip is done here yet, so there is no estimate of hours; python -m jobs.benchmark --plan "
            "manifest=... measures one"
        )
    else:
        hours = sum(plan.seconds) * cost / 3600
        print(f"render workers will need about {hours:.2f} hours in total, judging by the clips that are done here")
    print("dry run: nothing was written")
    return INCOMPLETE if run.manifest.rejected or plan.quarantined else DONE


# --- What a person sees ----------------------------------------------------------------------------------------


def _print_model(model: ModelFolder) -> None:
    print(f"model {model.name} ({model.hash[:12]}), licence {model.licence}")
    if not model.trained:
        print("NOTE: this model is UNTRAINED. It shows that the pipeline works, but its videos show noise, not faces.")


def _print_errors(first: Iterable[ClipRow], number: int, where: str = "") -> None:
    for row in first:
        print(f"  {row['status']}  {one_line(row['clip_id'])}  {row['error_code']}: {row['error_message']}")
    if number > SHOWN:
        print(f"  ... and {number - SHOWN} more{where}")


def _print_summary(run: Run, seconds: float, outcome: Outcome) -> None:
    print()
    tally = run.tally
    bad = sum(count for status, count in tally.statuses.items() if status != "done")
    _print_errors(run.errors(SHOWN), bad, f": see {join(run.output, run.selection.name(FAILED))}")
    before = f" ({tally.statuses['done'] - tally.rendered['clips']} of them before)" if run.plan.done else ""
    print(f"{'done':>11}  {tally.statuses['done']}{before}")
    for status in ("failed", "rejected", "quarantined"):
        if tally.statuses[status] or status != "quarantined":
            print(f"{status:>11}  {tally.statuses[status]}")
    if tally.verdicts:
        verdicts = ", ".join(f"{tally.verdicts[verdict]} {verdict}" for verdict in VERDICTS)
        reasons = ", ".join(f"{code} x {number}" for code, number in tally.reasons.most_common(3))
        print(f"{'quality':>11}  {verdicts}{' (' + reasons + ')' if reasons else ''}")
    if tally.rendered["takes"]:
        print(f"{'retakes':>11}  {tally.rendered['takes']} with other seeds; takes.parquet lists all takes")
    frames, video = tally.rendered["frames"], tally.rendered["duration"]
    if frames:
        print(f"{'frames':>11}  {frames} ({video:.1f} s of video)")
        print(f"{'time':>11}  {duration_text(seconds)}, {frames / seconds:.1f} frames per second including everything")
    idle = tally.idle_share()
    if idle is not None:
        print(f"{'idle':>11}  {idle:.0%} of the render workers' time, including their start-up")
    if (limit := tally.limit()) is not None:
        print(f"{'limit':>11}  {limit.describe()}")
    print(f"{'videos':>11}  {join(run.output, 'videos')}")
    print(f"{'table':>11}  {outcome.table or 'not written'}")
    print(f"{'report':>11}  {outcome.report or 'not written'}")
    if run.kept_undone:
        print(f"{'others':>11}  {run.kept_undone} not taken by this run are not done, or fail quality control")
    again = "run the same command again, with or without only=failed"
    if tally.statuses["failed"]:
        print(f"{'next':>11}  {again}, to try the failed clips again")
    elif tally.statuses["rejected"]:
        print(f"{'next':>11}  correct what was rejected, and {again}")


if __name__ == "__main__":
    raise SystemExit(main())
