"""The mouth in a model's motion latents, and its rest in the pauses of a clip.

`pipeline.render.mouth_probe` finds it, once per model and node.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from models import FLOAT
from models.fast.private_cache import private_folder
from pipeline.storage.model_cache import cache_explained, cache_folder

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the cached files."""


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


def resting_mouth(share: np.ndarray | None, model: FLOAT, key: str) -> RestingMouth | None:
    """What puts the mouth of a clip to rest; None if it never does. `key` identifies the model.

    The mouth is looked for with the first clip that needs it, and kept in the node's cache. Raises ClipError
    mouth_not_found, and RefusedError for a cache that others can write.
    """
    if share is None:
        return None
    with cache_explained():
        return RestingMouth(mouth_of(model, key, private_folder(cache_folder() / "mouths")), share)


def mouth_of(model: FLOAT, key: str, cache: Path) -> Mouth:
    """The mouth of a model from the folder `cache`, or found now. Raises ClipError mouth_not_found."""
    file = cache / f"{key[:32]}.{VERSION}.safetensors"
    if file.is_file():
        try:
            found = load_file(file)
            return Mouth(found["read"], found["write"], float(found["rest"][0]))
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s is damaged (%s): the mouth is looked for again", file, error)
    from pipeline.render.mouth_probe import found_mouth  # it imports this module

    mouth = found_mouth(model)
    parts = {"read": mouth.read, "write": mouth.write, "rest": np.array([mouth.rest], np.float32)}
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / "mouth"
        save_file(parts, fresh)
        fresh.replace(file)
    return mouth
