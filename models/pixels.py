"""Images as they are stored, in bytes from 0 to 255, and as networks use them, in floats in [-1,1]."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Values = TypeVar("Values", np.ndarray, "Tensor")


def signed(values: Values) -> Values:
    """Floats from 0 to 255 -> the same in [-1,1]."""
    return values / 127.5 - 1


def to_tensor(pictures: np.ndarray, device: "torch.device | str | None" = None) -> "Tensor":
    """(n,H,W,3) uint8, or one image (H,W,3) -> (n,3,H,W) float32 in [-1,1]; the bytes are what is copied to the
    device.
    """
    import torch  # not by processes that only decode files

    pixels = torch.from_numpy(pictures).to(device=device, non_blocking=True).movedim(-1, -3)
    return signed((pixels if pixels.ndim == 4 else pixels[None]).float())


def to_images(frames: "Tensor") -> np.ndarray:
    """(n,3,H,W) in [-1,1] -> (n,H,W,3) uint8; values outside are clamped."""
    return ((frames.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
