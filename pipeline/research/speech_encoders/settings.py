"""Settings of the two encoders and of their training."""

from dataclasses import dataclass, field

from pipeline.common.options import SettingError, check_ranges, option
from pipeline.training_data.settings import SplitSettings

STARTS = ("content", "scratch")


@dataclass
class SizeSettings:
    """Of the wav2vec2 that each encoder is."""

    hidden: int = option(96, "Width of the transformer; hidden x layers is the model's content_dim.", least=8)
    layers: int = option(3, "Layers of the transformer.", least=1)
    heads: int = option(4, "Heads of its attention.", least=1)
    channels: list[int] = option([32, 32, 48, 48, 64, 96, 96], "Channels of the seven convolutions on the sound.")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.hidden % 8 or self.hidden % self.heads:
            raise SettingError("hidden", f"{self.hidden} is not a multiple of 8 and of heads ({self.heads})")
        if len(self.channels) != 7 or min(self.channels) < 1:
            raise SettingError("channels", f"{self.channels} are not seven numbers above 0")


@dataclass
class ContentSettings:
    """Training of the content encoder."""

    steps: int = option(1500, "Optimiser steps.", least=1)
    batch: int = option(16, "Pieces of speech of a step.", least=1)
    seconds: float = option(2.5, "Length of a piece.", least=0.4, most=60)
    learning_rate: float = option(
        2e-3, "Highest, of AdamW; it rises for 5 % of the steps and falls by a cosine.", least=0
    )
    stretch: float = option(
        0.22, "Largest change of speed and pitch by resampling, as a share: other vocal tracts.", least=0, most=0.5
    )
    distorted: float = option(
        1.0, "Share of the pieces that go through another microphone and room, with noise.", least=0, most=1
    )
    begin: str = option("", "A content_encoder folder whose weights training begins with; none takes random ones.")
    lower_layers: float = option(
        0.3, "Weight of the loss of the layers below the last: the renderer uses all of them.", least=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class EmotionSettings:
    """Training of the emotion classifier."""

    steps: int = option(600, "Optimiser steps.", least=1)
    batch: int = option(12, "Pieces of speech of a step.", least=1)
    seconds: float = option(4.0, "Length of a piece.", least=0.4, most=60)
    learning_rate: float = option(
        1e-3, "Highest, of AdamW; it rises for 5 % of the steps and falls by a cosine.", least=0
    )
    stretch: float = option(
        0.0, "Largest change of speed and pitch: both carry emotion, so the default leaves them.", least=0, most=0.5
    )
    pitch: float = option(2.0, "Weight of the loss of pitch, frame by frame, beside the emotion's.", least=0)
    sharpness: float = option(
        1.0,
        "The logits that are saved are what was learned, times this: above 1, the likeliest emotion stands out more.",
        least=0.01,
        most=100,
    )
    start: str = option("content", "Begin with the content encoder's weights, or with random ones.", choices=STARTS)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WatchSettings:
    """What is shown and saved meanwhile; not part of the result."""

    every: int = option(250, "Steps between two points of the curves, each with a checkpoint.", least=1)
    samples: int = option(48, "Held-out clips that a point of the curves measures; the figures take all.", least=1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class EncoderSettings:
    """Everything that the results depend on, and `watch`."""

    seed: int = option(0, "Of initial weights, pieces and noise.", least=0, most=2**31)
    size: SizeSettings = field(default_factory=SizeSettings)
    content: ContentSettings = field(default_factory=ContentSettings)
    emotion: EmotionSettings = field(default_factory=EmotionSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
