"""Settings of the feature stage and the render stage."""

from dataclasses import dataclass

from models.sampling import SAMPLERS
from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class FeatureSettings:
    """The feature stage: actors that fetch, decode and crop inputs and encode speech, on CPUs by default."""

    workers: int = option(
        0,
        "Number of actors; 0 uses one per 4 CPUs of the cluster, at least 1. With device=gpu, it uses no more than "
        "fit into a quarter of the GPUs.",
        least=0,
    )
    num_cpus: float = option(1.0, "CPUs and threads per actor.", least=1)
    device: str = option(
        "cpu",
        "Device that encodes speech: the CPU, or a GPU, which leaves fewer GPUs for rendering.",
        choices=("cpu", "gpu"),
    )
    num_gpus: float = option(0.25, "Share of a GPU per actor if device is gpu.", least=0, most=1)
    dtype: str = option(
        "float32",
        "float32 gives a clip the same features on every node, up to rounding; bfloat16 takes half the time with an "
        "error of about 1.5 %, and works only on CPUs with AVX512-BF16 or AMX and on GPUs from Ampere on; int8 takes "
        "less on CPUs with AVX512-VNNI; auto tries both when a worker starts, and takes one if its features differ by "
        "at most 2 % and it is at least 1.15 times as fast.",
        choices=("float32", "bfloat16", "int8", "auto"),
    )
    window_seconds: float = option(60.0, "Speech longer than this is encoded in windows, to bound memory.", least=5)
    overlap_seconds: float = option(2.0, "Context on both sides of each window.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.window_seconds <= 2 * self.overlap_seconds:
            raise SettingError("overlap_seconds", f"{self.overlap_seconds} is not less than half of window_seconds")
        if self.device == "gpu" and not self.num_gpus:
            raise SettingError("num_gpus", "device=gpu needs a GPU: give a share above 0")
        if self.device == "gpu" and self.dtype == "int8":
            raise SettingError("dtype", "int8 is only for CPUs: set features.dtype=bfloat16, or features.device=cpu")


@dataclass
class EngineSettings:
    """The render stage: GPU actors (CPU actors if the cluster has no GPU) that sample, decode and encode."""

    workers: int = option(
        0, "Number of actors; 0 uses one per GPU, or one per 4 CPUs (at least 1) if there are no GPUs.", least=0
    )
    num_cpus: float = option(1.0, "CPUs and threads per actor.", least=1)
    num_gpus: float = option(
        -1.0,
        "GPUs per actor; -1 uses 1 if the cluster has GPUs or can start some, and otherwise 0.",
        least=-1,
    )
    device: str = option(
        "auto",
        "auto uses GPUs where the cluster has or can start any, and otherwise renders on CPUs, which a model of more "
        "than 256 px refuses to do on a cluster; cuda requires a GPU; cpu never uses one.",
        choices=("auto", "cuda", "cpu"),
    )
    solver: str = option(
        "auto",
        "Sampler of the motion: an ODE solver for flow models, ddim for diffusion models; auto uses euler or ddim.",
        choices=SAMPLERS,
    )
    tolerance: float = option(
        1e-3, "Allowed error per step of dopri5, for which nfe is an upper limit.", least=1e-8, most=1
    )
    mode: str = option(
        "auto",
        "tuned measures several engines when a worker starts, and uses the fastest one that gives the same frames as "
        "the plain model (the choice is cached on disk); compiled uses optimised modules, compiled for this machine on "
        "first use (a minute or two, then cached); eager uses the same modules without compiling; reference uses the "
        "plain model; these three compute in float32. auto uses tuned on GPUs, and on CPUs for jobs with 5 minutes of "
        "audio or more per actor, and otherwise eager.",
        choices=("auto", "tuned", "compiled", "eager", "reference"),
    )
    precision: str = option(
        "auto",
        "auto lets a tuned engine use TF32, bfloat16, float16 or, on CPUs, 8-bit integers where that is faster and the "
        "worst frame of a test has at least 45 dB PSNR against float32; float32 reduces nothing, and turns TF32 off.",
        choices=("auto", "float32"),
    )
    slots: int = option(
        0,
        "Number of clips that a worker renders at the same time: each round samples one 2 s window of all of them in "
        "one batch; 0 uses 8 on a GPU and 1 on a CPU, where a larger batch is no faster.",
        least=0,
    )
    units_in_flight: int = option(
        0,
        "Number of work units that a worker holds at once; with 2, clips of the next unit use slots that become free; "
        "0 uses 2 on a GPU and 1 on a CPU.",
        least=0,
    )
    frame_batch: int = option(
        0,
        "Number of frames that are decoded together; 0 uses 4 on a CPU, and 32 or what a tuned engine finds on a GPU.",
        least=0,
    )
    portrait_cache: int = option(
        8, "Number of portraits whose features stay in memory (67 MB each at 512 px).", least=1
    )
    clip_minutes: float = option(
        240.0,
        "Time limit for a clip in each stage; a worker that hangs is ended a minute later, together with its process.",
        least=0.01,
    )
    unit_seconds: float = option(
        60.0,
        "Seconds of audio in one work unit, which is what a worker takes at a time and what is repeated if it dies. "
        "On a GPU, a unit has at least as many clips as slots; for more than 45 GPUs, units are longer.",
        least=1,
    )

    @property
    def on_gpu(self) -> bool:
        """Whether an actor computes on a GPU, once `num_gpus` is 0 or more."""
        return self.device != "cpu" and self.num_gpus > 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.device == "cuda" and not self.num_gpus:
            raise SettingError("num_gpus", "device=cuda needs a GPU: give a share above 0, or -1 for a whole one")
