"""Score sets of generated videos against real ones: `python -m jobs.evaluate manifest=pairs.csv output=...`."""

if __name__ == "__main__":  # before the imports that take seconds
    from jobs.cli.first_line import first_line

    first_line("evaluate")

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail, told
from jobs.cli.submitted import lost_output
from pipeline.cluster.connect import ADDRESS, executor_option, open_executor
from pipeline.cluster.executor import Executor
from pipeline.cluster.work_units import Unit
from pipeline.common.interruptions import held
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError, option
from pipeline.common.progress import Progress, duration_text
from pipeline.common.quoted import quoted
from pipeline.common.stage import Resources, Stage
from pipeline.evaluation.comparison import FOLDER, ComparisonStage, side_by_side_items
from pipeline.evaluation.metrics import ALL, SET_METRICS
from pipeline.evaluation.networks import DLIB, KEYS, KINDS, Networks, why_no_dlib
from pipeline.evaluation.page import Evaluation, write_page
from pipeline.evaluation.pairs import Pair, RejectedPair, read_pairs
from pipeline.evaluation.stage import PairStage, Row, VideoStage
from pipeline.evaluation.strips import StripStage, strip_items
from pipeline.evaluation.systems import REAL, Result, distances, means, systems_of
from pipeline.evaluation.tables import complete_notes, write_pairs, write_systems
from pipeline.evaluation.targets import check_output
from pipeline.manifest.noticed import Notices
from pipeline.run.exit_codes import DONE, INCOMPLETE, REFUSED
from pipeline.storage.objects import check_writable
from pipeline.storage.run_lock import RunLock, new_run_id
from pipeline.storage.setting_files import of_setting
from pipeline.storage.uris import absolute, join

logger = logging.getLogger(__name__)

USAGE = """
Score generated videos, made by this or any other system, against the real videos that they imitate.

  python -m jobs.evaluate manifest=pairs.csv output=evaluation
  python -m jobs.evaluate manifest=pairs.csv output=s3://bucket/evaluation inception=inception.pt2 i3d=i3d.pt2 \\
      identity_model=arcface.pt2 syncnet=syncnet_v2.model

The manifest has the columns reference (a real video), generated and system (a name); all other columns are passed
through. Metrics that are computed by a network need the file of that network. Without it they stay empty, and a note
says so. pipeline/evaluation/README.md lists all metrics. The job writes pairs.parquet, systems.parquet, evaluation.html
and comparison/. Running the same command again measures only what is new.

Options: --help
Exit codes: 0 every pair was measured; 1 some pairs were not; 2 the configuration or the manifest was refused; 3 the
cluster or the storage failed; 4 a bug; 130 interrupted.
"""

SHOWN = 20
"""Number of rows that are listed one by one."""
UNITS = 2000
"""Largest number of work units; a unit is what a worker takes at a time."""

TRUST = (
    "A file of torch.export.save, whose code runs when it is loaded: use only files that you trust; FILE#sha256=HEX "
    "refuses any other file."
)
TEXTS = {kind.key: f"{kind.text} {TRUST}" for kind in KINDS}


@dataclass
class EvaluateJob:
    """Configuration of `jobs.evaluate`."""

    manifest: str = option(
        "", "Parquet, CSV or JSONL file, local or s3://, with the columns reference, generated and system."
    )
    output: str = option("evaluation", "Folder for the tables, the page and comparison/, local or s3://.")
    inception: str = option("", TEXTS["inception"])
    i3d: str = option("", TEXTS["i3d"])
    identity_model: str = option("", TEXTS["identity_model"])
    syncnet: str = option(
        "", "SyncNet weights (syncnet_v2.model) for LSE-C and LSE-D; FILE#sha256=HEX refuses any other file."
    )
    expression: str = option("", TEXTS["expression"])
    pose_model: str = option("", TEXTS["pose_model"])
    dlib_distance: str = option(
        "auto",
        "Distance between faces by dlib's embedding (extra `identity`), not CSIM; auto: where that is installed.",
        choices=("auto", "always", "never"),
    )
    comparisons: int = option(
        4, "Number of real videos, from the start of the manifest, for which a side-by-side video is made.", least=0
    )
    comparison_side: int = option(
        256, "Side length of one tile of that video, px; a multiple of 4.", least=64, most=1024
    )
    seed: int = option(0, "Seed of the random halves of the real videos and of the bootstrap.", least=0, most=2**63 - 1)
    workers: int = option(0, "Number of actors; 0 uses all CPUs of the cluster.", least=0)
    num_cpus: float = option(1.0, "CPUs per actor.", least=0.1)
    executor: str = executor_option()
    address: str = option("", ADDRESS)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.comparison_side % 4:
            raise SettingError("comparison_side", f"{self.comparison_side} is not a multiple of 4")

    def places(self) -> dict[str, str]:
        """The networks that are given."""
        return {key: absolute(getattr(self, key)) for key in KEYS if getattr(self, key)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(EvaluateJob, USAGE, argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not job.manifest:
        return fail("manifest: give a table of pairs; --help describes its columns", REFUSED)
    if problem := lost_output(job.output):
        return fail(problem, REFUSED)
    job.output = absolute(job.output)
    return ended(lambda: _work(job), "interrupted; measurements that are finished are kept")


def _work(job: EvaluateJob) -> int:
    without = why_no_dlib(job.dlib_distance)
    check_output(job.output, {"manifest": job.manifest, **job.places()})
    notices = Notices()
    with of_setting("manifest"):
        pairs, rejected = read_pairs(job.manifest, notices, job.limits.max_rows)
    hashes = Networks(job.places(), not without).hashes  # it is better to find out now than in every worker
    print(f"{absolute(job.manifest)}: {len(pairs) + len(rejected)} pairs, {len(rejected)} rejected")
    for note in notices.sentences():
        print(f"  note: {note}")
    for key in KEYS:
        print(f"{key:>15}  {hashes.get(key, 'not given')}")
    print(f"{DLIB:>15}  {without or hashes[DLIB]}")
    check_writable(job.output)
    with RunLock(job.output, new_run_id(), "evaluate.lock"):
        return _evaluate(job, pairs, rejected, hashes)


def _evaluate(
    job: EvaluateJob, pairs: Sequence[Pair], rejected: Sequence[RejectedPair], hashes: Mapping[str, str]
) -> int:
    start = time.monotonic()
    with open_executor(job.executor, job.address) as executor:
        videos, measured, side_by_side = _measure(job, executor, pairs, DLIB in hashes)
        strips = _strips(job, executor, measured, videos)
    missing = {
        metric.column: why_no_dlib(job.dlib_distance) if metric.network == DLIB else f"{metric.network}= was not given"
        for metric in ALL
        if metric.network and metric.network not in hashes
    }
    rows = [complete_notes(row, missing) if row["status"] == "done" else row for row in [*measured, *_rows(rejected)]]
    rows.sort(key=lambda row: row["row"])
    try:
        results = [*means(rows, missing, job.seed), *_distances(job, rows, videos, missing)]
        with held():
            tables = write_pairs(rows, job.output, hashes), write_systems(results, job.output, hashes)
            page = write_page(
                Evaluation(*(job.output, rows, results, hashes, side_by_side, job.seed, absolute(job.manifest), strips))
            )
    except Exception as error:
        return told(error, "the results could not be written")
    _print(rows, results, side_by_side, time.monotonic() - start)
    for place in (*tables, page):
        print(f"{'wrote':>15}  {place}")
    return INCOMPLETE if any(row["status"] != "done" for row in (*rows, *side_by_side)) else DONE


def _measure(
    job: EvaluateJob, executor: Executor, pairs: Sequence[Pair], dlib: bool
) -> tuple[dict[str, Row], list[Row], list[Row]]:
    """(video by URI, rows of pairs, rows of side-by-side videos) from the cluster."""
    uris = list(dict.fromkeys(uri for pair in pairs for uri in (pair.reference, pair.generated)))
    todo = [{"uri": uri} for uri in uris]
    resources = Resources(job.num_cpus)

    def run(stage: Stage, items: Sequence[Row], what: str) -> Iterator[Row]:
        return _run(executor, stage, job.workers, items, what)

    found = run(VideoStage(job.output, job.places(), job.limits, resources, dlib=dlib), todo, "videos")
    videos = {row["uri"]: row for row in found}
    items, rows = [], []
    for pair in pairs:
        known: Row = {"row": pair.row, "system": pair.system, "reference": pair.reference, "generated": pair.generated}
        both = [videos.get(uri, LOST) for uri in (pair.generated, pair.reference)]
        bad = next((i for i, video in enumerate(both) if video["status"] != "done"), None)
        if bad is None:
            items.append(known | {"videos": both})
        else:
            which = f"{('generated', 'reference')[bad]}: "
            error = {name: both[bad][name] for name in ("status", "error_code", "error_message")}
            rows.append(known | error | {"error_message": which + error["error_message"]})
    compared = run(PairStage(job.output, job.limits, resources), items, "pairs")
    measured: dict[int, Row] = {row["row"]: row for row in compared}
    for item in items:
        known = {name: value for name, value in item.items() if name != "videos"}
        rows.append(measured.get(item["row"], known | LOST))
    extras = {pair.row: pair.extra for pair in pairs}
    rows = [row | {"extra": extras[row["row"]]} for row in rows]
    side_by_side = list(side_by_side_items(rows, videos, job.comparisons))
    comparison = ComparisonStage(job.output, job.comparison_side, job.limits, resources)
    written = {row["file"]: row for row in run(comparison, side_by_side, "side-by-side videos")}
    lost = {one["file"]: {"reference": one["reference"], "file": one["file"], **LOST} for one in side_by_side}
    return videos, rows, list((lost | written).values())


def _strips(job: EvaluateJob, executor: Executor, rows: Sequence[Row], videos: Mapping[str, Row]) -> dict[int, bytes]:
    """Row number -> pictures of the worst pairs; one that cannot be drawn is left out, and the log says why."""
    found = {}
    stage = StripStage(job.output, job.limits, Resources(job.num_cpus))
    for row in _run(executor, stage, job.workers, strip_items(rows, videos), "pictures of the worst pairs"):
        if row["status"] == "done":
            found[row["row"]] = row["jpeg"]
        else:
            logger.warning("row %d has no picture: %s", row["row"], row["error_message"])
    return found


LOST = {
    "status": "failed",
    "error_code": "lost",
    "error_message": "its worker died each time this was tried: check Ray's logs and the file",
}


def _run(executor: Executor, stage: Stage, workers: int, items: Sequence[Row], what: str) -> Iterator[Row]:
    """Yield the rows of one stage, with progress."""
    if not items:
        return
    size = -(-len(items) // UNITS)
    units = [Unit(list(items[i : i + size])) for i in range(0, len(items), size)]
    print(f"{len(items)} {what}", flush=True)
    with Progress(len(items), measure=what, things=what) as progress:
        for row in executor.run_stage(units, stage, workers):
            progress.add(row)
            yield row


def _distances(
    job: EvaluateJob, rows: Sequence[Row], videos: Mapping[str, Row], missing: Mapping[str, str]
) -> Iterator[Result]:
    """Distances between distributions, computed on this machine with progress: each takes seconds at 2048
    dimensions.
    """
    count = len(systems_of(rows)) * len(SET_METRICS)
    print(f"{count} distances between distributions", flush=True)
    with Progress(count, measure="distances", things="distances") as progress:
        for result in distances(rows, videos, job.output, missing, job.seed):
            progress.add({"status": "empty" if result.value is None else "computed"})
            yield result


def _rows(rejected: Sequence[RejectedPair]) -> Iterator[Row]:
    for one in rejected:
        values = {name: one.values.get(name) for name in ("system", "reference", "generated")}
        texts = {name: v if v is None or isinstance(v, str) else quoted(v) for name, v in values.items()}
        error = {"status": one.error.status, "error_code": one.error.code, "error_message": one.error.message}
        yield {"row": one.row, **texts, **error}


def _print(rows: Sequence[Row], results: Sequence[Result], side_by_side: Sequence[Row], seconds: float) -> None:
    print()
    bad = [row for row in rows if row["status"] != "done"]
    for row in bad[:SHOWN]:
        print(f"  {row['status']}  row {row['row']}  {row['error_code']}: {row['error_message']}")
    if len(bad) > SHOWN:
        print(f"  ... and {len(bad) - SHOWN} more: see pairs.parquet")
    names = {metric.column: metric for metric in ALL}
    for system in [*systems_of(rows), REAL]:
        print(f"{system}")
        for result in results:
            if result.system == system:
                print(f"  {names[result.figure].name:>28}  {_line(result)}")
    print()
    print(f"{'measured':>15}  {len(rows) - len(bad)} of {len(rows)} pairs in {duration_text(seconds)}")
    for one in side_by_side:
        place = join(FOLDER, one["file"]) if one["status"] == "done" else f"{one['file']}: {one['error_message']}"
        print(f"{'side by side':>15}  {place}")


def _line(result: Result) -> str:
    if result.value is None:
        return f"-  ({result.note})"
    text = f"{result.value:.4g}"
    if result.low is not None:
        text += f"  [{result.low:.4g}, {result.high:.4g}] n={result.count}"
    if result.reference_count is not None:
        text += f"  n={result.count} against {result.reference_count}"
        text += f", floor {result.floor:.4g}" if result.floor is not None else ""
    return text + (f"  ({result.note})" if result.note else "")


if __name__ == "__main__":
    raise SystemExit(main())
