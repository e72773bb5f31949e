"""The sizes of a FLOAT model, and the two presets of the project."""

from dataclasses import asdict, dataclass, replace
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
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if len(self.channels) < 2:
            raise ValueError(f"channels needs at least the 4 px and 8 px entries, got {self.channels}")
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
        """Read `to_dict()` back. Raises TypeError on an unknown name."""
        return cls(**{**values, "channels": tuple(values["channels"])})
