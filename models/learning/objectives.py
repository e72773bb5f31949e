"""What the transformer learns (FLOAT's phase 2): the velocity of a path from noise to motion, or a denoiser.

Everything random in a step (noise, time, dropout) is part of the batch. The loss is therefore a function of weights and
batch alone, whatever the worker, and a step can be repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.config import Objective
from models.diffusion import STEPS, noised
from models.float import FLOAT


@dataclass(frozen=True)
class MotionBatch:
    """Windows of B clips. P previous frames precede the L current ones."""

    motion: Tensor
    """Clean motion latents (B,P+L,D); zeros before a clip's first frame."""
    content: Tensor
    """Content features (B,P+L,C), before the projection."""
    emotion: Tensor
    """w_e (B,7)."""
    reference: Tensor
    """r_s (B,D): the motion latent of some frame of the clip."""
    noise: Tensor
    """x0 (B,L,D) of the path, epsilon of a diffusion."""
    time: Tensor
    """(B,), uniform in [0,1)."""
    keep: Tensor
    """(B,5) bool in the order of `CONDITIONS`: which conditions are kept."""
    pose: Tensor | None = None
    """(B,P+L,6)."""

    def to(self, device: torch.device) -> "MotionBatch":
        """The batch on another device."""
        return self._each(lambda value: value.to(device))

    def part(self, rows: slice) -> "MotionBatch":
        """Some of its samples."""
        return self._each(lambda value: value[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "MotionBatch":
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})

    def __len__(self) -> int:
        return len(self.motion)


CONDITIONS = ("reference", "emotion", "audio", "previous_motion", "previous_audio")


@dataclass(frozen=True)
class Dropout:
    """How often each condition is dropped, with independent draws; the defaults are FLOAT's.

    Guidance needs the vector field without a condition, and the first window of a clip has no previous frames. Previous
    head poses are dropped together with the previous audio. Head poses themselves are never dropped, because guidance
    keeps them in all branches.
    """

    reference: float = 0.1
    emotion: float = 0.1
    audio: float = 0.1
    previous_motion: float = 0.5
    previous_audio: float = 0.5

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """(5,) bool: the conditions that one sample keeps."""
        return generator.random(len(CONDITIONS)) >= np.array([getattr(self, name) for name in CONDITIONS])


@dataclass(frozen=True)
class MotionWeights:
    """The weights of the loss terms; the defaults are FLOAT's."""

    motion: float = 1.0
    """||prediction - target||_1 on the window."""
    prefix: float = 1.0
    """||prediction - previous motion||_1 on the previous tokens, which should reproduce their inputs."""
    velocity: float = 1.0
    """||delta prediction - delta target||_1, delta the difference of one frame."""


def path(objective: Objective, motion: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A point between noise and motion and what the model should say there.

    Args: motion x1 and noise x0 (B,L,D), time (B,) in [0,1).
    Returns: (x_t (B,L,D), t (B,) as the transformer takes it, target (B,L,D)):

        flow:     x_t = (1 - t) x0 + t x1, target x1 - x0 (optimal transport path, Lipman et al., arXiv 2210.02747)
        epsilon:  x_k = sqrt(a_k) x1 + sqrt(1 - a_k) x0, k = floor(500 time), target x0
        x0:       the same point, target x1
    """
    if objective == "flow":
        t = time[:, None, None]
        return (1 - t) * noise + t * motion, time, motion - noise
    step = (time * STEPS).long()
    target = noise if objective == "epsilon" else motion
    return noised(motion, noise, step), step.to(time), target


class MotionObjective(nn.Module):
    """Transformer and speech projection of a model, with their loss.

    These two are trained; everything else is frozen.
    """

    def __init__(self, model: FLOAT, weights: MotionWeights | None = None) -> None:
        super().__init__()
        self.config, self.weights = model.config, weights or MotionWeights()
        self.transformer, self.projection = model.transformer, model.speech_projection

    def forward(self, batch: MotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each sample (B,), weighted, and its terms (B,), unweighted and detached."""
        previous = self.config.previous
        keep = {name: batch.keep[:, i].to(batch.motion) for i, name in enumerate(CONDITIONS)}
        given = batch.motion[:, :previous] * keep["previous_motion"][:, None, None]
        motion = batch.motion[:, previous:]
        speech = self.projection(batch.content)
        x, t, target = path(self.config.objective, motion, batch.noise, batch.time)
        poses = {}
        if batch.pose is not None:
            heard = keep["previous_audio"][:, None, None]
            poses = {"pose": batch.pose[:, previous:], "previous_pose": batch.pose[:, :previous] * heard}
        found = self.transformer(
            x,
            t,
            speech=speech[:, previous:] * keep["audio"][:, None, None],
            emotion=batch.emotion * keep["emotion"][:, None],
            reference_motion=batch.reference * keep["reference"][:, None],
            previous_motion=given,
            previous_speech=speech[:, :previous] * keep["previous_audio"][:, None, None],
            **poses,
        ).float()
        terms = {
            "motion": _l1(found[:, previous:], target),
            "prefix": _l1(found[:, :previous], given),
            "velocity": _l1(found[:, previous:].diff(dim=1), target.diff(dim=1)),
        }
        total = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum(0)
        return total, {name: value.detach() for name, value in terms.items()}


def _l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over all but the batch: (B,...) x 2 -> (B,)."""
    return (found - wanted).abs().flatten(1).mean(1)
