"""Settings of `jobs.prepare`: what becomes a sample, and the workers."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class ClipSettings:
    """What becomes a sample. Changing one of these prepares every video again."""

    size: int = option(512, "Side length of the square crop, px; a multiple of 4.", least=32, most=1024)
    min_seconds: float = option(3.0, "Shortest sample.", least=0.4, most=60)
    max_seconds: float = option(15.0, "Longest sample; a longer shot is cut into equal parts.", least=2, most=120)
    scale: float = option(
        1.6, "Side length of the crop, as a multiple of the face size; rendering uses 1.6.", least=1.2, most=3
    )
    min_face: int = option(
        160, "Smallest face, px in the source (the longer of brow to chin and ear to ear).", least=32
    )
    other_face: float = option(
        0.5,
        "A shot is dropped if it has a second face of at least this share of the main face's size.",
        least=0.05,
        most=1,
    )
    max_yaw: float = option(
        45.0, "Largest turn of the head to the side, degrees (98th percentile of the frames).", least=0
    )
    max_blur: float = option(
        12.0,
        "Largest edge width in the face, px (FFmpeg's blurdetect on the crop, scaled to 256 px); 0 skips this check.",
        least=0,
    )
    min_fps: float = option(20.0, "Smallest number of distinct frames per second.", least=1, most=25)
    silence_db: float = option(
        -50.0, "A part is silent if its loudest 40 ms are below this level, dBFS.", most=0, least=-90
    )
    max_av_offset_ms: float = option(
        140.0, "Largest offset between lips and audio, where it can be measured; 0 skips this check.", least=0
    )
    min_av_confidence: float = option(
        0.55,
        "Confidence from which the measured offset is trusted. Without SyncNet it is the correlation between mouth "
        "opening and audio level; samples shorter than 5 s need more (0.71 at 3 s).",
        least=0,
        most=1,
    )
    syncnet: str = option(
        "",
        "SyncNet weights (syncnet_v2.model; FILE#sha256=HEX refuses any other file) to measure the offset with; "
        "without them a coarser measure of our own is used.",
    )
    min_syncnet_confidence: float = option(3.0, "The same limit for SyncNet's confidence (LSE-C).", least=0)
    crf: int = option(
        12, "x264 quality of the stored crop: lower values give better quality and larger files.", least=0, most=51
    )
    keyframe_every: int = option(
        8,
        "Frames between two key frames; training reads single frames, which are decoded from the preceding key frame.",
        least=1,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size % 4:
            raise SettingError("size", f"{self.size} is not a multiple of 4")
        if self.max_seconds < 2 * self.min_seconds:
            # Otherwise a shot slightly longer than max_seconds could not be cut into two parts.
            raise SettingError("max_seconds", f"{self.max_seconds:g} is less than twice min_seconds")

    def parts(self) -> dict[str, Any]:
        """The values that enter a fingerprint."""
        return {f"clips.{name}": value for name, value in asdict(self).items() if name != "syncnet"}


@dataclass
class SplitSettings:
    """Which speakers are held out of training."""

    validation: float = option(0.05, "Share of the speakers in the validation split.", least=0, most=0.9)
    test: float = option(0.05, "Share of the speakers in the test split.", least=0, most=0.9)
    seed: int = option(0, "Seed of the splits; another seed holds out other speakers.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.validation + self.test >= 1:
            raise SettingError(
                "test", f"together with validation = {self.validation:g} it leaves no speaker to train on"
            )


@dataclass
class WorkerSettings:
    """The actors that do the work."""

    workers: int = option(0, "Number of actors; 0 uses as many as the CPUs (or GPUs) of the cluster allow.", least=0)
    num_cpus: float = option(1.0, "CPUs and threads per actor.", least=1)
    num_gpus: float = option(
        -1.0, "GPUs per actor for stage=latents; -1 uses 1 if the cluster has GPUs, and otherwise 0.", least=-1
    )
    unit_megabytes: float = option(20.0, "Short videos are grouped into work units of up to this size.", least=0.01)
    video_minutes: float = option(
        240.0, "Time limit for a video; a worker that hangs is ended together with its process.", least=0.01
    )

    def __post_init__(self) -> None:
        check_ranges(self)
