"""Render a manifest: `python -m jobs.render manifest=... output=... model=... [key=value ...]`."""

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import ray

from jobs.config import parse
from jobs.progress import Progress, duration_text
from models import ModelFolder
from models.checkpoint import ModelFolderError
from pipeline.compute import choose_mode
from pipeline.errors import ManifestError
from pipeline.faces import FaceDetector
from pipeline.features import load_inputs
from pipeline.graph import ClusterError, plan_pools, render_clips
from pipeline.manifest import Clip, Manifest, read_manifest
from pipeline.plan import estimate_seconds, make_units, reconcile
from pipeline.results import TABLE, write_table
from pipeline.settings import (
    ClipDefaults,
    EngineSettings,
    FeatureSettings,
    Limits,
    VideoSettings,
    option,
)
from pipeline.status import StatusRow, clip_row, error_row, rejected_row
from pipeline.storage import POCKET, absolute, check_writable, join, local_model

logger = logging.getLogger(__name__)

USAGE = """
Render talking-portrait videos of a manifest on a Ray cluster, or on this machine.

  python -m jobs.render                                          the demo manifest into ./out
  python -m jobs.render manifest=m.csv output=s3://bucket/run1 model=s3://bucket/models/float
  python -m jobs.render --dry-run manifest=m.csv                 check every row and file, render nothing

Options: --help, --dry-run
Exit codes: 0 every clip is done; 1 finished, but clips failed or were rejected; 2 configuration or manifest refused;
3 the cluster or the storage failed; 130 interrupted.
"""

DONE, INCOMPLETE, REFUSED, INFRASTRUCTURE, INTERRUPTED = 0, 1, 2, 3, 130

DEMO = Path(__file__).parent / "demo" / "manifest.jsonl"

CLIP_COLUMNS = "clip_id, image, audio, language, speaker, emotion, seed, nfe, a_cfg_scale, e_cfg_scale, r_cfg_scale"


@dataclass
class RenderJob:
    """Configuration of `jobs.render`."""

    manifest: str = option(str(DEMO), f"Parquet, CSV or JSONL file, local or s3://; columns: {CLIP_COLUMNS}, crop ...")
    output: str = option("out", "Folder for videos/ and clips.parquet, local or s3://.")
    model: str = option(POCKET, "Model folder (see jobs.convert), local or s3://, or pocket: the small preset.")
    embed_videos: bool = option(False, "Also put each MP4 into a binary column `video` of clips.parquet.")
    address: str = option("", "Ray cluster to use; none takes $RAY_ADDRESS, and without it starts Ray on this machine.")
    defaults: ClipDefaults = field(default_factory=ClipDefaults)
    limits: Limits = field(default_factory=Limits)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    render: EngineSettings = field(default_factory=EngineSettings)
    video: VideoSettings = field(default_factory=VideoSettings)


def main() -> int:
    """Entry point; returns the exit code."""
    job, flags = parse(RenderJob, USAGE, ["--dry-run"])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    job.output = absolute(job.output)
    if job.model != POCKET:
        job.model = absolute(job.model)  # workers have another working directory
    try:
        manifest = read_manifest(job.manifest, job.defaults, job.render.solver)
        model = local_model(job.model)
        model.verify()  # better now than in every worker
    except (ManifestError, ModelFolderError) as error:
        return _fail(str(error), REFUSED)
    except Exception as error:  # every storage client has exceptions of its own
        return _fail(f"model {job.model} could not be read: {type(error).__name__}: {error}", REFUSED)
    print(f"{manifest.uri}: {len(manifest)} rows, {len(manifest.rejected)} rejected")
    _print_model(model)
    return _dry_run(job, manifest, model) if "--dry-run" in flags else _render(job, manifest, model)


def _render(job: RenderJob, manifest: Manifest, model: ModelFolder) -> int:
    try:
        check_writable(job.output)
    except Exception as error:  # every storage client has exceptions of its own
        return _fail(f"output {job.output} cannot be written: {type(error).__name__}: {error}", REFUSED)
    start = time.monotonic()
    rows = [rejected_row(rejected) for rejected in manifest.rejected]
    code, missing = DONE, "lost"
    try:
        for row in _rendered(job, manifest.clips):
            rows.append(row)
    except KeyboardInterrupt:
        code, missing = _fail("interrupted: finished clips are kept", INTERRUPTED), "interrupted"
    except ClusterError as error:
        return _fail(str(error), INFRASTRUCTURE)
    except Exception as error:
        logger.exception("the job could not go on")
        code = _fail(f"the job could not go on: {type(error).__name__}", INFRASTRUCTURE)
    finally:
        ray.shutdown()
    rows += reconcile(manifest.clips, rows, missing)
    table = join(job.output, TABLE)
    try:
        write_table(rows, job.output, embed_videos=job.embed_videos)
    except Exception as error:  # every storage client has exceptions of its own
        table = "not written"
        problem = f"the table {join(job.output, TABLE)} could not be written: {type(error).__name__}: {error}"
        code = _fail(problem, INFRASTRUCTURE)
    _print_summary(rows, time.monotonic() - start, job.output, table)
    _print_model(model)
    if code == DONE and any(row["status"] != "done" for row in rows):
        code = INCOMPLETE
    return code


def _rendered(job: RenderJob, clips: list[Clip]) -> Iterator[StatusRow]:
    """Status rows of the clips as the cluster reports them, with progress on the screen."""
    if not clips:
        return
    seconds = estimate_seconds(clips, job.limits)
    _connect(job.address)
    pools = plan_pools(job.features, job.render, ray.cluster_resources())
    share = sum(seconds) / pools.render.workers
    pools.render.mode = choose_mode(pools.render.mode, gpus=pools.render.num_gpus, seconds=share)
    # Small jobs get smaller units, so that every worker has some.
    workers = max(pools.features.workers, pools.render.workers)
    units = make_units(clips, seconds, min(job.render.unit_seconds, sum(seconds) / (4 * workers)))
    print(f"{len(clips)} clips in {len(units)} units on {pools.describe()}", flush=True)
    with Progress({clip.clip_id: length for clip, length in zip(clips, seconds, strict=True)}) as progress:
        for row in render_clips(
            units, model=job.model, output=job.output, pools=pools, limits=job.limits, video=job.video
        ):
            progress.add(row)
            yield row


def _connect(address: str) -> None:
    """Join the cluster at `address` or $RAY_ADDRESS, or start Ray on this machine for as long as the job runs."""
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    dashboard = {"include_dashboard": False} if address == "local" else {}
    # Lines of workers would tear the progress bar apart; in a job's log they belong. Ray keeps them in its files.
    ray.init(address, logging_level=logging.ERROR, log_to_driver=not sys.stderr.isatty(), **dashboard)


# --- Dry run ---------------------------------------------------------------------------------------------------


def _dry_run(job: RenderJob, manifest: Manifest, model: ModelFolder) -> int:
    """Fetch, decode and check every input on this machine; render and write nothing."""
    rows = [rejected_row(rejected) for rejected in manifest.rejected]
    local = threading.local()  # an interpreter of the face models belongs to one thread

    def check(clip: Clip) -> StatusRow:
        if not hasattr(local, "detector"):
            local.detector = FaceDetector()
        try:
            load_inputs(clip, job.limits, local.detector, model.config.image_size, job.video.audio_kbps)
        except Exception as error:
            return error_row(clip, error, "dry run")
        return clip_row(clip) | {"status": "valid"}

    seconds = dict.fromkeys((clip.clip_id for clip in manifest.clips), 1.0)
    with ThreadPoolExecutor(os.cpu_count()) as pool, Progress(seconds, measure="clips") as progress:
        for row in pool.map(check, manifest.clips):
            progress.add(row)
            rows.append(row)
    _print_errors(rows)
    bad = sum(row["status"] != "valid" for row in rows)
    print(f"\ndry run: {len(rows) - bad} clips can be rendered, {bad} cannot; nothing was written")
    return INCOMPLETE if bad else DONE


# --- What a person sees ----------------------------------------------------------------------------------------


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _print_model(model: ModelFolder) -> None:
    print(f"model {model.name} ({model.hash[:12]}), licence {model.licence}")
    if not model.trained:
        print("NOTE: this model is UNTRAINED. It shows that the pipeline works; its pictures are noise, not faces.")


def _print_errors(rows: Sequence[StatusRow], limit: int = 20) -> None:
    bad = [row for row in rows if row.get("error_code")]
    for row in bad[:limit]:
        print(f"  {row['status']}  {row['clip_id']}  {row['error_code']}: {row['error_message']}")
    if len(bad) > limit:
        print(f"  ... and {len(bad) - limit} more: see the table")


def _print_summary(rows: Sequence[StatusRow], seconds: float, output: str, table: str) -> None:
    count = Counter(row["status"] for row in rows)
    frames = sum(row.get("frames") or 0 for row in rows)
    video = sum(row.get("duration") or 0.0 for row in rows)
    print()
    _print_errors(rows)
    for status in ("done", "failed", "rejected"):
        print(f"{status:>10}  {count[status]}")
    print(f"{'frames':>10}  {frames} ({video:.1f} s of video)")
    print(f"{'time':>10}  {duration_text(seconds)}, {frames / seconds:.1f} frames per second, start of Ray included")
    print(f"{'videos':>10}  {join(output, 'videos')}")
    print(f"{'table':>10}  {table}")


if __name__ == "__main__":
    raise SystemExit(main())
