"""The Ray Data graph. The only file that knows Ray Data.

    units --> Features: CPU actors (features.device=gpu: on shares of GPUs)
          --> Render: GPU actors (CPU actors without GPUs)
          --> Quality control: CPU actors --> status rows

Decisions, each with its reason:

- One work unit = one row = one block: Ray Data retries whole blocks, and a block of a whole manifest would repeat
  the whole night. Units are short lists of clips of similar length, the longest first.
- A unit travels as one pickled value: Arrow would infer a type for each block of nested, variable-size arrays, and
  lose tuples and None on the way. On its way in it is compressed: the driver keeps all of these until the job ends.
- Decoded frames never enter the object store; what leaves a render actor is status rows.
- Pools have a fixed size: an uncapped pool takes every CPU, and the next stage never starts.
- Retries are finite: the default for actors is infinite, and a worker that dies for a reason of its own would loop for
  ever. A clip that ends its process is found by the ledger's attempts, and left out.
"""

import logging
import pickle
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning
from ray.util.metrics import Counter, Gauge

from pipeline.engine import Engine
from pipeline.features import FeatureStage
from pipeline.ledger import Ledger
from pipeline.nodes import ClusterError, wait_for_nodes
from pipeline.qc.stage import QcStage
from pipeline.settings import EngineSettings, FeatureSettings, Limits, ProvenanceSettings, QcSettings, VideoSettings
from pipeline.status import RENDER_STEPS, STEPS, StatusRow, clip_row
from pipeline.storage import local_model
from pipeline.units import Unit

RETRIES = 10
"""Times that a unit is tried again after its worker died. The ledger's count ends this sooner, as it leaves out a clip
that two workers died with; so a unit comes to its end unless it holds many such clips."""

RESTARTS = 100
"""Times that an actor's process is started again. More than a unit's retries: one unit may use those up, and the actor
must go on with the others. Finite for a worker that dies while it starts."""


@dataclass(frozen=True)
class Pools:
    """Size of the actor pools and what each actor takes of the cluster."""

    features: FeatureSettings
    render: EngineSettings
    qc: QcSettings

    def describe(self) -> str:
        """One line for the log."""
        share = f", {self.features.num_gpus:g} GPU" if self.features.num_gpus else ""
        device = f"{self.render.num_gpus:g} GPU" if self.render.num_gpus else f"{self.render.num_cpus:g} CPU"
        text = (
            f"{self.features.workers} feature actors ({self.features.num_cpus:g} CPU{share} each), "
            f"{self.render.workers} render actors ({device} each, {self.render.mode})"
        )
        if self.qc.enabled:
            cpus = f"{self.qc.num_cpus:g} CPU each" if self.qc.num_cpus else "sharing the others' CPUs"
            text += f", {self.qc.workers} quality control actors ({cpus})"
        return text


def plan_pools(features: FeatureSettings, render: EngineSettings, qc: QcSettings, resources: dict[str, float]) -> Pools:
    """Fill in what is left to choose (0 workers, -1 GPUs) and check that the pools fit at the same time.

    Feature actors on GPUs take their shares first, render actors what is left. `resources` is what the cluster has,
    as `ray.cluster_resources()` says. Raises ClusterError.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    num_gpus = render.num_gpus if render.num_gpus >= 0 else float(gpus >= 1)
    by_cpu = max(1, int(cpus // 4))
    share = features.num_gpus if features.device == "gpu" else 0.0
    # Speech is little work for a GPU beside frames.
    feature_workers = min(by_cpu, max(1, int(gpus / 4 / share))) if share else by_cpu
    features = replace(features, workers=features.workers or feature_workers, num_gpus=share)
    taken = features.workers * share
    if share and num_gpus >= 1:
        taken = ceil(features.workers / int(1 / share))  # a GPU that is shared is no whole one for a render actor
    left = round(gpus - taken, 4)  # Ray counts in 1/10000
    render_workers = render.workers or (max(1, int(left / num_gpus)) if num_gpus else by_cpu)
    render = replace(render, workers=render_workers, num_gpus=num_gpus)
    need_cpus = features.workers * features.num_cpus + render.workers * render.num_cpus
    if qc.enabled:
        if not qc.workers:
            room = int((cpus - need_cpus) / qc.num_cpus) if qc.num_cpus else by_cpu
            # With none left it shares the others' CPUs: a machine of two cores must judge its clips too.
            qc = replace(qc, workers=max(1, min(by_cpu, room)), num_cpus=qc.num_cpus if room > 0 else 0.0)
        need_cpus += qc.workers * qc.num_cpus
    need_gpus = round(taken + render.workers * render.num_gpus, 4)
    for what, need, have in (("CPUs", need_cpus, cpus), ("GPUs", need_gpus, gpus)):
        if need > have:
            raise ClusterError(
                f"the cluster has {have:g} {what}, and the job needs {need:g}: {features.workers} feature actors with "
                f"{features.num_cpus:g} CPUs and {share:g} GPUs and {render.workers} render actors with "
                f"{render.num_cpus:g} CPUs and {render.num_gpus:g} GPUs each"
                + (f", {qc.workers} quality control actors with {qc.num_cpus:g} CPUs each" if qc.enabled else "")
                + ". Add nodes, or lower features.workers, features.num_cpus, features.num_gpus (features.device=cpu "
                "takes none), render.workers, render.num_cpus, render.num_gpus, qc.workers or qc.num_cpus"
            )
    return Pools(features, render, qc)


def wait_for_pools(features: FeatureSettings, render: EngineSettings, qc: QcSettings, minutes: float) -> Pools:
    """`plan_pools` on the connected cluster; one that is too small gets `minutes` to grow.

    A cluster that starts nodes by itself is asked for what the pools need, where the settings name their sizes.
    Raises ClusterError.
    """
    bundles: list[dict[str, float]] = []
    if features.workers and render.workers:
        share = {"GPU": features.num_gpus} if features.device == "gpu" else {}
        gpus = {"GPU": render.num_gpus} if render.num_gpus > 0 else {}
        bundles += [{"CPU": features.num_cpus} | share] * features.workers
        bundles += [{"CPU": qc.num_cpus}] * (qc.workers if qc.enabled else 0)
        bundles += [{"CPU": render.num_cpus} | gpus] * render.workers
    return wait_for_nodes(lambda resources: plan_pools(features, render, qc, resources), minutes, bundles)


class _FeatureActor:
    def __init__(
        self,
        model: str,
        settings: FeatureSettings,
        limits: Limits,
        video: VideoSettings,
        ledger: Ledger,
        clip_minutes: float,
    ) -> None:
        self._stage = FeatureStage(local_model(model), settings, limits, video, ledger, clip_minutes)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return _pack(Unit(self._stage.process(_unpack(row).items)))


class _RenderActor:
    def __init__(
        self,
        model: str,
        settings: EngineSettings,
        video: VideoSettings,
        ledger: Ledger,
        provenance: ProvenanceSettings | None = None,
    ) -> None:
        self._engine = Engine(local_model(model), settings, video, ledger, provenance)
        self._metrics = _Metrics(self._engine)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        rows = self._engine.process(_unpack(row).items)
        self._metrics.count(rows)
        return _pack(Unit(rows))


class _QcActor:
    def __init__(
        self, settings: QcSettings, limits: Limits, video: VideoSettings, ledger: Ledger, window_seconds: float
    ) -> None:
        self._stage = QcStage(settings, limits, video, ledger, window_seconds)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return _pack(Unit(self._stage.process(_unpack(row).items)))


COUNTERS = {
    "floatcast_clips": ("Clips that have ended.", ("status", "error_code")),
    "floatcast_retries": ("Times that a clip was tried again after a worker had died with it.", ()),
    "floatcast_frames": ("Frames delivered.", ()),
    "floatcast_video_seconds": ("Seconds of video delivered.", ()),
    "floatcast_stage_seconds": ("Wall-clock time that clips spent in each step.", ("step",)),
}
GAUGES = {
    "floatcast_encoder_queue_frames": "Decoded frames that wait for an encoder, per render worker.",
    "floatcast_render_idle_share": "Share of its time that a render worker did not render, since its start.",
}
"""Metrics of the render workers, which every clip's row passes through; Ray puts `ray_` before their names."""

GAUGE_SECONDS = 5.0


class _Metrics:
    """Of one render worker, on the metrics endpoint of its node. Gauges are set every few seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._start, self._busy = engine, time.monotonic(), 0.0
        self._counters = {name: Counter(name, text, tags) for name, (text, tags) in COUNTERS.items()}
        self._gauges = {name: Gauge(name, text) for name, text in GAUGES.items()}
        threading.Thread(target=self._watch, name="metrics", daemon=True).start()

    def count(self, rows: Sequence[StatusRow]) -> None:
        for row in rows:
            self._add("clips", 1, status=row["status"], error_code=row.get("error_code") or "")
            self._add("retries", (row.get("attempt") or 1) - 1)
            self._add("frames", row.get("frames"))
            self._add("video_seconds", row.get("duration"))
            for step in STEPS:
                self._add("stage_seconds", row.get(f"{step}_seconds"), step=step)
            self._busy += sum(row.get(f"{step}_seconds") or 0.0 for step in RENDER_STEPS)

    def _add(self, name: str, value: float | None, **tags: str) -> None:
        if value:  # Ray refuses to count 0
            self._counters[f"floatcast_{name}"].inc(value, tags)

    def _watch(self) -> None:
        while True:
            self._gauges["floatcast_encoder_queue_frames"].set(self._engine.queued_frames)
            share = 1 - self._busy / max(1e-9, time.monotonic() - self._start)
            self._gauges["floatcast_render_idle_share"].set(min(1.0, max(0.0, share)))
            time.sleep(GAUGE_SECONDS)


def _pool(size: int, units: int = 1) -> ActorPoolStrategy:
    # No unit waits in the queue of an actor: there it would lose a retry with every death of that actor.
    return ActorPoolStrategy(
        size=size,
        max_tasks_in_flight_per_actor=units,
        max_concurrent_calls_per_actor=units,
        enable_true_multi_threading=units > 1,
    )


def _pack(unit: Unit) -> dict[str, bytes]:
    return {"unit": pickle.dumps(unit)}


def _deflated(row: dict[str, bytes]) -> dict[str, bytes]:
    return {"unit": zlib.compress(row["unit"])}


def _unpack(row: dict[str, bytes]) -> Unit:
    data = row["unit"]
    if data[:1] != pickle.PROTO:
        data = zlib.decompress(data)
    return pickle.loads(data)  # written by this job's own processes, never by a user


@dataclass(frozen=True)
class _Stage:
    """A pool of actors."""

    actor: type
    arguments: tuple[Any, ...]
    workers: int
    num_cpus: float
    num_gpus: float = 0.0
    units: int = 1
    """That an actor works on at the same time."""


def render_clips(
    units: Sequence[Unit],
    *,
    model: str,
    ledger: Ledger,
    pools: Pools,
    limits: Limits,
    video: VideoSettings,
    window_seconds: float = 2.0,
    provenance: ProvenanceSettings | None = None,
) -> Iterator[StatusRow]:
    """Run the graph on the connected cluster; yields the status row of each clip, as units end.

    A unit that dies more often than it is retried yields nothing: compare with the plan (`plan.reconcile`).
    `window_seconds`: of the model's motion windows.
    """
    first = (model, pools.features, limits, video, ledger, pools.render.clip_minutes)
    stages = _stages(pools, (_FeatureActor, first), (_RenderActor, (model, pools.render, video, ledger, provenance)))
    if pools.qc.enabled:
        stages.append(_qc_stage(pools, limits, video, ledger, window_seconds))
    yield from _stream(units, stages)


def judge_clips(
    units: Sequence[Unit], *, ledger: Ledger, pools: Pools, limits: Limits, video: VideoSettings, window_seconds: float
) -> Iterator[StatusRow]:
    """Quality control alone, of clips that are done: units of status rows -> the same rows with their figures."""
    yield from _stream(units, [_qc_stage(pools, limits, video, ledger, window_seconds)])


class _TaskActor:
    def __init__(self, stage: type, arguments: tuple[Any, ...]) -> None:
        self._stage = stage(*arguments)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return _pack(Unit(self._stage.process(_unpack(row).items)))


def run_stage(
    units: Sequence[Unit],
    stage: type,
    arguments: tuple[Any, ...],
    *,
    workers: int = 0,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
) -> Iterator[StatusRow]:
    """One stage alone on the connected cluster: `stage(*arguments).process(items)` in `workers` actors -> their rows.

    0 workers: as many as the cluster's CPUs (and GPUs) hold, and not more than units; -1 GPUs: one where the cluster
    has any. A unit that dies more often than it is retried yields nothing. Raises ClusterError.
    """
    resources = ray.cluster_resources()
    num_gpus = num_gpus if num_gpus >= 0 else float(resources.get("GPU", 0) >= 1)
    room = []
    for what, have, need in (("CPU", resources.get("CPU", 0), num_cpus), ("GPU", resources.get("GPU", 0), num_gpus)):
        if max(workers, 1) * need > have:
            raise ClusterError(
                f"the cluster has {have:g} {what}s, and {max(workers, 1)} actors with {need:g} {what}s each need more: "
                f"lower workers or num_{what.lower()}s, or add nodes"
            )
        if need:
            room.append(int(have // need))
    workers = min(workers or min(room), max(1, len(units)))
    yield from _stream(units, [_Stage(_TaskActor, (stage, arguments), workers, num_cpus, num_gpus)])


def _qc_stage(pools: Pools, limits: Limits, video: VideoSettings, ledger: Ledger, window_seconds: float) -> _Stage:
    qc = pools.qc
    return _Stage(_QcActor, (qc, limits, video, ledger, window_seconds), qc.workers, qc.num_cpus)


class _Idle:
    """A stage that does nothing with its clips."""

    def __init__(self, last: bool) -> None:
        self._last = last

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        if not self._last:
            return row
        return _pack(Unit([clip_row(clip) | {"status": "done"} for clip in _unpack(row).items]))


def pass_clips(units: Sequence[Unit], pools: Pools) -> Iterator[StatusRow]:
    """The graph with stages that do nothing: what is left is what Ray itself takes (`jobs.benchmark`)."""
    yield from _stream(units, _stages(pools, (_Idle, (False,)), (_Idle, (True,))))


def _stages(pools: Pools, first: tuple[type, tuple[Any, ...]], second: tuple[type, tuple[Any, ...]]) -> list[_Stage]:
    features, render = pools.features, pools.render
    return [
        _Stage(*first, features.workers, features.num_cpus, features.num_gpus),
        _Stage(*second, render.workers, render.num_cpus, render.num_gpus, render.units_in_flight),
    ]


def _stream(units: Sequence[Unit], stages: Sequence[_Stage]) -> Iterator[StatusRow]:
    if not units:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False  # jobs show their own, in clips and seconds of video
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and statistics are in Ray's own log files
    # Ray 2.60 announces the end of remote arguments in `map`, and has no other way yet to bound an actor's retries.
    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    context.max_errored_blocks = -1  # a unit that keeps killing its worker must not end the others
    dataset = ray.data.from_items([_deflated(_pack(unit)) for unit in units], override_num_blocks=len(units))
    for stage in stages:
        dataset = dataset.map(
            stage.actor,
            fn_constructor_args=stage.arguments,
            compute=_pool(stage.workers, stage.units),
            num_cpus=stage.num_cpus,
            num_gpus=stage.num_gpus,
            max_restarts=RESTARTS,
            max_task_retries=RETRIES,
        )
    for row in dataset.iter_rows():
        yield from _unpack(row).items
