"""Render a manifest: `python -m jobs.render manifest=... output=... model=... [key=value ...]`."""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.cli.config import fail, parse
from jobs.cli.connect import ADDRESS, executor_option, lost_output, open_executor, take_sigterm
from jobs.cli.progress import Progress, duration_text
from models import MOTION_FPS, ModelFolder
from models.model_folder import ModelFolderError
from models.sampling import choose_sampler
from pipeline.cluster.work_units import Units
from pipeline.common.disk_collections import mapped
from pipeline.common.errors import ClusterError, ManifestError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError, option
from pipeline.face.detector import FaceDetector
from pipeline.ledger.clip_row import StatusRow, clip_row, error_row, rejected_row
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import TABLE, RowSpool, table_rows
from pipeline.manifest.clip import Clip
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import Manifest, read_manifest
from pipeline.manifest.settings import ClipDefaults, ConsentSettings
from pipeline.measure.metric import VERDICTS
from pipeline.media.c2pa import CertificateError, check_signing
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.qc.retakes import Takes
from pipeline.qc.review import REVIEW, read_reviews
from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import qc_version
from pipeline.qc.verdict import parse_thresholds
from pipeline.render.feature_stage import load_inputs
from pipeline.render.model_runner import choose_mode
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.report.render_report import REPORT, write_report
from pipeline.run.fingerprint import job_parts
from pipeline.run.graph import judge_graph, render_graph
from pipeline.run.plan import Plan, Selection, SelectionError
from pipeline.run.run import FAILED, Run, new_run_id
from pipeline.storage.model_cache import POCKET, local_model
from pipeline.storage.objects import absolute, check_writable, join
from pipeline.storage.run_lock import LockedError, RunLock

logger = logging.getLogger(__name__)

USAGE = """
Render talking-portrait videos of a manifest on a Ray cluster, or on this machine.

  python -m jobs.render                                          the demo manifest into ./out, by the bundled model
  python -m jobs.render manifest=m.csv output=s3://bucket/run1 model=s3://bucket/models/float
  python -m jobs.render --dry-run manifest=m.csv output=out      what would be rendered and why; renders nothing
  python -m jobs.render --check manifest=m.csv                   fetch and check every input file; renders nothing
  python -m jobs.render manifest=m.csv output=out only=failed    try again what failed

The same command again goes on where the last one ended: clips that are done with the same inputs and settings are
left alone. summary.json in the output folder tells how a run stands or ended.

Options: --help, --dry-run, --check
Exit codes: 0 every clip is done, and none fails quality control; 1 finished, but clips failed, were rejected, are
quarantined or fail quality control; 2 configuration or manifest refused; 3 the cluster or the storage failed; 130
interrupted.
"""

DONE, INCOMPLETE, REFUSED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 2, 3, 130

SHOWN = 20
"""Clips that are listed one by one."""

DEMO = Path(__file__).parent / "demo" / "manifest.jsonl"

CLIP_COLUMNS = (
    "clip_id, image, audio, language, speaker, emotion, seed, nfe, a_cfg_scale, e_cfg_scale, r_cfg_scale, pose"
)


@dataclass
class RenderJob:
    """Configuration of `jobs.render`."""

    manifest: str = option(str(DEMO), f"Parquet, CSV or JSONL file, local or s3://; columns: {CLIP_COLUMNS}, crop ...")
    output: str = option("out", "Folder for videos/, done/ and clips.parquet, local or s3://.")
    model: str = option(POCKET, "Model folder (see jobs.convert), local or s3://, or pocket: the small one that ships.")
    only: str = option("", "Render only these: failed, quarantined, or clip ids separated by commas.")
    limit: int = option(0, "Render at most so many clips; 0 renders all.", least=0)
    shard: str = option("", "i/n renders the i-th of n parts of the manifest: n jobs may run at the same time.")
    max_failed_share: float = option(
        0.5, "Stop where more than this share of clips has failed, once 20 have ended; 1 never stops.", least=0, most=1
    )
    embed_videos: bool = option(False, "Also put each MP4 into a binary column `video` of clips.parquet.")
    executor: str = executor_option()
    address: str = option("", ADDRESS)
    wait_minutes: float = option(
        0.0,
        "Time for a cluster to start the nodes that the job needs; give features.workers, render.workers and "
        "render.num_gpus with it, as what a cluster will have cannot be seen.",
        least=0,
    )
    defaults: ClipDefaults = field(default_factory=ClipDefaults)
    limits: Limits = field(default_factory=Limits)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    render: EngineSettings = field(default_factory=EngineSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    qc: QcSettings = field(default_factory=QcSettings)
    provenance: ProvenanceSettings = field(default_factory=ProvenanceSettings)
    consent: ConsentSettings = field(default_factory=ConsentSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(RenderJob, USAGE, argv, ["--dry-run", "--check"])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    take_sigterm()
    if problem := lost_output(job.output):
        return fail(problem, REFUSED)
    job.output = absolute(job.output)
    if job.model != POCKET:
        job.model = absolute(job.model)  # workers have another working directory
    try:
        model = local_model(job.model)
        try:
            solver = choose_sampler(model.config.objective, job.render.solver)
        except ValueError as error:
            return fail(f"render.solver: {error}", REFUSED)
        manifest = read_manifest(job.manifest, job.defaults, model.config, solver=solver)
        manifest = check_consent(manifest, job.consent)
        model.verify()  # better now than in every worker
        takes = _takes(job)
        wanted = qc_version(job.qc) if job.qc.enabled else ""
        job.provenance = check_signing(job.provenance)
    except (ManifestError, ModelFolderError, CertificateError) as error:
        return fail(str(error), REFUSED)
    except SettingError as error:
        return fail(f"qc.{error}", REFUSED)
    except Exception as error:  # every storage client has exceptions of its own
        return fail(f"model {job.model} could not be read: {type(error).__name__}: {error}", REFUSED)
    print(f"{manifest.uri}: {len(manifest)} rows, {len(manifest.rejected)} rejected")
    _print_model(model)
    if "--check" in flags:
        return _check(job, manifest, model)
    run = Run(
        Ledger(job.output, new_run_id()),
        manifest,
        Selection(job.only, job.limit, job.shard),
        job.limits,
        job_parts(model, job.features, job.render, job.video, job.provenance),
        job.max_failed_share,
        takes,
        wanted,
    )
    try:
        if "--dry-run" in flags:
            return _dry_run(run)
        check_writable(job.output)
        with RunLock(job.output, run.ledger.run, run.selection.name("run.lock"), on_beat=run.write_summary):
            return _render(job, run, model)
    except (SelectionError, LockedError) as error:
        return fail(str(error), REFUSED)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except Exception as error:  # every storage client has exceptions of its own
        return fail(f"output {job.output} cannot be written: {type(error).__name__}: {error}", REFUSED)


def _takes(job: RenderJob) -> Takes:
    """What decides between the attempts of a clip. Raises SettingError and ManifestError."""
    reviews = read_reviews(absolute(job.qc.review) if job.qc.review else join(job.output, REVIEW))
    texts = job.qc.thresholds
    return Takes(parse_thresholds(texts), job.qc.max_attempts if job.qc.enabled else 1, reviews, tuple(texts))


def _plan(run: Run) -> Plan:
    """Make the plan; a long manifest takes minutes, as each input file is asked for."""
    with Progress(len(run.manifest.clips), measure="clips") as progress:
        return run.make_plan(lambda: progress.add({"status": "compared"}))


def _render(job: RenderJob, run: Run, model: ModelFolder) -> int:
    start = time.monotonic()
    code, missing = DONE, "lost"
    print(_plan(run).describe(), flush=True)
    if run.takes.reviews:
        unknown = set(run.takes.reviews) - {clip.clip_id for clip in run.manifest.clips}
        if unknown:
            print(f"NOTE: the review names clips that the manifest has not: {', '.join(sorted(unknown)[:SHOWN])}")
    run.begin()
    try:
        _collect(job, run, model)
        if run.state == "stopped":
            code, missing = fail(run.reason, INCOMPLETE), "stopped"
    except KeyboardInterrupt:
        code, missing = (
            fail("interrupted: finished clips are kept, the same command goes on", INTERRUPTED),
            "interrupted",
        )
    except ClusterError as error:
        run.close("failed", INFRASTRUCTURE, str(error))
        return fail(str(error), INFRASTRUCTURE)
    except Exception as error:
        logger.exception("the job could not go on")
        code = fail(f"the job could not go on: {type(error).__name__}", INFRASTRUCTURE)
    try:
        table = run.finish(missing, embed_videos=job.embed_videos)
    except Exception as error:  # every storage client has exceptions of its own
        table = "not written"
        name = join(job.output, run.selection.name(TABLE))
        code = fail(f"the table {name} could not be written: {type(error).__name__}: {error}", INFRASTRUCTURE)
    if code == DONE and (set(run.counts) - {"done"} or run.verdicts["fail"]):
        code = INCOMPLETE
    state = {INTERRUPTED: "interrupted", INFRASTRUCTURE: "failed"}.get(code, "finished")
    run.close("stopped" if missing == "stopped" else state, code)
    report = "not written"
    try:
        if table != "not written":
            report, _ = write_report(run.output, table_rows(table), run.summary(), name=run.selection.name(REPORT))
    except Exception as error:  # every storage client has exceptions of its own; the clips are done all the same
        code = fail(f"the report could not be written: {type(error).__name__}: {error}", INFRASTRUCTURE)
    _print_summary(run, time.monotonic() - start, table, report)
    _print_model(model)
    return code


def _collect(job: RenderJob, run: Run, model: ModelFolder) -> None:
    """Render the plan, judge it, and render again what fails, with progress on the screen."""
    clips, seconds = run.plan.todo, run.plan.seconds
    again = run.next_clips()
    if not (clips or again or run.unjudged):
        return
    with open_executor(job.executor, job.address) as executor:
        pools = executor.pools(job.features, job.render, job.qc, job.wait_minutes)
        share = sum(seconds) / pools.render.workers
        pools.render.mode = choose_mode(pools.render.mode, gpus=pools.render.num_gpus, seconds=share)
        # Small jobs get smaller units, so that every worker has some.
        workers = max(pools.features.workers, pools.render.workers)
        places: dict[str, Any] = {"ledger": run.ledger, "limits": job.limits, "video": job.video}
        window_seconds = model.config.window / MOTION_FPS
        judging = judge_graph(pools, window_seconds=window_seconds, **places)
        rendering = render_graph(
            pools, model=job.model, window_seconds=window_seconds, provenance=job.provenance, **places
        )

        def render(clips: Sequence[Clip], seconds: Sequence[float]) -> None:
            if not clips:
                return
            run.render_workers, run.gpus_per_worker = pools.render.workers, pools.render.num_gpus
            units = Units(clips, seconds, min(job.render.unit_seconds, sum(seconds) / (4 * workers)))
            print(f"{len(clips)} clips in {len(units)} units on {pools.describe()}", flush=True)
            lengths = {clip.row: length for clip, length in again}
            with Progress(
                len(clips), sum(seconds), lambda row: run.plan.length_of(row) or lengths.get(row["row"], 0.0)
            ) as progress:
                run.collect(executor.run(units, rendering), progress.add)

        if run.unjudged:
            print(f"quality control of {len(run.unjudged)} clips that are done", flush=True)
            units = Units(run.unjudged, [row["duration"] for row in run.unjudged], job.render.unit_seconds)
            with Progress(len(run.unjudged), measure="clips") as progress:
                run.collect(executor.run(units, judging), progress.add, rendered=False)
            again += run.next_clips()
        render(clips, seconds)
        while run.state != "stopped" and (again := again + run.next_clips()):
            print(f"{len(again)} clips fail quality control or are wanted anew: another take, with another seed")
            render([clip for clip, _ in again], [length for _, length in again])
            again = []


# --- Without rendering -----------------------------------------------------------------------------------------


def _dry_run(run: Run) -> int:
    """Say what would be rendered and why; reads the ledger and asks for each input's identity, and writes nothing."""
    plan = _plan(run)
    for rejected in run.manifest.rejected[:SHOWN]:
        print(f"  rejected  {rejected.clip_id}  {rejected.error.code}: {rejected.error.message}")
    if len(run.manifest.rejected) > SHOWN:
        print(f"  ... and {len(run.manifest.rejected) - SHOWN} more")
    print(plan.describe())
    for clip in plan.todo[:SHOWN]:
        print(f"  would render {clip.clip_id}")
    if len(plan.todo) > SHOWN:
        print(f"  ... and {len(plan.todo) - SHOWN} more")
    cost = run.seconds_a_second()
    if cost is None:
        print("no clip is done here yet to estimate hours from: python -m jobs.benchmark --plan manifest=... measures")
    else:
        hours = sum(plan.seconds) * cost / 3600
        print(f"render workers will need about {hours:.2f} hours together, going by the clips that are done here")
    print("dry run: nothing was written")
    return INCOMPLETE if run.manifest.rejected or plan.quarantined else DONE


def _check(job: RenderJob, manifest: Manifest, model: ModelFolder) -> int:
    """Fetch, decode and check every input on this machine; render and write nothing."""
    rows = RowSpool(rejected_row(rejected) for rejected in manifest.rejected)
    local = threading.local()  # an interpreter of the face models belongs to one thread

    def check(clip: Clip) -> StatusRow:
        if not hasattr(local, "detector"):
            local.detector = FaceDetector()
        try:
            load_inputs(clip, job.limits, local.detector, model.config.image_size, job.video.audio_kbps)
        except Exception as error:
            return error_row(clip, error, "check")
        return clip_row(clip) | {"status": "valid"}

    with Progress(len(manifest.clips), measure="clips") as progress:
        for _, row in mapped(check, manifest.clips, os.cpu_count() or 1):
            progress.add(row)
            if row["status"] != "valid":
                rows.add(row)
    _print_errors(islice(rows, SHOWN), len(rows))
    print(f"\ncheck: {len(manifest) - len(rows)} clips can be rendered, {len(rows)} cannot; nothing was written")
    return INCOMPLETE if len(rows) else DONE


# --- What a person sees ----------------------------------------------------------------------------------------


def _print_model(model: ModelFolder) -> None:
    print(f"model {model.name} ({model.hash[:12]}), licence {model.licence}")
    if not model.trained:
        print("NOTE: this model is UNTRAINED. It shows that the pipeline works; its pictures are noise, not faces.")


def _print_errors(first: Iterable[StatusRow], number: int, where: str = "") -> None:
    for row in first:
        print(f"  {row['status']}  {row['clip_id']}  {row['error_code']}: {row['error_message']}")
    if number > SHOWN:
        print(f"  ... and {number - SHOWN} more{where}")


def _print_summary(run: Run, seconds: float, table: str, report: str) -> None:
    print()
    bad = sum(count for status, count in run.counts.items() if status != "done")
    _print_errors(run.errors(SHOWN), bad, f": see {join(run.output, run.selection.name(FAILED))}")
    before = f" ({run.counts['done'] - run.rendered['clips']} of them before)" if run.plan.done else ""
    print(f"{'done':>11}  {run.counts['done']}{before}")
    for status in ("failed", "rejected", "quarantined"):
        if run.counts[status] or status != "quarantined":
            print(f"{status:>11}  {run.counts[status]}")
    if run.verdicts:
        verdicts = ", ".join(f"{run.verdicts[verdict]} {verdict}" for verdict in VERDICTS)
        reasons = ", ".join(f"{code} x {number}" for code, number in run.reasons.most_common(3))
        print(f"{'quality':>11}  {verdicts}{' (' + reasons + ')' if reasons else ''}")
    if run.rendered["takes"]:
        print(f"{'retakes':>11}  {run.rendered['takes']} with other seeds; takes.parquet has all attempts")
    frames, video = run.rendered["frames"], run.rendered["duration"]
    if frames:
        print(f"{'frames':>11}  {frames} ({video:.1f} s of video)")
        print(f"{'time':>11}  {duration_text(seconds)}, {frames / seconds:.1f} frames per second, all included")
    idle = run.idle_share()
    if idle is not None:
        print(f"{'idle':>11}  {idle:.0%} of the render workers' time, their start included")
    print(f"{'videos':>11}  {join(run.output, 'videos')}")
    print(f"{'table':>11}  {table}")
    print(f"{'report':>11}  {report}")
    if run.counts["failed"]:
        print(f"{'next':>11}  the same command again, or with only=failed, tries what failed")


if __name__ == "__main__":
    raise SystemExit(main())
