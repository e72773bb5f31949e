"""Hold the rim: what moves near the rim of the animated square is pulled back to where the picture has it.

Where the square fades into the picture, both are seen at once. A neck, hair or shoulder that has moved there would show
twice. The displacement between a decoded frame and the decoded portrait is estimated from brightness (Lucas and Kanade
1981, from coarse to fine, at 64 px), and the frame is warped by it: fully where the square fades out, not at all in the
middle of the face, and smoothly between. It follows slow changes over some hundredths of the square alone, sees none
where the picture has no texture, and cannot bring back what a turned head hides.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.face.full_frame import INNER, distance, fade

SIDE = 64
"""Side of the images that are compared, px; a smaller model's frames are compared in their own size."""
LEVELS, TURNS = 3, 3
"""Sizes from coarse to fine, each half of the next, and estimates at each of them."""
WINDOW = 3.0
"""Standard deviation of the window that a displacement is estimated in, px of each size."""
NOISE = 4.0
"""Squared gradients below this, in levels of 255, do not tell a displacement from noise."""
FARTHEST = 0.15
"""Largest displacement, in sides of the square."""
FREE = 0.3
"""Distance from the centre within which nothing is warped (as for `full_frame.INNER`)."""


class RimHolder:
    """Warps the frames of one clip."""

    def __init__(self, rest: Tensor, share: float) -> None:
        """`rest`: luma (S,S) float32 of the decoded portrait, 0 to 255. `share` as in video.hold_rim."""
        self._share, size = share, len(rest)
        side = min(SIDE, size)
        sides = [side >> (LEVELS - 1 - level) for level in range(LEVELS)]
        self._levels = [_Level(rest[None, None], side) for side in sides]
        self._weights: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def warped(self, planes: list[Tensor], luma: Tensor) -> list[Tensor]:
        """Planes (n,h,w) float32 of frames with this `luma` (n,S,S), 0 to 255 -> the same with the rim held."""
        flow = self.displacement(luma)
        return [self._warped(plane, flow) for plane in planes]

    def displacement(self, luma: Tensor) -> Tensor:
        """Where the picture's points are in frames (n,S,S): offsets x, y (n,2,L,L), in units of half the square."""
        flow = luma.new_zeros(len(luma), 2, 1, 1)
        for level in self._levels:
            flow = level.refined(luma[:, None], flow)
        return flow

    def _warped(self, plane: Tensor, flow: Tensor) -> Tensor:
        height, width = plane.shape[1:]
        if (height, width) not in self._weights:
            y, x = ((np.arange(n) + 0.5) * (2 / n) - 1 for n in (height, width))
            shares = self._share * (1 - fade(distance(x, y[:, None], (-1.0, -1.0, 2.0)), FREE, INNER))
            places = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)
            self._weights[height, width] = _sent(shares, plane), _sent(places, plane)
        weight, grid = self._weights[height, width]
        offsets = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        where = grid + (offsets * weight).permute(0, 2, 3, 1)
        return F.grid_sample(plane[:, None], where, mode="bicubic", padding_mode="border", align_corners=False)[:, 0]


class _Level:
    """One size at which frames are compared with the portrait."""

    def __init__(self, rest: Tensor, side: int) -> None:
        self._side = side
        self._rest = F.interpolate(rest, (side, side), mode="area")
        gradient = _padded(self._rest)
        self._x = (gradient[..., 1:-1, 2:] - gradient[..., 1:-1, :-2]) / 2
        self._y = (gradient[..., 2:, 1:-1] - gradient[..., :-2, 1:-1]) / 2
        places = torch.arange(side, dtype=torch.float32, device=rest.device)
        window = torch.exp(-((places[:, None] - places) ** 2) / (2 * WINDOW**2))
        self._window = window / window.sum(1, keepdim=True)
        xx, xy, yy = (self._mean(product) for product in (self._x**2, self._x * self._y, self._y**2))
        xx, yy = xx + NOISE, yy + NOISE
        scale = xx * yy - xy**2
        self._inverse = yy / scale, -xy / scale, xx / scale
        steps = (places + 0.5) * (2 / side) - 1
        self._grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)

    def _mean(self, values: Tensor) -> Tensor:
        return self._window @ values @ self._window.T

    def refined(self, luma: Tensor, flow: Tensor) -> Tensor:
        """The displacement (n,2,side,side), from a coarser one; luma is (n,1,S,S)."""
        side = self._side
        frames = F.interpolate(luma, (side, side), mode="area")
        flow = F.interpolate(flow, (side, side), mode="bilinear", align_corners=False)
        xx, xy, yy = self._inverse
        for _ in range(TURNS):
            where = self._grid + flow.permute(0, 2, 3, 1)
            seen = F.grid_sample(frames, where, mode="bilinear", padding_mode="border", align_corners=False)
            error = self._rest - seen
            # A change of brightness over the whole window is not motion.
            error = error - self._mean(error)
            x, y = self._mean(self._x * error), self._mean(self._y * error)
            step = torch.cat([xx * x + xy * y, xy * x + yy * y], dim=1) * (2 / side)
            flow = (flow + step).clamp(-2 * FARTHEST, 2 * FARTHEST)
        return self._mean(flow)


def _padded(image: Tensor) -> Tensor:
    return F.pad(image, (1, 1, 1, 1), mode="replicate")


def _sent(values: np.ndarray, to: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(to.device, non_blocking=True)
