"""From measured rates to CPU-hours and GPU-hours: what a manifest costs, and what limits a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from jobs.bench.job import Measurements
from models.config import MOTION_FPS
from pipeline.cluster.pools import plan_pools
from pipeline.common.limits import Limits
from pipeline.manifest.clip import Clip
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.bottleneck import limited_by
from pipeline.run.plan import estimate_seconds


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

    def feature_seconds(self, clips: int, speech: float) -> float:
        """Time of one worker for this many clips with this much speech."""
        return clips * self.load_seconds + speech / self.features

    def render_seconds(self, frames: float, nfe: float) -> float:
        """Time of one worker for this many frames, sampled with `nfe` evaluations."""
        return frames * (1 / self.end_to_end + (nfe / self.nfe - 1) / self.sampling)


def work_of(clips: Sequence[Clip], rates: Rates, fps: Fraction) -> tuple[float, float, float]:
    """(seconds of speech, time of one feature worker, time of one render worker)."""
    lengths = estimate_seconds(clips, Limits())
    render = sum(
        rates.render_seconds(length * float(fps), clip.nfe) for length, clip in zip(lengths, clips, strict=True)
    )
    return sum(lengths), rates.feature_seconds(len(clips), sum(lengths)), render


CLIP_SECONDS = 10.0
"""Length of the clips for which `describe_limit` answers."""


def describe_limit(measurements: Measurements, encoders: int) -> str:
    """What limits a feature worker and a render worker side by side, whose clips go to this many encoders at once."""
    frames = CLIP_SECONDS * MOTION_FPS
    rendering = {
        "sample_seconds": frames / measurements.rate("sampling"),
        "decode_seconds": frames / measurements.rate("decode"),
    }
    wait = max(0.0, frames / (measurements.rate("encode") * encoders) - sum(rendering.values()))
    features = {
        "load_seconds": measurements.further["load_seconds_a_clip"],
        "speech_seconds": CLIP_SECONDS / measurements.rate("features"),
    }
    limit = limited_by(features | rendering | {"encoder_wait_seconds": wait}, {"features": 1, "render": 1})
    assert limit is not None  # every stage takes time
    return f"one worker of each stage, clips of {CLIP_SECONDS:g} s: {limit.describe()}"


def describe_manifest(clips: Sequence[Clip], rates: Rates, fps: Fraction) -> str:
    """What the manifest needs, in CPU-hours and, if the rates are from a GPU, in GPU-hours."""
    speech, features, render = work_of(clips, rates, fps)
    cpus = rates.workers_cpus
    where = f"{render / 3600:.2f} GPU-hours" if rates.on_gpu else f"{render * cpus / 3600:.2f} CPU-hours"
    note = "" if rates.on_gpu else "; to estimate GPU-hours, run this on a GPU with device=cuda"
    return (
        f"{len(clips)} clips with about {speech / 3600:.2f} hours of audio (estimated from the file sizes) need\n  "
        f"features  {features * cpus / 3600:.2f} CPU-hours\n  render    {where}{note}"
    )


def describe_cluster(clips: Sequence[Clip], rates: Rates, fps: Fraction, *, cpus: int, gpus: int) -> str:
    """Which of the two stages such a cluster waits for, and for how long. Raises ClusterError if nothing fits."""
    if gpus and not rates.on_gpu:
        return (
            f"a cluster of {cpus} CPUs and {gpus} GPUs: no GPU was measured in this run; run the benchmark with "
            "device=cuda on a GPU"
        )
    pools = plan_pools(
        FeatureSettings(), EngineSettings(), QcSettings(enabled=False), {"CPU": float(cpus), "GPU": float(gpus)}
    )
    _, features, render = work_of(clips, rates, fps)
    features *= rates.workers_cpus / (pools.features.workers * pools.features.num_cpus)
    render *= 1 / pools.render.workers if gpus else rates.workers_cpus / (pools.render.workers * pools.render.num_cpus)
    limit, other = ("features", "render") if features > render else ("render", "features")
    longest, shorter = max(features, render), min(features, render)
    return (
        f"a cluster of {cpus} CPUs and {gpus} GPUs, with {pools.describe()}:\n  the {limit} stage is the bottleneck: "
        f"it takes {longest / 3600:.2f} hours, of which the {other} stage works {shorter / 3600:.2f}; a larger "
        f"{limit}.workers gives it more of the cluster (start-up time and uneven work units are not included)"
    )
