"""What engines are tried with: a drawn face, and made-up speech. The same everywhere, and of any model's sizes.

Random pixels and random latents would amplify rounding as no portrait does; grey and silence would hide it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models import EMOTIONS, FloatConfig, Portrait
from models.config import POSE_DIM
from models.sampling import default_nfe
from pipeline.manifest.settings import ClipDefaults
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs

NFE = {"dopri5": 1000}
"""Evaluations per solver: for dopri5 an upper limit, which is not reached."""
FEW = 4
"""A number of evaluations that all other solvers can spend."""


def drawn_face(side: int) -> np.ndarray:
    """A face with hair, eyes, nose and mouth before a shaded background: (side,side,3) uint8 RGB."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    image = np.stack([0.35 + 0.2 * y, 0.42 + 0.15 * x, 0.5 - 0.2 * y], axis=-1)

    def paint(cx: float, cy: float, rx: float, ry: float, colour: tuple[float, float, float]) -> None:
        """An ellipse with an edge two pixels wide, lit from the left."""
        distance = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        cover = np.clip((1 - distance) * min(rx, ry) * side / 2 + 0.5, 0, 1)[..., None]
        light = (1 - 0.35 * (x - cx) / rx)[..., None] * np.array(colour)
        image[:] = image * (1 - cover) + light * cover

    paint(0, 0.48, 0.42, 0.22, (0.2, 0.25, 0.4))  # shoulders
    paint(0, 0.24, 0.11, 0.18, (0.7, 0.52, 0.43))  # neck
    paint(0, -0.08, 0.28, 0.34, (0.22, 0.15, 0.1))  # hair
    paint(0, -0.01, 0.22, 0.29, (0.8, 0.62, 0.52))  # face
    for eye in (-0.09, 0.09):
        paint(eye, -0.11, 0.05, 0.012, (0.25, 0.17, 0.12))  # brow
        paint(eye, -0.06, 0.042, 0.022, (0.93, 0.92, 0.9))
        paint(eye, -0.06, 0.018, 0.02, (0.2, 0.25, 0.3))
    paint(0, 0.03, 0.03, 0.06, (0.74, 0.54, 0.45))  # nose
    paint(0, 0.14, 0.08, 0.025, (0.65, 0.3, 0.3))  # mouth
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def made_up_speech(frames: int, dim: int) -> np.ndarray:
    """Speech latents (frames,dim) float32 as the projection gives them, SiLU of unit variance, changing smoothly."""
    random = np.random.Generator(np.random.PCG64(0))
    phase, rate = random.uniform(0, 2 * np.pi, dim), random.uniform(0.5, 4, dim)  # Hz
    wave = np.sqrt(2) * np.sin(2 * np.pi * rate * np.arange(frames)[:, None] / 25 + phase)
    return (wave / (1 + np.exp(-wave))).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """One window of one clip: what a runner makes of it is compared and timed."""

    config: FloatConfig
    solver: str
    nfe: int
    """Evaluations per window."""

    @classmethod
    def of(cls, config: FloatConfig, solver: str, *, few: bool = False) -> "Probe":
        """With the evaluations of a usual clip, or with few."""
        return cls(config, solver, NFE.get(solver, FEW if few else default_nfe(config.objective)))

    def portrait(self, runner: ModelRunner) -> Portrait:
        """The drawn face, encoded."""
        return runner.portrait(drawn_face(self.config.image_size))

    def motion(self, runner: ModelRunner, slots: MotionSlots) -> Tensor:
        """Sample one window (L,D) in a batch of all slots, of which the others repeat the first.

        Raises whatever sampling raises.
        """
        config = self.config
        speech = made_up_speech(config.window, slots.speech_dim)
        pose = (
            None if config.pose == "none" else 0.1 * np.sin(np.arange(config.window)[:, None] / 8 + np.arange(POSE_DIM))
        )
        emotion = np.zeros(len(EMOTIONS), np.float32)
        if config.emotion != "none":
            emotion[EMOTIONS.index("happy")] = 1.0
        usual = ClipDefaults()  # other scales would need another compiled module
        scales = (usual.a_cfg_scale, usual.e_cfg_scale, usual.r_cfg_scale)
        start = self.portrait(runner).motion[0]
        pose = None if pose is None else pose.astype(np.float32)
        slots.admit(MotionInputs(speech, emotion, start, scales, seed=0, nfe=self.nfe, pose=pose))
        (advance,) = slots.advance()
        slots.release(advance.slot)
        if advance.error is not None:
            raise advance.error
        assert advance.motion is not None
        return advance.motion

    def frames(self, runner: ModelRunner, motion: Tensor) -> np.ndarray:
        """Frames (N,S*3/2,S) uint8 of motion (N,D)."""
        return np.concatenate(list(runner.frames(self.portrait(runner), motion)))


def spread(motion: Tensor, count: int) -> Tensor:
    """`count` of the frames of a window (L,D), at equal distances; repeated if there are fewer."""
    return motion[torch.linspace(0, len(motion) - 1, count).round().long().to(motion.device)]
