"""Every setting of a rendering job: a dataclass per part, a sentence, a default and a range per field.

The command line, YAML files and `--help` are made from these (`jobs.config`); stages take the part they need.
"""

from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from models.sampling import SAMPLERS


def option(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A dataclass field with its help sentence and its allowed values."""
    extra = {"help": text, "choices": choices, "least": least, "most": most}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=extra)
    return field(default=default, metadata=extra)


def allowed_values(metadata: Any) -> str:
    """The range of a field in words, or an empty string."""
    if metadata.get("choices"):
        return "one of " + ", ".join(filter(None, metadata["choices"]))  # an empty one means none
    least, most = metadata.get("least"), metadata.get("most")
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"{least} or more" if least is not None else ""


class SettingError(ValueError):
    """A value outside its range; `key` is the field's name inside its part."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


def is_allowed(value: Any, metadata: Any) -> bool:
    """Whether a value is among a field's choices and inside its range. NaN is in no range."""
    choices, least, most = (metadata.get(name) for name in ("choices", "least", "most"))
    if choices and value not in choices:
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def check_ranges(part: Any) -> None:
    """Raise SettingError for the first field of a dataclass that is outside its choices or range."""
    for f in fields(part):
        value = getattr(part, f.name)
        if not is_allowed(value, f.metadata):
            raise SettingError(f.name, f"{value!r} is not allowed; it must be {allowed_values(f.metadata)}")


@dataclass
class ClipDefaults:
    """What a manifest row gets where it says nothing."""

    seed: int = option(0, "Seed of the motion noise; the same seed gives the same motion.", least=0, most=2**63 - 1)
    nfe: int = option(
        0, "Evaluations of the transformer per 2 s window; 0 takes the model's: 10, diffusion 50.", least=0, most=1000
    )
    a_cfg_scale: float = option(2.0, "Guidance by speech: higher moves the mouth more.", least=0, most=20)
    e_cfg_scale: float = option(
        1.0,
        "Guidance by emotion: higher shows it more; does nothing in a model without emotion condition.",
        least=0,
        most=20,
    )
    r_cfg_scale: float = option(
        1.0, "Guidance by the portrait's own motion latent; 1 is the paper's.", least=0, most=20
    )
    crop: str = option(
        "auto", "auto finds the face and crops; none takes a square image as it is.", choices=("auto", "none")
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class Limits:
    """Bounds on inputs, checked before they are decoded where the format allows it."""

    allowed_schemes: list[str] = option(["file", "s3"], "URI schemes that inputs may use; file covers plain paths.")
    input_prefixes: list[str] = option(
        [], "Folders (absolute paths or URIs) that inputs must lie under, links followed; none allows every place."
    )
    max_file_megabytes: float = option(2000.0, "Largest input file.", least=0)
    max_image_megapixels: float = option(100.0, "Largest image.", least=0)
    min_image_side: int = option(64, "Shortest side of an image, pixels.", least=1)
    min_audio_seconds: float = option(0.1, "Shortest audio.", least=0)
    max_audio_minutes: float = option(120.0, "Longest audio.", least=0)
    allow_silence: bool = option(False, "Render digital silence too, instead of rejecting it as a mistake.")

    def __post_init__(self) -> None:
        check_ranges(self)
        for prefix in self.input_prefixes:
            scheme, separator, place = prefix.partition("://")
            # A relative path would be another folder for every worker.
            if not (prefix.startswith("/") or (separator and place and (scheme != "file" or place.startswith("/")))):
                raise SettingError(
                    "input_prefixes", f"{prefix!r} is neither an absolute path nor a URI such as s3://bucket/folder"
                )


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


@dataclass
class VideoSettings:
    """The delivered file: H.264 and AAC in MP4, BT.709, constant frame rate."""

    fps: str = option("25", "Frame rate, a number or a fraction such as 30000/1001; motion is resampled from 25.")
    encoder: str = option(
        "libx264",
        "libx264 gives the same picture on every node, with a GPU or without, so that is what a delivery is made "
        "with; h264_nvenc is the GPU's encoder (not on A100 or H100; never run by this project) and fails where there "
        "is none; auto takes it where it opens, else libx264, so that a job on mixed nodes delivers both kinds.",
        choices=("auto", "libx264", "h264_nvenc"),
    )
    encoder_threads: int = option(
        1,
        "Threads of libx264 per clip. Several clips are encoded at once: one thread each gives the most frames per "
        "CPU; 2 finish a single clip sooner.",
        least=1,
        most=64,
    )
    crf: int = option(18, "x264 quality: lower is better and larger; cq of NVENC.", least=0, most=51)
    preset: str = option(
        "veryfast",
        "x264 preset; NVENC gets p1 to p7.",
        choices=("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
    )
    audio_kbps: int = option(192, "AAC bit rate, kbit/s.", least=32, most=512)
    queue_frames: int = option(64, "Decoded frames that may wait for the encoder, per clip.", least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        parse_fps(self.fps)


@dataclass
class ProvenanceSettings:
    """Who vouches for the delivered files. All of them are marked as AI-generated; with a certificate also signed."""

    certificate: str = option(
        "",
        "Sign each file (C2PA) with this chain of certificates: a PEM file, the signer's first, at this path or "
        "URI on every node. Needs c2pa-python.",
    )
    private_key: str = option("", "The certificate's key: a PEM file (PKCS#8, no password), on every node too.")
    algorithm: str = option(
        "es256",
        "Algorithm of the key.",
        choices=("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"),
    )
    timestamp_url: str = option(
        "", "Time stamp authority (RFC 3161): signatures then stay valid when the certificate has expired."
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if bool(self.certificate) != bool(self.private_key):
            given, missing = ("certificate", "private_key")[:: 1 if self.certificate else -1]
            raise SettingError(missing, f"{given} is given, and it takes both to sign: give this too, or neither")
        if self.timestamp_url and not self.timestamp_url.startswith(("http://", "https://")):
            raise SettingError("timestamp_url", f"{self.timestamp_url!r} is not an http or https address")

    @property
    def signs(self) -> bool:
        """Whether files are signed."""
        return bool(self.certificate)


@dataclass
class ConsentSettings:
    """Whose clips are rendered only with a consent (`pipeline.consent`)."""

    speakers: list[str] = option(
        [], "Speakers (column speaker) whose clips need a consent_ref of the register; ['*'] means every clip."
    )
    register: str = option(
        "", "CSV or JSONL file, local or s3://, with the columns consent_ref, speaker, expires, revoked."
    )

    def __post_init__(self) -> None:
        if self.speakers and not self.register:
            raise SettingError("register", "speakers need a consent, and no register says who gave one: name its file")
        if self.register and not self.speakers:
            raise SettingError("speakers", "a register is given, and no speaker needs a consent: name some, or ['*']")


@dataclass
class QcSettings:
    """Quality control: CPU actors that decode and judge each delivered file."""

    enabled: bool = option(True, "Judge every delivered file; without it no clip is retaken, and the report is bare.")
    workers: int = option(0, "Number of actors; 0 chooses one per 4 CPUs of the cluster, at least 1.", least=0)
    num_cpus: float = option(
        1.0, "CPUs of each actor; where the cluster has none left for one, it shares those of the others.", least=0
    )
    max_attempts: int = option(
        2,
        "Times that a clip is rendered at most, with another seed each time, while quality control fails it for what a "
        "seed can change; the best attempt is delivered.",
        least=1,
        most=20,
    )
    thresholds: list[str] = option(
        [],
        "Limits instead of those in pipeline/qc/README.md: 'lip_correlation < 0.1 review', 'blur > off review', and "
        "maybe language=TAG or speaker=NAME after it.",
    )
    review: str = option("", "CSV file of people's verdicts (see the report); none takes review.csv of the output.")
    identity_model: str = option(
        "", "Model of face embeddings (torch.export.save), for the drift of identity; none measures none."
    )
    syncnet: str = option("", "SyncNet's weights (syncnet_v2.model), for LSE-C and LSE-D; none measures none.")

    def __post_init__(self) -> None:
        check_ranges(self)


def parse_fps(text: str) -> Fraction:
    """Frame rate as a fraction; SettingError unless it is in 1..120."""
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(
            "fps", f"{text!r} is not a frame rate; give a number or a fraction, as 25 or 30000/1001"
        ) from None
    if not 1 <= fps <= 120:
        raise SettingError("fps", f"{text!r} is not allowed; it must be 1 to 120")
    return fps
