"""Frames compared pixel by pixel: PSNR and SSIM of luma.

Luma is Y' in full range, 0 to 255, as swscale converts it from the file's frame, so systems whose files differ in
chroma sampling are compared equally.
"""

import numpy as np
import torch

from pipeline.measure.video_pass import Frame

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
"""Constants of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (2004)."""


def luma(frame: Frame, size: tuple[int, int] | None = None) -> np.ndarray:
    """(H,W) uint8, 0 to 255; resized (swscale, bicubic) to `size` = (width, height) if necessary."""
    width, height = size or (frame.av_frame.width, frame.av_frame.height)
    return frame.av_frame.reformat(width=width, height=height, format="gray").to_ndarray()


def squared_error(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference of two frames (H,W)."""
    return float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean(dtype=np.float64))


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB for a mean squared error; infinite for 0."""
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity of two frames (H,W) with values from 0 to 255, at least 11 px high and wide.

    Windows are Gaussian, 11x11 with sigma 1.5, and lie completely inside the frame. The weights of variances sum to 1,
    and the frame is not downscaled first.
    """
    x, y = torch.from_numpy(np.stack([one, other]).astype(np.float64))  # variances are differences of large squares
    mx, my, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(found.mean())


def _blur(maps: torch.Tensor) -> torch.Tensor:
    """(N,H,W) -> (N,H-10,W-10), horizontally and then vertically: several times as fast as a one-channel
    convolution.
    """
    bell = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    for axis in (2, 1):
        length = maps.shape[axis] - WINDOW + 1
        blurred = torch.zeros_like(maps.narrow(axis, 0, length))
        for start, weight in enumerate((bell / bell.sum()).tolist()):
            blurred.add_(maps.narrow(axis, start, length), alpha=weight)
        maps = blurred
    return maps
