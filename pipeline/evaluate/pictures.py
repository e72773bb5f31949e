"""Pictures compared pixel by pixel: PSNR and SSIM of luma.

Luma is Y' in full range, 0 to 255, as swscale makes it of the file's picture: systems whose files differ in chroma
sampling are compared alike.
"""

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.qc.delivery import Frame

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
"""Constants of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (2004)."""


def luma(frame: Frame, size: tuple[int, int] | None = None) -> np.ndarray:
    """(H,W) uint8, 0 to 255; resized (swscale, bicubic) to `size` = (width, height) where it has another one."""
    width, height = size or (frame.picture.width, frame.picture.height)
    return frame.picture.reformat(width=width, height=height, format="gray").to_ndarray()


def squared_error(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference of two pictures (H,W)."""
    return float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean(dtype=np.float64))


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio, dB, of a mean squared error; infinite for 0."""
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity of two pictures (H,W) of values 0 to 255, at least 11 px high and wide.

    Windows are Gaussian, 11x11 with sigma 1.5, and lie inside the picture as a whole; variances have weights that sum
    to 1, and the picture is not made smaller first.
    """
    pixels = torch.from_numpy(np.stack([one, other]).astype(np.float32))[:, None]
    x, y = pixels
    # Of values about 0 instead of 127: variances are differences of large squares.
    x, y, middle = x - PEAK / 2, y - PEAK / 2, PEAK / 2
    means = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    mx, my = means[0], means[1]
    vx, vy, cov = means[2] - mx * mx, means[3] - my * my, means[4] - mx * my
    mx, my = mx + middle, my + middle
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(found.double().mean())


def _blur(maps: torch.Tensor) -> torch.Tensor:
    """(N,1,H,W) -> (N,1,H-10,W-10)."""
    place = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-(place**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    return F.conv2d(F.conv2d(maps, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
