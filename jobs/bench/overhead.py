"""The overhead of Ray itself: its start-up, its time per clip and the driver's memory, with stages that do nothing."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from jobs.bench.counting import peak_megabytes
from jobs.bench.job import Figures, say
from jobs.bench.subject import Subject
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.work_units import Units
from pipeline.common.disk_collections import Spool
from pipeline.common.stage import Pool, Resources, Stage
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.table import RowSpool
from pipeline.manifest.clip import Clip

CLIP_SECONDS = 10.0

IDLE_CLIPS = 400
"""Number of clips of a tenth of a second each that show how long render workers wait for work."""

IN_FLIGHT = 8
"""Units that a worker holds. Ray looks at its tasks ten times a second, so that one by one units that do nothing would
only show that.
"""


def measure_overhead(subject: Subject) -> Figures:
    """Ray's start-up and its time per clip, and how long render workers wait for work."""
    clips = subject.job.clips
    if not clips:
        return {}
    figures = measure_ray(clips) | measure_idle(min(clips, IDLE_CLIPS))
    for name, value in figures.items():
        say(f"  {name.replace('_', ' ')}: {value:.3g}")
    return figures


def clip(number: int) -> Clip:
    """One of many clips that differ only in their names."""
    name = f"clip-{number:07}"
    return Clip(
        number, name, "s3://bucket/portraits/speaker.png", f"s3://bucket/{name}.wav", None, 0, 10, 2.0, 1.0, 1.0, "auto"
    )


class IdleStage(Stage):
    """Does nothing with its clips; the last stage of a graph returns rows for them."""

    resources = Resources()

    def __init__(self, name: str, *, last: bool) -> None:
        self.name, self._last = name, last

    def process(self, items: Sequence[Clip]) -> Iterator[Any]:
        """The clips, or rows that say that they are done."""
        for clip in items:
            yield clip_row(clip) | {"status": "done"} if self._last else clip


class BusyStage(Stage):
    """Takes a known time for each clip, one after another as on a GPU, and tells when."""

    name, resources = "busy", Resources(0.5)  # it waits

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def setup(self) -> None:
        """One clip at a time, however many units the worker holds."""
        self._device = threading.Lock()

    def process(self, items: Sequence[Clip]) -> Iterator[Any]:
        """Rows with the begin and the end of the work on each clip."""
        for clip in items:
            with self._device:
                begin = time.time()
                time.sleep(self._seconds)
                times = {"begin": begin, "end": time.time(), "worker": os.getpid()}
            yield clip_row(clip) | {"status": "done"} | times


def measure_idle(clips: int, clip_seconds: float = 0.1, workers: int = 4) -> dict[str, float]:
    """Share of time in which workers wait for work, with two units in flight and a stage of known duration.

    Counted from a worker's first clip to the end of its last one. Ray is started on this machine, unless this process
    already uses one.
    """
    units = Units([clip(number) for number in range(1, clips + 1)], [CLIP_SECONDS] * clips, 8 * CLIP_SECONDS)
    pools = [Pool(IdleStage("features", last=False)), Pool(BusyStage(clip_seconds), workers, 2)]
    with _ray(workers):
        rows = list(RayExecutor().run(units, pools))
    by_worker: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        by_worker.setdefault(row["worker"], []).append((row["begin"], row["end"]))
    spent = sum(max(end for _, end in found) - min(begin for begin, _ in found) for found in by_worker.values())
    busy = sum(end - begin for found in by_worker.values() for begin, end in found)
    return {"ray_idle_share": 1 - busy / spent}


def measure_ray(clips: int, unit_seconds: float = 60.0) -> dict[str, float]:
    """Send clips through the graph with one actor per stage; rows are kept as in a run.

    Ray is started on this machine, unless this process already uses one.
    """
    planned: Spool[Clip] = Spool(clip(number) for number in range(1, clips + 1))
    units = Units(planned, [CLIP_SECONDS] * clips, unit_seconds)
    start = time.perf_counter()
    pools = [Pool(IdleStage("features", last=False), 1, IN_FLIGHT), Pool(IdleStage("idle", last=True), 1, IN_FLIGHT)]
    rows = RowSpool()
    first = start
    before = peak_megabytes()
    with _ray(2):
        for row in RayExecutor().run(units, pools):
            if not len(rows):
                first = time.perf_counter()
            rows.add(row)
    assert len(rows) == clips
    spent = time.perf_counter() - first
    return {
        "ray_start_up_seconds": first - start,
        "ray_milliseconds_a_clip": 1000 * spent / clips,
        "ray_milliseconds_a_unit": 1000 * spent / len(units),
        "ray_units": len(units),
        "ray_driver_growth_mb": peak_megabytes() - before,
    }


@contextmanager
def _ray(cpus: int) -> Iterator[None]:
    """Ray with so many CPUs, whatever the machine has, because its actors do next to nothing; or the one that runs."""
    if ray.is_initialized():
        yield
        return
    ray.init("local", num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
