"""Settings of the study (`jobs.research.study`)."""

from dataclasses import dataclass

from pipeline.common.options import SettingError, check_ranges, option
from pipeline.training_data.shards import SPLITS

PARTS = ("reconstruction", "probe", "speech", "emotion")


@dataclass
class FrameSettings:
    """Auto-encoder and probe."""

    pairs: int = option(600, "Triples of frames (source, driving, other driving), spread over the clips.", least=1)
    train_clips: int = option(200, "Clips of training speakers that the probe is fitted on.", least=1)
    clips: int = option(100, "Clips of held-out speakers that the probe is scored on.", least=1)
    per_clip: int = option(20, "Frames per clip.", least=2)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class SpeechSettings:
    """Rendered speech compared with the real video."""

    clips: int = option(24, "Held-out clips that are rendered from their first frame and their audio.", least=1)
    seconds: float = option(8.0, "Longest length of each clip.", least=1)
    side: int = option(256, "Frames are scaled to this size (bicubic) for the face landmarks, px.", least=64, most=1024)
    nfe: int = option(0, "Evaluations per window; 0 uses the model's default, as in jobs.render.", least=0, most=1000)
    audio_scale: float = option(2.0, "Strength of the guidance by speech, as in jobs.render.", least=0, most=20)
    emotion_scale: float = option(1.0, "Strength of the guidance by emotion, as in jobs.render.", least=0, most=20)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class ReaderSettings:
    """The instrument that reads blendshapes from pixels: a small network, trained on true frames of training
    speakers.
    """

    folder: str = option("", "Folder that keeps reader.safetensors, local or s3://; empty uses the output folder.")
    per_clip: int = option(40, "Frames per training clip.", least=2)
    frames: int = option(30000, "Largest number of training frames, 12 KB each.", least=100)
    epochs: int = option(12, "Number of passes over the frames.", least=1)
    batch: int = option(64, "Frames per step.", least=2)
    learning_rate: float = option(
        2e-3, "Initial learning rate of Adam, which falls to 0 along a cosine.", least=1e-6, most=1
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class EmotionSettings:
    """Emotions that are given or predicted."""

    portraits: int = option(10, "Held-out speakers, each redirected to all seven emotions.", least=1)
    heard_clips: int = option(
        84, "Held-out clips that are rendered with the emotion that the model predicts from speech.", least=1
    )
    seconds: float = option(3.0, "Longest length of each clip.", least=1)
    scale: float = option(2.0, "Strength of the guidance by emotion, whether given or predicted.", least=0, most=20)

    def __post_init__(self) -> None:
        check_ranges(self)


def check_splits(splits: list[str]) -> None:
    """Raise SettingError for invalid held-out splits."""
    allowed = SPLITS[1:]
    if not splits or not set(splits) <= set(allowed):
        raise SettingError("splits", f"{splits} is not allowed; it must be a list of {' and '.join(allowed)}")


def check_parts(parts: list[str]) -> None:
    """Raise SettingError for unknown parts."""
    if not parts or not set(parts) <= set(PARTS):
        raise SettingError("parts", f"{parts} is not allowed; it must be a list of {', '.join(PARTS)}")


@dataclass
class AblationSettings:
    """Settings under which models are compared (stage=ablations)."""

    nfe: list[int] = option([1, 2, 5, 10, 20], "Numbers of evaluations per window to compare, for flow models.")
    audio: list[float] = option([1.0, 2.0, 3.0, 4.0], "Strengths of the guidance by speech to compare.")
    emotion: list[float] = option([0.0, 1.0, 2.0, 3.0, 4.0], "Strengths of the guidance by emotion to compare.")
    every: bool = option(False, "Vary these settings for every model, and not only for the first one.")
    clips: int = option(32, "Held-out clips for which motion is sampled.", least=2)
    seconds: float = option(4.0, "Longest length of each clip.", least=1)
    portraits: int = option(12, "Number of these clips that are also sampled with each of the seven emotions.", least=1)
    train_clips: int = option(300, "Clips that the motion-code probe is fitted on.", least=2)
    pairs: int = option(
        200, "Triples of frames that each auto-encoder reconstructs; 0 skips the measurements on pixels.", least=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("nfe", "audio", "emotion"):
            values = getattr(self, name)
            if any(value < (1 if name == "nfe" else 0) for value in values):
                raise SettingError(
                    name, f"{values} is not allowed; numbers of evaluations must be 1 or more, and strengths 0 or more"
                )
