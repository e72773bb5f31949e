"""Settings of `jobs.prepare`: what becomes a sample, and who does the work."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class ClipSettings:
    """What becomes a sample. Changing one of these prepares every video again."""

    size: int = option(512, "Side of the square crop, px; a multiple of 4.", least=32, most=1024)
    min_seconds: float = option(3.0, "Shortest sample.", least=1, most=60)
    max_seconds: float = option(15.0, "Longest sample; a longer shot is cut into equal parts.", least=2, most=120)
    scale: float = option(
        1.6, "Side of the crop, in sizes of the face; 1.6 is what rendering takes.", least=1.2, most=3
    )
    min_face: int = option(
        160, "Smallest face, px of the source (the longer side, brow to chin or ear to ear).", least=32
    )
    other_face: float = option(
        0.5, "A second face of this share of the first one's size is too much beside it.", least=0.05, most=1
    )
    max_yaw: float = option(45.0, "Largest turn of the head to the side, degrees (98 % of the frames).", least=0)
    max_blur: float = option(
        12.0,
        "Widest edges of the face, px (FFmpeg's blurdetect on the crop, made 256 px wide); 0 measures none.",
        least=0,
    )
    min_fps: float = option(20.0, "Fewest different pictures a second.", least=1, most=25)
    silence_db: float = option(-50.0, "A part whose loudest 40 ms are below this is silent, dBFS.", most=0, least=-90)
    max_av_offset_ms: float = option(
        140.0, "Largest offset between lips and sound, where it can be measured; 0 measures none.", least=0
    )
    min_av_confidence: float = option(
        0.55,
        "The offset is believed from this confidence on: without SyncNet the correlation of the mouth's opening with "
        "the level of the sound, of which samples below 5 s need more (0.71 at 3 s).",
        least=0,
        most=1,
    )
    syncnet: str = option(
        "", "SyncNet's weights (syncnet_v2.model), to measure the offset by; none takes our own, coarser measure."
    )
    min_syncnet_confidence: float = option(3.0, "The same for SyncNet's confidence (LSE-C).", least=0)
    crf: int = option(12, "x264 quality of the stored crop: lower is better and larger.", least=0, most=51)
    keyframe_every: int = option(
        8,
        "Frames between two key frames: training reads single frames, and decodes from the key frame before.",
        least=1,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size % 4:
            raise SettingError("size", f"{self.size} is not a multiple of 4")
        if self.max_seconds < 2 * self.min_seconds:
            # Else a shot a little longer than max_seconds could be cut into no two parts.
            raise SettingError("max_seconds", f"{self.max_seconds:g} is less than twice min_seconds")

    def parts(self) -> dict[str, Any]:
        """What a fingerprint is made of."""
        return {f"clips.{name}": value for name, value in asdict(self).items() if name != "syncnet"}


@dataclass
class SplitSettings:
    """Which speakers are held out of training."""

    validation: float = option(0.05, "Share of the speakers to validate with.", least=0, most=0.9)
    test: float = option(0.05, "Share of the speakers to test with.", least=0, most=0.9)
    seed: int = option(0, "Another seed draws other speakers.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.validation + self.test >= 1:
            raise SettingError("test", f"with validation = {self.validation:g} it leaves nobody to train with")


@dataclass
class WorkerSettings:
    """The actors that do the work."""

    workers: int = option(0, "Number of actors; 0 chooses as many as the cluster has CPUs (or GPUs) for.", least=0)
    num_cpus: float = option(1.0, "CPUs of each actor, and its threads.", least=1)
    num_gpus: float = option(
        -1.0, "GPUs of each actor of stage=latents; -1 chooses 1 where the cluster has GPUs, else 0.", least=-1
    )
    unit_megabytes: float = option(
        20.0, "Short videos that a worker takes together, until they are so large.", least=0.01
    )
    video_minutes: float = option(
        240.0, "Longest time that a worker may spend on a video; one that hangs is ended with its process.", least=0.01
    )

    def __post_init__(self) -> None:
        check_ranges(self)
