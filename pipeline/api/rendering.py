"""Whole jobs and data sets from Python."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from models import MOTION_FPS
from pipeline.api.settings import with_values
from pipeline.cluster.pools import SMALL_SIDE
from pipeline.common.attempts import PutOff
from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.stage import Pool
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import SCHEMA, ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.delivery import with_places
from pipeline.media.c2pa import check_signing
from pipeline.render.variants import choose_mode
from pipeline.run.graph import render_graph
from pipeline.run.listener import Listener
from pipeline.run.plan import MISSING
from pipeline.run.plan_stage import PlanStage
from pipeline.run.prepare_run import prepare_run
from pipeline.run.render_loop import RenderLoop
from pipeline.run.screen import Screen
from pipeline.run.settings import RenderSettings
from pipeline.storage.explained import said_by_us
from pipeline.storage.model_cache import POCKET, checked_model
from pipeline.storage.objects import check_writable, filesystem, write_bytes
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.uris import absolute, is_local, join, resolve

if TYPE_CHECKING:
    from ray.data import Dataset

MANIFEST = "manifest.jsonl"
"""Where `render` stores the rows that it was given, in the output folder, so that a job can resume with them."""

ROWS_PER_UNIT = 4


def render(
    clips: Any,
    *,
    output: str | os.PathLike[str] = "out",
    model: str = POCKET,
    progress: bool = True,
    **settings: Any,
) -> pa.Table:
    """Render clips, and return clips.parquet: one row per clip, with its video or with its error.

    Args:
        clips: a manifest (path or URI of a Parquet, CSV or JSONL file), or its rows: dicts with the columns `image`,
            `audio` and any other column of a manifest, or a pyarrow table or a Ray data set of such rows.
        output: folder for the videos and the tables, local or s3://. Repeating the call resumes where it ended.
        model: model folder, local or s3://, or `pocket` for the small bundled model.
        progress: print what happens, with a progress bar.
        settings: those of `floatcast render`, with the same names: `executor="serial"`, `limit=3`, a group as a dict
            (`video={"crf": 20}`), or with dots (`**{"video.crf": 20}`).

    Raises RefusedError if something must be changed first, StorageError and ClusterError if the same call may succeed
    later, and any other error that ended the run, after the table was written.
    """
    folder = absolute(os.fspath(output))
    job = with_values(RenderSettings(output=folder, model=model), settings)
    if isinstance(clips, str | os.PathLike):
        job.manifest = os.fspath(clips)
    else:
        job.manifest = _kept(clips, folder)
    loop = RenderLoop(prepare_run(job, renders=True), Screen() if progress else Listener())
    outcome = loop.render()
    if outcome.problems:
        raise outcome.problems[0]
    fs, path = filesystem(outcome.table)
    with fs.open(path, "rb") as file:
        return pq.read_table(file)


def render_dataset(
    dataset: "Dataset",
    *,
    output: str | os.PathLike[str],
    model: str = POCKET,
    rows_per_unit: int = ROWS_PER_UNIT,
    **settings: Any,
) -> "Dataset":
    """Add our stages to your own graph on Ray Data: rows of a manifest -> rows of clips.parquet, lazily.

    Each row is checked, rendered into `output` and judged when it arrives; a clip that is already done there is not
    rendered again. What a job does across all clips is not included: there is no plan, no retake, no table and no
    summary, and a repeated clip_id is detected only within the `rows_per_unit` rows that a worker takes together.

    `settings` are those of `floatcast render` (see `render`). Like the data set itself, this needs a connection to Ray.
    Raises RefusedError, StorageError and ClusterError.
    """
    from pipeline.cluster.ray_data import RayExecutor  # takes seconds because of Ray

    job = with_values(RenderSettings(output=absolute(os.fspath(output)), model=model), settings)
    if job.notify.url:
        raise RefusedError("notify.url: a graph of your own is no run, so it sends no events: remove this setting")
    job.model = job.model if job.model == POCKET else absolute(job.model)
    config = checked_model(job.model).config
    job.provenance = check_signing(job.provenance, job.video.format.container)
    check_writable(job.output)
    executor = RayExecutor()
    small = config.image_size <= SMALL_SIDE
    pools = executor.pools(job.features, job.render, job.qc, job.wait_minutes, small=small)
    pools.render.mode = choose_mode(pools.render.mode, gpu=pools.render.on_gpu, seconds=0.0)
    ledger = Ledger(job.output, new_run_id())
    graph = render_graph(
        pools,
        model=job.model,
        ledger=ledger,
        limits=job.limits,
        video=job.video,
        window_seconds=config.window / MOTION_FPS,
        provenance=job.provenance,
    )
    return executor.extend(dataset, [Pool(PlanStage(job, ledger)), *graph], _columns, rows_per_unit)


def _columns(rows: list[ClipRow | PutOff]) -> list[dict[str, Any]]:
    """Add all our columns, so that each block of the data set has the same ones.

    A clip that its worker put off has nobody else to take it here: it is lost, and rendered when the graph runs again.
    """
    lost = ClipError("lost", MISSING["lost"])
    ended = (error_row(row.item, lost) if isinstance(row, PutOff) else row for row in rows)
    return [dict.fromkeys(SCHEMA.names) | row for row in ended]


def _kept(clips: Any, folder: str) -> str:
    """Write rows as a manifest with absolute paths into the output folder; returns its URI."""
    if isinstance(clips, pa.Table):
        clips = clips.to_pylist()
    elif hasattr(clips, "iter_rows"):  # a Ray data set
        clips = clips.iter_rows()
    lines = []
    for number, row in enumerate(clips, start=1):
        if not isinstance(row, Mapping):
            raise RefusedError(
                f"row {number} is a {type(row).__name__}, but must be a dict with the columns image and audio"
            )
        try:
            lines.append(json.dumps(with_places(row, _place), default=_plain))
        except TypeError as error:
            said = said_by_us(error) or "its values cannot be written into a manifest"
            raise RefusedError(f"row {number}: {said}: use text, numbers, lists and dicts") from error
    if not lines:
        raise RefusedError("there are no clips to render: give at least one row")
    check_writable(folder)
    uri = join(folder, MANIFEST)
    write_bytes(("\n".join(lines) + "\n").encode(), uri)
    return uri


def _place(value: str) -> str:
    """Paths of inputs start at the current folder of this process, and not at the manifest's."""
    if not value or not is_local(value):
        return value
    try:
        return resolve(os.getcwd(), value)
    except ClipError:  # the row reports this with its error code
        return value


def _plain(value: Any) -> Any:
    """Convert numbers of NumPy, and paths."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written into a manifest")
