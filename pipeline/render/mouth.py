"""The mouth in a model's motion latents, and its rest in the pauses of a clip.

`pipeline.render.mouth_probe` finds it, once per model and node.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mouth:
    """The mouth in the motion latents of a model: with `read` (D,), `write` (D,) and `rest` all float32."""

    read: np.ndarray
    write: np.ndarray
    rest: float

    def resting(self, motion: Tensor, share: Tensor) -> Tensor:
        """Motion (n,D) with the mouth at rest by a share (n,) from 0 to 1. Where that is 0, it is exactly the same."""
        read, write = (torch.from_numpy(part).to(motion) for part in (self.read, self.write))
        return motion - (share.to(motion) * (motion @ read - self.rest))[:, None] * write


class RestingMouth:
    """Puts the mouth of one clip to rest, window by window."""

    def __init__(self, mouth: Mouth, share: np.ndarray) -> None:
        """`share` (T,) is from `rest_track`."""
        self._mouth, self._share, self._next = mouth, torch.from_numpy(share), 0

    def __call__(self, motion: Tensor) -> Tensor:
        """The clip's next frames of motion (n,D)."""
        share = self._share[self._next : self._next + len(motion)]
        self._next += len(motion)
        return self._mouth.resting(motion, share) if bool(share.any()) else motion
