"""Frames of a training clip by their numbers."""

import io
from collections.abc import Sequence

import av
import numpy as np
import torch
from torch import Tensor

from models import MOTION_FPS


def read_frames(video: bytes, numbers: Sequence[int] | None, size: int) -> np.ndarray:
    """Frames (n,size,size,3) uint8 RGB of a clip that `jobs.prepare` wrote, in the requested order; None returns all.

    Decodes from the key frame before each. Raises IndexError for a number that the clip does not have.
    """
    with av.open(io.BytesIO(video), "r") as file:
        stream = file.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        if numbers is None:
            return np.stack([_picture(frame, size) for frame in file.decode(stream)])
        found: dict[int, np.ndarray] = {}
        assert stream.time_base is not None
        tick = 1 / (MOTION_FPS * stream.time_base)  # duration of a frame in ticks of the file
        for number in sorted(set(numbers)):
            file.seek(round(number * tick), stream=stream)
            for frame in file.decode(stream):
                if frame.pts is not None and round(frame.pts / tick) == number:
                    found[number] = _picture(frame, size)
                    break
            else:
                raise IndexError(f"the clip has no frame {number}")
        return np.stack([found[number] for number in numbers])


def _picture(frame: av.VideoFrame, size: int) -> np.ndarray:
    """AREA averages when it shrinks, so there is no aliasing. The matrix is the file's own, BT.709."""
    rgb = frame.reformat(width=size, height=size, format="rgb24", interpolation="AREA", threads=1)
    return rgb.to_ndarray()


def psnr(found: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of images (B,3,S,S) in [-1,1], clamped, inside `mask` (B,S,S) -> (B,)."""
    error = ((found.clamp(-1, 1) - wanted) / 2).square().mean(1)
    mean = error.mean((1, 2)) if mask is None else (error * mask).sum((1, 2)) / mask.sum((1, 2))
    return -10 * torch.log10(mean.clamp_min(1e-10))


def gradient_energy(pictures: Tensor, mask: Tensor | None = None) -> Tensor:
    """sum (x[i+1,j] - x[i,j])^2 + sum (x[i,j+1] - x[i,j])^2 over channels: (B,C,S,S) -> (B,).

    Inside `mask` (B,S,S), over pairs of neighbours that are both inside. Blur lowers it and noise raises it: its ratio
    to that of the truth says how sharp an image is, but not whether it is correct.
    """
    down = (pictures[:, :, 1:] - pictures[:, :, :-1]).square().sum(1)
    across = (pictures[:, :, :, 1:] - pictures[:, :, :, :-1]).square().sum(1)
    if mask is not None:
        down = down * mask[:, 1:] * mask[:, :-1]
        across = across * mask[:, :, 1:] * mask[:, :, :-1]
    return down.sum((1, 2)) + across.sum((1, 2))
