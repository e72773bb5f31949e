"""What sampling needs to know of a clip."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from models.float import window_noise
from pipeline.render.emotion_track import EmotionTrack


@dataclass(frozen=True, eq=False)
class MotionStart:
    """What a clip goes on from: the last frames of the one before it, and how many windows there were."""

    motion: np.ndarray
    """Motion latents (P,D) float32."""
    speech: np.ndarray
    """w_a (P,D) float32."""
    pose: np.ndarray
    """Head poses (P,6) float32; without a meaning for a model without that condition."""
    windows: int


@dataclass(frozen=True, eq=False)
class MotionInputs:
    """The inputs that sampling needs for a clip."""

    speech: np.ndarray
    """w_a (T,D) float32."""
    emotion: np.ndarray
    """w_e (7,) float32."""
    reference_motion: Tensor
    """r_s (D,), on the device."""
    scales: tuple[float, float, float]
    """Guidance by audio, emotion and reference motion."""
    seed: int
    nfe: int
    pose: np.ndarray | None = None
    """Head poses (T,6) float32, for a model with that condition."""
    track: EmotionTrack | None = None
    """The emotion of each frame, for a clip with spans; None: it is `emotion` all the time."""
    start: MotionStart | None = None
    """What it goes on from, for a clip of a programme that is not the first one."""

    def noise(self, window: int, length: int, dim: int) -> Tensor:
        """Noise (length,dim) of one of the clip's windows."""
        before = 0 if self.start is None else self.start.windows
        return window_noise(self.seed, before + window, length, dim)
