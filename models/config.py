"""The sizes of a FLOAT model, and the two presets of the project."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Conditioning = Literal["adaln", "cross_attention"]
Objective = Literal["flow", "epsilon", "x0"]
EmotionSource = Literal["speech", "image", "none"]
PoseCondition = Literal["none", "head"]

POSE_DIM = 6
"""Number of values in a head pose (`pipeline.face.head_pose.head_pose`): three for rotation, three for position."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Order of the emotion vector `w_e`, as in the released speech emotion classifier."""

SAMPLE_RATE = 16_000
"""Sample rate in Hz that both speech encoders expect."""

MOTION_FPS = 25
"""Frames per second of speech features and motion latents."""

SAMPLES_PER_FRAME = SAMPLE_RATE // MOTION_FPS

VARIANTS: dict[str, Any] = {
    "conditioning": Conditioning,
    "objective": Objective,
    "emotion": EmotionSource,
    "pose": PoseCondition,
}
"""Fields of `FloatConfig` that select a variant, with the type that lists the values."""

LIMITS: dict[str, tuple[int, int]] = {
    "latent_dim": (1, 8_192),
    "directions": (1, 1_024),
    "content_dim": (1, 262_144),
    "hidden_dim": (1, 16_384),
    "blocks": (1, 128),
    "heads": (1, 256),
    "mlp_ratio": (1, 32),
    "attention_radius": (0, 2_000),
    "window": (1, 1_000),
    "previous": (1, 1_000),
}
"""Field of `FloatConfig` -> its smallest and largest value. A model is built from a file that others may have written,
and must not take hours or all memory before it turns out to be none. The largest known models are far below.
"""

MAX_CHANNELS = 4_096
MAX_STAGES = 10
"""Feature maps; ten are an image of 2048 px."""


@dataclass(frozen=True)
class FloatConfig:
    """Sizes of the auto-encoder, the speech projection and the flow matching transformer (FMT).

    The defaults are those of the released weights. Shape letters used throughout `models`: B batch,
    N frames, T frames of a clip, L frames of a window, P previous frames, D latent, H hidden, S image side.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64, 32)
    """Feature channels at 4, 8, 16, ... pixels; the last entry is the image's own resolution."""
    latent_dim: int = 512
    """D: identity, motion and speech latents."""
    directions: int = 20
    """M: orthogonal motion directions."""
    content_dim: int = 9216
    """Hidden sizes of all layers of the content encoder together (wav2vec2-base: 12 x 768)."""
    hidden_dim: int = 1024
    """H: width of the transformer."""
    blocks: int = 8
    heads: int = 8
    mlp_ratio: int = 4
    attention_radius: int = 2
    """A token attends to tokens at most this far away."""
    window: int = 50
    """L: frames sampled together."""
    previous: int = 10
    """P: frames of the window before that condition the next one."""
    # The variants that the paper compares (its ablation tables); the defaults are FLOAT.
    conditioning: Conditioning = "adaln"
    """How a frame's condition enters the blocks: by its own shift, scale and gate, or by cross-attention."""
    objective: Objective = "flow"
    """What the transformer predicts: the velocity of the optimal-transport path, or, as a diffusion model
    (`models.diffusion`), the noise or the clean motion."""
    emotion: EmotionSource = "speech"
    """Where w_e comes from if no emotion is given; none: the model has no emotion condition."""
    pose: PoseCondition = "none"
    """head: the motion is also conditioned on six numbers per frame (`POSE_DIM`)."""

    def __post_init__(self) -> None:
        for name, kind in VARIANTS.items():
            if getattr(self, name) not in get_args(kind):
                found = repr(getattr(self, name))
                found = found if len(found) <= 60 else f"{found[:60]}..."
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {found}")
        for name, (least, most) in LIMITS.items():
            check_whole(name, getattr(self, name), least, most)
        if not 2 <= len(self.channels) <= MAX_STAGES:
            raise ValueError(
                f"channels needs at least the 4 px and 8 px entries and at most {MAX_STAGES}, got {len(self.channels)}"
            )
        for number, channels in enumerate(self.channels):
            check_whole(f"channels[{number}]", channels, 1, MAX_CHANNELS)
        if self.hidden_dim % self.heads:
            raise ValueError(f"hidden_dim {self.hidden_dim} is not a multiple of heads {self.heads}")
        if self.directions > self.latent_dim:
            raise ValueError(f"{self.directions} orthogonal directions do not fit into {self.latent_dim} dimensions")
        if not 0 < self.previous <= self.window:
            raise ValueError(f"previous must be in 1..window ({self.window}), got {self.previous}")

    @property
    def image_size(self) -> int:
        """S: side of the square portrait and of the frames, in pixels."""
        return 4 << (len(self.channels) - 1)

    @property
    def resolutions(self) -> list[int]:
        """Sides of the feature maps, low to high: 4, 8, ..., S."""
        return [4 << i for i in range(len(self.channels))]

    @classmethod
    def pocket(cls) -> "FloatConfig":
        """Preset for laptops, 128 px, under 7 M parameters including its encoders.

        The bundled model is this preset at 64 px.
        """
        return cls(
            channels=(96, 96, 96, 64, 32, 16),
            latent_dim=256,
            content_dim=96,
            hidden_dim=192,
            blocks=4,
            heads=4,
        )

    def resized(self, side: int) -> "FloatConfig":
        """The same model for smaller images, without its finest feature maps. Raises ValueError for other sides."""
        if side not in self.resolutions[1:]:
            raise ValueError(f"the side must be one of {', '.join(map(str, self.resolutions[1:]))}, got {side}")
        return replace(self, channels=self.channels[: self.resolutions.index(side) + 1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FloatConfig":
        """Read `to_dict()` back. Raises ValueError for unknown names and for values outside their limits."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"config has the unknown names {', '.join(unknown[:5])}")
        if not isinstance(values.get("channels"), list | tuple):
            raise ValueError("channels must be a list of numbers")
        return cls(**{**values, "channels": tuple(values["channels"])})


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise ValueError unless `value` is a whole number between `least` and `most`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {type(value).__name__}")
    if not least <= value <= most:
        found = f"{value}" if abs(value) < 10**12 else "a number of more than 12 digits"
        raise ValueError(f"{name} must be from {least} to {most}, got {found}")
