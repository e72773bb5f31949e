"""Settings of the feature stage and the render stage."""

from dataclasses import dataclass

from models.sampling import SAMPLERS
from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class FeatureSettings:
    """The feature stage: actors that fetch, decode, crop and encode speech, on CPUs unless told otherwise."""

    workers: int = option(
        0,
        "Number of actors; 0 chooses one per 4 CPUs of the cluster, at least 1; with device=gpu, no more than a "
        "quarter of the GPUs holds.",
        least=0,
    )
    num_cpus: float = option(1.0, "CPUs of each actor, and its threads.", least=1)
    device: str = option(
        "cpu", "Where speech is encoded: on the CPU or on a GPU, which leaves fewer to render.", choices=("cpu", "gpu")
    )
    num_gpus: float = option(0.25, "Share of a GPU that each actor takes where device is gpu.", least=0, most=1)
    dtype: str = option(
        "float32",
        "float32 gives a clip the same features on every node, up to rounding; bfloat16 takes half the time, with an "
        "error of about 1.5 %, and only on CPUs with AVX512-BF16 or AMX and GPUs from Ampere on.",
        choices=("float32", "bfloat16"),
    )
    window_seconds: float = option(60.0, "Speech longer than this is encoded in windows, to bound memory.", least=5)
    overlap_seconds: float = option(2.0, "Context on both sides of such a window.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.window_seconds <= 2 * self.overlap_seconds:
            raise SettingError("overlap_seconds", f"{self.overlap_seconds} is not less than half of window_seconds")
        if self.device == "gpu" and not self.num_gpus:
            raise SettingError("num_gpus", "0 leaves device=gpu without a GPU; give a share above 0")


@dataclass
class EngineSettings:
    """The render stage: GPU actors (CPU actors where the cluster has no GPU) that sample, decode and encode."""

    workers: int = option(
        0, "Number of actors; 0 chooses one per GPU, without GPUs one per 4 CPUs, at least 1.", least=0
    )
    num_cpus: float = option(1.0, "CPUs of each actor, and its threads.", least=1)
    num_gpus: float = option(-1.0, "GPUs of each actor; -1 chooses 1 where the cluster has GPUs, else 0.", least=-1)
    device: str = option(
        "auto", "auto computes on the GPU where the actor has one; cpu never does.", choices=("auto", "cuda", "cpu")
    )
    solver: str = option(
        "auto",
        "How motion is sampled: flow models by an ODE solver, diffusion models by ddim; auto takes euler or ddim.",
        choices=SAMPLERS,
    )
    tolerance: float = option(1e-3, "Error allowed in a step of dopri5; for it, nfe is the limit.", least=1e-8, most=1)
    mode: str = option(
        "auto",
        "compiled: fast modules, compiled for this machine at the first use (a minute or two, then kept on disk); "
        "eager: the same uncompiled; reference: the plain model; auto: compiled on CPUs for jobs of 5 minutes of "
        "audio per actor or more, else eager.",
        choices=("auto", "compiled", "eager", "reference"),
    )
    slots: int = option(
        0,
        "Clips that are rendered at the same time: each round samples one 2 s window of all of them in one batch; 0 "
        "chooses 8 on a GPU and 1 on a CPU, where more are not faster.",
        least=0,
    )
    units_in_flight: int = option(
        1, "Work units that a worker has at once: with 2, clips of the next unit take slots that are free.", least=1
    )
    frame_batch: int = option(0, "Frames decoded together; 0 chooses 32 on a GPU and 4 on a CPU.", least=0)
    portrait_cache: int = option(8, "Portraits whose features stay in memory (67 MB each at 512 px).", least=1)
    clip_minutes: float = option(
        240.0,
        "Longest time that a worker may spend on a clip, per stage; one that hangs is ended a minute later with its "
        "process.",
        least=0.01,
    )
    unit_seconds: float = option(
        60.0, "Audio in one work unit: what a worker takes, and what is repeated if it dies.", least=1
    )

    def __post_init__(self) -> None:
        check_ranges(self)
