"""Settings of the two encoders and of their training."""

from dataclasses import dataclass, field

from pipeline.common.options import SettingError, check_ranges, option
from pipeline.training_data.settings import SplitSettings

STARTS = ("content", "scratch")


@dataclass
class SizeSettings:
    """Sizes of the wav2vec2 model of each encoder."""

    hidden: int = option(96, "Width of the transformer; hidden x layers is the model's content_dim.", least=8)
    layers: int = option(3, "Number of transformer layers.", least=1)
    heads: int = option(4, "Number of attention heads.", least=1)
    channels: list[int] = option([32, 32, 48, 48, 64, 96, 96], "Channels of the seven convolutions over the waveform.")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.hidden % 8 or self.hidden % self.heads:
            raise SettingError("hidden", f"{self.hidden} is not a multiple of 8 and of heads ({self.heads})")
        if len(self.channels) != 7 or min(self.channels) < 1:
            raise SettingError("channels", f"{self.channels} must be seven numbers above 0")


@dataclass
class ContentSettings:
    """Training of the content encoder."""

    steps: int = option(1500, "Number of optimiser steps.", least=1)
    batch: int = option(16, "Speech excerpts per step.", least=1)
    seconds: float = option(2.5, "Length of an excerpt.", least=0.4, most=60)
    learning_rate: float = option(
        2e-3, "Peak learning rate of AdamW; it rises over 5 % of the steps and then falls along a cosine.", least=0
    )
    stretch: float = option(
        0.22,
        "Largest change of speed and pitch by resampling, as a share; it imitates other vocal tracts.",
        least=0,
        most=0.5,
    )
    distorted: float = option(
        1.0, "Share of the excerpts that are altered by another microphone and room, and by noise.", least=0, most=1
    )
    tract: float = option(
        0.0, "Largest change of the formants alone, as a share; it imitates other vocal tracts.", least=0, most=0.5
    )
    masks: float = option(
        0.0, "Share of the excerpts in which some bands and moments are silenced (SpecAugment).", least=0, most=1
    )
    natural: float = option(
        0.0, "Share of the excerpts that are of natural voices; 0 leaves it to the corpora.", least=0, most=0.9
    )
    begin: str = option(
        "", "content_encoder folder whose weights training starts from; empty starts from random weights."
    )
    lower_layers: float = option(
        0.3, "Weight of the loss on the layers below the last one; the renderer uses all of them.", least=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class EmotionSettings:
    """Training of the emotion classifier."""

    steps: int = option(600, "Number of optimiser steps.", least=1)
    batch: int = option(12, "Speech excerpts per step.", least=1)
    seconds: float = option(4.0, "Length of an excerpt.", least=0.4, most=60)
    learning_rate: float = option(
        1e-3, "Peak learning rate of AdamW; it rises over 5 % of the steps and then falls along a cosine.", least=0
    )
    stretch: float = option(
        0.0,
        "Largest change of speed and pitch; both carry emotion, so the default does not change them.",
        least=0,
        most=0.5,
    )
    pitch: float = option(2.0, "Weight of a frame-by-frame pitch loss, in addition to the emotion loss.", least=0)
    sharpness: float = option(
        1.0,
        "Factor on the learned logits when they are saved; above 1, the most likely emotion stands out more.",
        least=0.01,
        most=100,
    )
    start: str = option(
        "content", "Whether to start from the content encoder's weights or from random weights.", choices=STARTS
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WatchSettings:
    """What is shown and saved during training; it does not affect the result."""

    every: int = option(250, "Steps between two points of the learning curves, each with a checkpoint.", least=1)
    samples: int = option(
        48, "Held-out clips measured at each point of the learning curves; the final metrics use all of them.", least=1
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class EncoderSettings:
    """Everything that the results depend on, and `watch`."""

    seed: int = option(0, "Seed of initial weights, excerpts and noise.", least=0, most=2**31)
    size: SizeSettings = field(default_factory=SizeSettings)
    content: ContentSettings = field(default_factory=ContentSettings)
    emotion: EmotionSettings = field(default_factory=EmotionSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    held_voices: list[str] = option(
        [], "Natural voices that are held out with all their speakers, as the column voice of the corpus names them."
    )
    watch: WatchSettings = field(default_factory=WatchSettings)
