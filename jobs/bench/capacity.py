"""From measured rates to CPU-hours and GPU-hours: what a manifest costs, and what limits a cluster."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from jobs.bench.job import Results
from pipeline.cluster.pools import plan_pools
from pipeline.common.disk_collections import batched
from pipeline.common.errors import RefusedError
from pipeline.common.limits import Limits
from pipeline.common.progress import duration_text
from pipeline.manifest.clip import Clip
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.lengths import estimate_seconds

GROUP = 500
"""Clips whose lengths are asked for at a time."""

SAY_EVERY = 5.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Rates:
    """The measured rates of one worker."""

    workers_cpus: int
    """CPUs that it had; rates are taken as proportional to their number."""
    on_gpu: bool
    """Whether it rendered on a GPU."""
    features: float
    """Seconds of speech per second, including emotion."""
    load_seconds: float
    """Time to fetch, decode and crop one clip's files from local disk."""
    sampling: float
    """Frames per second at `nfe` evaluations."""
    end_to_end: float
    """Frames per second for sampling, decoding and encoding together."""
    nfe: int

    @classmethod
    def of(cls, results: Results) -> "Rates":
        """The rates of a run. Raises RefusedError if it did not measure all of them."""
        wanted = {
            "features": results.value("features", "cpu_rate") or results.value("features", "float32_rate"),
            "load_seconds": results.value("features", "load_seconds_a_clip"),
            "sampling": results.of_stage("sampling", "engine"),
            "end_to_end": results.of_stage("end_to_end", "engine"),
        }
        missing = [name.replace("_", " ") for name, value in wanted.items() if value is None]
        if missing:
            raise RefusedError(
                f"there is no plan, because this was not measured: {', '.join(missing)}; see which sections failed or "
                "were skipped, and give them more minutes="
            )
        return cls(
            workers_cpus=int(results.settings["cores"]),
            on_gpu=bool(results.settings["on_gpu"]),
            nfe=int(results.settings["nfe"]),
            **{name: value for name, value in wanted.items() if value is not None},
        )

    def feature_seconds(self, clips: int, speech: float) -> float:
        """Time of one worker for this many clips with this much speech."""
        return clips * self.load_seconds + speech / self.features

    def render_seconds(self, frames: float, nfe: float) -> float:
        """Time of one worker for this many frames, sampled with `nfe` evaluations."""
        return frames * (1 / self.end_to_end + (nfe / self.nfe - 1) / self.sampling)


@dataclass(frozen=True)
class Work:
    """What a manifest needs, at the rates of one worker of each kind."""

    clips: int
    speech: float
    """Seconds of speech, estimated from the sizes of the files."""
    features: float
    """Seconds of one feature worker."""
    render: float
    """Seconds of one render worker."""

    @classmethod
    def of(cls, clips: Sequence[Clip], lengths: Sequence[float], rates: Rates, fps: Fraction) -> "Work":
        """The work of clips with these lengths in seconds; each face of a dialogue is as much as a clip."""
        features = render = 0.0
        for clip, length in zip(clips, lengths, strict=True):
            faces = max(1, len(clip.faces))
            features += rates.feature_seconds(faces, faces * length)
            render += faces * rates.render_seconds(length * float(fps), clip.nfe)
        return cls(len(clips), sum(lengths), features, render)


def estimated_lengths(
    clips: Sequence[Clip],
    progress: Callable[[str], object],
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> list[float]:
    """Seconds of each clip, with one request per clip to the storage; says how far it is every few seconds.

    The clips are asked for in random order. After so many `seconds` the others get the mean of those that were, which
    is said.
    """
    order = random.Random(0).sample(range(len(clips)), len(clips))
    found: dict[int, float] = {}
    begun = said = clock()
    for numbers in batched(order, GROUP):
        found |= zip(numbers, estimate_seconds([clips[number] for number in numbers], Limits()), strict=True)
        now = clock()
        if len(found) < len(clips) and now - begun > seconds:
            progress(
                f"  only {len(found)} of {len(clips)} clips, in random order, could be asked for in {now - begun:.0f} "
                "s: the others are taken to be as long on average; minutes= gives more time"
            )
            break
        if now - said > SAY_EVERY:
            left = (now - begun) * (len(clips) / len(found) - 1)
            progress(f"  {len(found)} of {len(clips)} clips, ETA {duration_text(left)} ...")
            said = now
    mean = sum(found.values()) / max(1, len(found))
    return [found.get(number, mean) for number in range(len(clips))]


def hours_of(work: Work, rates: Rates) -> dict[str, tuple[float, str]]:
    """Stage -> hours that it needs, and of what: CPU, or GPU if the rates are from one."""
    cpus = rates.workers_cpus
    render = (work.render / 3600, "GPU") if rates.on_gpu else (work.render * cpus / 3600, "CPU")
    return {"features": (work.features * cpus / 3600, "CPU"), "render": render}


def describe_manifest(work: Work, rates: Rates) -> str:
    """What the manifest needs, in CPU-hours and, if the rates are from a GPU, in GPU-hours."""
    (features, cpu), (render, device) = hours_of(work, rates).values()
    note = "" if rates.on_gpu else "; to estimate GPU-hours, run this on a GPU with device=cuda"
    return (
        f"{work.clips} clips with about {work.speech / 3600:.2f} hours of audio (estimated from the file sizes) need\n"
        f"  features  {features:.2f} {cpu}-hours\n  render    {render:.2f} {device}-hours{note}"
    )


def describe_cluster(work: Work, rates: Rates, *, cpus: int, gpus: int) -> str:
    """Which of the two stages such a cluster waits for, and for how long. Raises ClusterError if nothing fits."""
    if gpus and not rates.on_gpu:
        return (
            f"a cluster of {cpus} CPUs and {gpus} GPUs: no GPU was measured in this run; run the benchmark with "
            "device=cuda on a GPU"
        )
    pools = plan_pools(
        FeatureSettings(), EngineSettings(), QcSettings(enabled=False), {"CPU": float(cpus), "GPU": float(gpus)}
    )
    features = work.features * rates.workers_cpus / (pools.features.workers * pools.features.num_cpus)
    share = 1.0 if gpus else rates.workers_cpus / pools.render.num_cpus
    render = work.render * share / pools.render.workers
    limit, other = ("features", "render") if features > render else ("render", "features")
    longest, shorter = max(features, render), min(features, render)
    return (
        f"a cluster of {cpus} CPUs and {gpus} GPUs, with {pools.describe()}:\n  the {limit} stage is the bottleneck: "
        f"it takes {longest / 3600:.2f} hours, of which the {other} stage works {shorter / 3600:.2f}; a larger "
        f"{limit}.workers gives it more of the cluster (start-up time and uneven work units are not included)"
    )
