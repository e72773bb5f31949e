"""Prepare training data from videos: `python -m jobs.prepare source=... output=... [key=value ...]`."""

if __name__ == "__main__":  # before the imports that take seconds
    from jobs.cli.first_line import first_line

    first_line("prepare")

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail, told
from jobs.cli.latents import encode
from jobs.cli.submitted import lost_output
from pipeline.cluster.connect import ADDRESS, executor_option, open_executor
from pipeline.cluster.work_units import Units
from pipeline.common.errors import ClusterError
from pipeline.common.interruptions import held
from pipeline.common.limits import Limits
from pipeline.common.options import option
from pipeline.common.progress import Progress, duration_text
from pipeline.common.stage import Resources
from pipeline.manifest.noticed import Notices
from pipeline.manifest.rows import FORMATS
from pipeline.run.exit_codes import BUG, DONE, INCOMPLETE, INFRASTRUCTURE, INTERRUPTED, REFUSED
from pipeline.run.summary import SUMMARY
from pipeline.storage.model_cache import POCKET, checked_model
from pipeline.storage.objects import check_writable, write_bytes
from pipeline.storage.pinned import read_pinned
from pipeline.storage.run_lock import RunLock, new_run_id
from pipeline.storage.setting_files import check_given_folder, of_setting
from pipeline.storage.uris import absolute, join
from pipeline.training_data.places import Places, Sidecar
from pipeline.training_data.plan import Plan, make_plan
from pipeline.training_data.reasons import FAILED, REASONS, Dropped
from pipeline.training_data.report import Picked, write_report
from pipeline.training_data.settings import ClipSettings, SplitSettings, WorkerSettings
from pipeline.training_data.splits import speaker_splits
from pipeline.training_data.stage import PrepareStage, sidecar_of
from pipeline.training_data.summary import SAMPLES, Counts, lines, write_samples
from pipeline.training_data.targets import check_output
from pipeline.training_data.videos import Video, read_source

USAGE = """
Prepare training data from videos of talking heads. The job cuts the videos into samples of one face in one shot, says
why it drops the rest, and encodes the samples for the second phase of training.

  python -m jobs.prepare source=s3://bucket/videos output=s3://bucket/data
  python -m jobs.prepare source=videos.csv output=data clips.size=256
  python -m jobs.prepare stage=latents output=data model=models/mine       after phase 1, before phase 2

`source` is either a folder, which is searched with all its subfolders, or a CSV, Parquet or JSONL table. The table has
the column video (a URI, or a path relative to the table) and these optional columns:
  speaker   the speaker's name; by default the name of the folder that holds the video, or the file's name without its
            suffix if the video lies directly in `source` or next to the table
  language  a BCP-47 tag
  emotion   angry, disgust, fear, happy, neutral, sad or surprise
  curves    an .npy file of floats (T,K) with known values for each frame at 25 frames per second, such as action units
            from motion capture; jobs.train can use them (reconstruction.curves)
The train, validation and test splits are made by speaker.

Running the same command again resumes where the last run ended. A video is prepared again if its file, row or settings
have changed. Samples of videos that are no longer in the source are kept. In the output folder, report.html shows what
was accepted and what was dropped, and samples.parquet has one row for each part of each video.

Options: --help
Exit codes: 0 finished; 1 finished, but some videos could not be read or failed; 2 the configuration or the source was
refused; 3 the cluster or the storage failed; 4 a bug; 130 interrupted.
"""

SHOWN = 20
"""Number of videos that are listed one by one."""


@dataclass
class PrepareJob:
    """Configuration of `jobs.prepare`."""

    source: str = option("", "Folder of videos, or a table of them (.csv, .parquet, .jsonl), local or s3://.")
    output: str = option("", "Folder for clips/, latents/, samples.parquet and report.html, local or s3://.")
    stage: str = option(
        "clips",
        "clips cuts the videos into samples; latents encodes the samples in `output` with a model, for phase 2.",
        choices=("clips", "latents"),
    )
    model: str = option("", "Model folder, local or s3://, whose auto-encoder and speech encoders stage=latents uses.")
    retry_died: bool = option(False, "Try videos again that were skipped because workers died while processing them.")
    executor: str = executor_option()
    address: str = option("", ADDRESS)
    clips: ClipSettings = field(default_factory=ClipSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    limits: Limits = field(default_factory=Limits)
    workers: WorkerSettings = field(default_factory=WorkerSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(PrepareJob, USAGE, argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    missing = [key for key in ("source", "output", "model") if not getattr(job, key) and _needs(job, key)]
    if missing:
        return fail(f"{missing[0]}: stage={job.stage} needs a value; see --help", REFUSED)
    if problem := lost_output(job.output):
        return fail(problem, REFUSED)
    job.output = absolute(job.output)
    return ended(lambda: _work(job))


def _work(job: PrepareJob) -> int:
    places = Places(job.output, new_run_id())
    inputs = {"source": job.source, "model": job.model, "clips.syncnet": job.clips.syncnet}
    check_output(job.output, job.stage, inputs)
    work = _clips_of(job, places) if job.stage == "clips" else _latents_of(job, places)
    check_writable(job.output)
    with RunLock(job.output, places.run):
        return work()


def _clips_of(job: PrepareJob, places: Places) -> Callable[[], int]:
    """The work of stage=clips, after reading and checking its source."""
    if not job.source.lower().endswith(FORMATS):
        check_given_folder("source", absolute(job.source))
    notices = Notices()
    with of_setting("source"):
        videos = read_source(job.source, notices, job.limits.max_rows)
    syncnet = _hash_of(job.clips)
    print(f"{absolute(job.source)}: {len(videos)} videos of {len({video.speaker for video in videos})} speakers")
    for note in notices.sentences():
        print(f"  note: {note}")
    return lambda: _prepare(job, places, videos, syncnet)


def _latents_of(job: PrepareJob, places: Places) -> Callable[[], int]:
    """The work of stage=latents, after reading and checking its model."""
    check_given_folder("output", job.output, "; stage=clips creates it")
    job.model = job.model if job.model == POCKET else absolute(job.model)  # workers have another working directory
    model = checked_model(job.model)
    print(f"model {model.name} ({model.hash[:12]}), licence {model.licence}")
    if not model.trained:
        print("NOTE: this model is UNTRAINED, so its latents mean nothing. Train its auto-encoder first.")
    return lambda: encode(places, job.model, model, job.workers, job.executor, job.address)


def _needs(job: PrepareJob, key: str) -> bool:
    return key == "output" or (key == "source") == (job.stage == "clips")


def _hash_of(settings: ClipSettings) -> str:
    """Hash of SyncNet's weights; empty without them. Raises SettingError if the file is missing."""
    if not settings.syncnet:
        return ""
    settings.syncnet = absolute(settings.syncnet)  # workers have another working directory
    return hashlib.sha256(read_pinned("clips.syncnet", settings.syncnet)).hexdigest()


def _prepare(job: PrepareJob, places: Places, videos: list[Video], syncnet: str) -> int:
    start, code = time.monotonic(), DONE
    splits = speaker_splits(places, [video.speaker for video in videos], job.split)
    with Progress(len(videos), measure="videos", things="videos", doing="comparing", stays=False) as progress:
        plan = make_plan(
            *(videos, places, job.clips, job.limits, splits),
            syncnet=syncnet,
            retry_died=job.retry_died,
            on_video=lambda: progress.add({"status": "compared"}),
        )
    print(plan.describe(), flush=True)
    found: dict[str, Sidecar] = {}
    missing = "lost"
    try:
        for sidecar in _run(job, places, plan):
            found[sidecar["key"]] = sidecar
    except KeyboardInterrupt:
        missing = "interrupted"
        code = fail("interrupted: finished videos are kept; run the same command again to resume", INTERRUPTED)
    except ClusterError as error:
        return told(error)
    except Exception as error:  # every video still gets its row
        code = told(error, "the job could not continue")
    try:
        with held():
            return _finish(job, places, plan, found, missing, code, start)
    except Exception as error:
        return told(error, "the table or the report could not be written")


def _run(job: PrepareJob, places: Places, plan: Plan) -> Iterator[Sidecar]:
    """Yield the sidecars as they arrive, with progress on the screen."""
    if not plan.todo:
        return
    state = {"run": places.run, "state": "preparing", "stage": "clips", "videos": len(plan.videos)}
    write_bytes(json.dumps(state).encode(), join(job.output, SUMMARY))
    workers = job.workers
    if job.retry_died:
        for video in plan.todo:
            places.forget(video.key)
    sizes = {video.key: max(0.01, video.size / 1e6) for video in plan.todo}
    stage = PrepareStage(places, job.clips, job.limits, workers.video_minutes, Resources(workers.num_cpus))
    with open_executor(job.executor, job.address) as executor:
        # Small jobs get smaller units, so that every worker gets some.
        share = sum(sizes.values()) / (4 * (workers.workers or executor.cpus))
        units = Units(plan.todo, list(sizes.values()), min(workers.unit_megabytes, share))
        print(f"{len(plan.todo)} videos in {len(units)} units", flush=True)
        with Progress(
            len(plan.todo), sum(sizes.values()), lambda row: sizes[row["key"]], measure="MB", things="videos"
        ) as progress:
            for sidecar in executor.run_stage(units, stage, workers.workers):
                progress.add(sidecar)
                yield sidecar


def _finish(
    job: PrepareJob, places: Places, plan: Plan, found: dict[str, Sidecar], missing: str, code: int, start: float
) -> int:
    """Give every video of the plan its rows, write the table, the summary and the report, and print the counts."""
    counts, picked = Counts(), Picked()
    broken: list[tuple[str, str, str]] = []
    others = 0
    ours = {video.key: video for video in plan.videos}

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal others
        seen = set()
        for sidecar in places.each():
            video = ours.get(sidecar["key"])
            if video is not None and sidecar["fingerprint"] != video.fingerprint:
                continue  # an earlier row; the current one follows below
            others += video is None
            seen.add(sidecar["key"])
            yield from sidecar["rows"]
        for key, video in ours.items():
            if key not in seen:
                silent = Dropped(missing, REASONS[missing])
                yield from (found.get(key) or sidecar_of(video, silent))["rows"]

    for row in write_samples(rows(), job.output):
        counts.add(row)
        picked.add(row)
        if row["reason"] in FAILED:
            broken.append((row["source"], row["reason"], row["found"]))
    if code == DONE and (broken or not counts.clips["accepted"]):
        code = INCOMPLETE
    state = {INTERRUPTED: "interrupted", INFRASTRUCTURE: "failed", BUG: "failed"}.get(code, "finished")
    about: list[tuple[str, object]] = [("source", absolute(job.source)), ("videos", len(plan.videos))]
    if others:
        about.append(("also", f"samples of {others} videos from other sources"))
    report = write_report(places, counts, picked, about)
    summary = {
        "run": places.run,
        "state": state,
        "exit_code": code,
        "stage": "clips",
        "source": absolute(job.source),
        "videos": len(plan.videos),
        "prepared": len(found),
        "done_before": len(plan.videos) - len(plan.todo),
        "videos_of_other_sources": others,
        **counts.summary(),
        "settings": {"clips": asdict(job.clips), "split": asdict(job.split)},
        "seconds": round(time.monotonic() - start, 1),
    }
    write_bytes(json.dumps(summary, indent=1, ensure_ascii=False).encode(), join(job.output, SUMMARY))
    _print(job, counts, broken, others, time.monotonic() - start, report)
    return code


def _print(
    job: PrepareJob,
    counts: Counts,
    broken: list[tuple[str, str, str]],
    others: int,
    seconds: float,
    report: str,
) -> None:
    print()
    for uri, reason, found in broken[:SHOWN]:
        print(f"  {reason}  {uri}: {found}")
    if len(broken) > SHOWN:
        print(f"  ... and {len(broken) - SHOWN} more: see {join(job.output, SAMPLES)}")
    for line in lines(counts):
        print(line)
    if others:
        print(f"{'NOTE':>11}  samples of {others} videos that are not in this source are kept and counted")
    print(f"{'time':>11}  {duration_text(seconds)}")
    print(f"{'table':>11}  {join(job.output, SAMPLES)}")
    print(f"{'report':>11}  {report}")
    if counts.clips["accepted"]:
        print(f"{'next':>11}  python -m jobs.train stage=autoencoder data={job.output} ...")
    elif counts.reasons:
        reason, number = counts.reasons.most_common(1)[0]
        print(f"{'next':>11}  nothing was accepted: {reason} x {number}, {REASONS[reason]}; the table has the figures")


if __name__ == "__main__":
    raise SystemExit(main())
