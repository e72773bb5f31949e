"""Pool sizes of a rendering job: automatic values are filled in and checked against the cluster."""

from dataclasses import dataclass, replace
from math import ceil

from pipeline.common.errors import ClusterError
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings


@dataclass(frozen=True)
class Pools:
    """The sizes of the actor pools, and the resources that each actor takes."""

    features: FeatureSettings
    render: EngineSettings
    qc: QcSettings
    serial: bool = False
    """Whether everything runs in one process, with one worker per stage."""

    def sizes(self) -> dict[str, int]:
        """Number of workers of each stage."""
        qc = self.qc.workers if self.qc.enabled else 0
        return {"features": self.features.workers, "render": self.render.workers, "qc": qc}

    def describe(self) -> str:
        """One line for the log."""
        if self.serial:
            return f"this process, one stage after another ({self.render.mode})"
        share = f", {self.features.num_gpus:g} GPU" if self.features.num_gpus else ""
        device = f"{self.render.num_gpus:g} GPU" if self.render.num_gpus else f"{self.render.num_cpus:g} CPU"
        text = (
            f"{self.features.workers} feature actors ({self.features.num_cpus:g} CPU{share} each), "
            f"{self.render.workers} render actors ({device} each, {self.render.mode})"
        )
        if self.qc.enabled:
            cpus = f"{self.qc.num_cpus:g} CPU each" if self.qc.num_cpus else "sharing the CPUs of the other stages"
            text += f", {self.qc.workers} quality control actors ({cpus})"
        return text


CORES_PER_GPU = {True: 25, False: 5}
"""CPU cores of feature actors that a GPU needs which renders 1,000 frames/s, if emotions are heard and if they are
named: computed from the measured rates of the encoders (models/README.md) and an assumed speed of the GPU.
"""


def starving(pools: Pools, *, heard: bool) -> str:
    """A warning if the feature actors are too few to feed the render actors; empty if they are enough.

    `heard` says that emotions are predicted from the speech.
    """
    features, render = pools.features, pools.render
    gpus, cores = render.workers * render.num_gpus, features.workers * features.num_cpus
    need = gpus * CORES_PER_GPU[heard]
    if features.num_gpus or cores >= need:
        return ""
    share = (
        "features.device=gpu features.num_gpus=0.25, or name emotions in the manifest"
        if heard
        else ("features.device=gpu features.num_gpus=0.25")
    )
    return (
        f"{cores:g} CPUs of feature actors may be too few for {gpus:g} GPUs: at 1,000 frames/s each, they need about "
        f"{need:g}. Set features.workers={ceil(need / features.num_cpus)} if there are CPUs, or {share}"
    )


UNITS_PER_SECOND = 30.0
"""Work units that a driver hands out and takes back. Each takes about 20 ms of its time, as measured with stages that
do nothing (`jobs.benchmark`); this leaves room to spare.
"""

GPU_SPEED = 40.0
"""Seconds of video that a GPU may render in a second: 1,000 frames/s, which is assumed and not measured."""


def least_unit_seconds(render: EngineSettings) -> float:
    """Seconds of audio per unit below which so many GPUs would wait for the driver."""
    return render.workers * render.num_gpus * GPU_SPEED / UNITS_PER_SECOND


SMALL_SIDE = 256
"""Models up to this side length in pixels render on CPUs where there is no GPU; larger ones must be asked to."""


def gpus_per_worker(render: EngineSettings, gpus: float, *, startable: bool, small: bool) -> float:
    """The number that render.num_gpus=-1 means on a cluster with `gpus` GPUs.

    `startable` says that its autoscaler could start some, and `small` that the model renders on CPUs fast enough.
    Raises ClusterError for a large model without GPUs.
    """
    if render.num_gpus >= 0:
        return render.num_gpus
    if render.device == "cpu":
        return 0.0
    if gpus >= 1 or startable or render.device == "cuda":
        return 1.0
    if small:
        return 0.0
    raise ClusterError(
        f"the cluster has no GPU, and a model of more than {SMALL_SIDE} px takes many CPU hours: start GPU nodes (with "
        "wait_minutes, the job waits for them), set render.num_gpus=1 if the cluster starts them by itself, or set "
        "render.device=cpu to render on CPUs"
    )


def _room(left: float, left_without_gpus: float, qc: QcSettings, by_cpu: int) -> int:
    """Actors of quality control that fit on the CPUs that are left, on nodes without GPUs if one fits there."""
    if not qc.num_cpus:
        return by_cpu
    return int((left_without_gpus if qc.num_cpus <= left_without_gpus < left else left) / qc.num_cpus)


def plan_pools(
    features: FeatureSettings,
    render: EngineSettings,
    qc: QcSettings,
    resources: dict[str, float],
    *,
    startable: bool = False,
    small: bool = True,
    cpus_of_gpu_nodes: float = 0.0,
) -> Pools:
    """Fill in the automatic values (0 workers, -1 GPUs), and check that all pools fit at the same time.

    Feature actors on GPUs get their shares first, and render actors get the rest. Quality control gets what features
    leave on the nodes without GPUs, or else anywhere. `resources` are the cluster's, as returned by
    `ray.cluster_resources()`; for `startable` and `small` see `gpus_per_worker`. Raises ClusterError.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    num_gpus = gpus_per_worker(render, gpus, startable=startable, small=small)
    by_cpu = max(1, int(cpus // 4))
    share = features.num_gpus if features.device == "gpu" else 0.0
    # Encoding speech is little work for a GPU compared with frames.
    feature_workers = min(by_cpu, max(1, int(gpus / 4 / share))) if share else by_cpu
    features = replace(features, workers=features.workers or feature_workers, num_gpus=share)
    taken = features.workers * share
    if share and num_gpus >= 1:
        taken = ceil(
            features.workers / int(1 / share)
        )  # a shared GPU is not available as a whole one for a render actor
    left = round(gpus - taken, 4)  # Ray counts in units of 1/10000
    render_workers = render.workers or (max(1, int(left / num_gpus)) if num_gpus else by_cpu)
    units = render.units_in_flight or (2 if num_gpus else 1)
    render = replace(render, workers=render_workers, num_gpus=num_gpus, units_in_flight=units)
    need_cpus = features.workers * features.num_cpus + render.workers * render.num_cpus
    if qc.enabled:
        if not qc.workers:
            room = _room(cpus - need_cpus, cpus - cpus_of_gpu_nodes - features.workers * features.num_cpus, qc, by_cpu)
            # If no CPUs are left, quality control shares those of the others: a machine with two cores must judge its
            # clips too.
            qc = replace(qc, workers=max(1, min(by_cpu, room)), num_cpus=qc.num_cpus if room > 0 else 0.0)
        need_cpus += qc.workers * qc.num_cpus
    need_gpus = round(taken + render.workers * render.num_gpus, 4)
    for what, need, have in (("CPUs", need_cpus, cpus), ("GPUs", need_gpus, gpus)):
        if need > have:
            raise ClusterError(
                f"the cluster has {have:g} {what}, but the job needs {need:g}: {features.workers} feature actors with "
                f"{features.num_cpus:g} CPUs and {share:g} GPUs each, and {render.workers} render actors with "
                f"{render.num_cpus:g} CPUs and {render.num_gpus:g} GPUs each"
                + (f", {qc.workers} quality control actors with {qc.num_cpus:g} CPUs each" if qc.enabled else "")
                + ". Add nodes, or lower features.workers, features.num_cpus, features.num_gpus "
                "(features.device=cpu needs no GPU), render.workers, render.num_cpus, render.num_gpus, "
                "qc.workers or qc.num_cpus"
            )
    return Pools(features, render, qc)
