"""The whole picture of a clip as the planes of its video."""

from dataclasses import dataclass

import numpy as np
import torch

from models.pixels import to_tensor
from pipeline.face.full_frame import FullFrame, Square, mask_of_all
from pipeline.media.pixel_layout import PixelLayout
from pipeline.media.planes import to_planes

STRIP = 256
"""Rows of a picture that become planes at once, which bounds the memory that this takes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """The whole picture of a clip as the planes of its video, made once per clip."""

    planes: np.ndarray
    """(rows,W) uint8 or uint16, as `layout` says."""
    layout: PixelLayout
    square: Square
    others: tuple[Square, ...] = ()
    """As in `FullFrame`."""

    @property
    def squares(self) -> tuple[Square, ...]:
        """All animated squares."""
        return (self.square, *self.others)

    @property
    def width(self) -> int:
        """Width of the video, px."""
        return int(self.planes.shape[1])

    @property
    def height(self) -> int:
        """Height of the video, px."""
        return self.layout.height(len(self.planes))


def picture_of(full: FullFrame, layout: PixelLayout) -> Picture:
    """A full frame as planes, on the CPU. Where the layout has alpha, it is the mask: it says what is animated."""
    parts: list[list[np.ndarray]] = []
    for top in range(0, full.height, STRIP):  # an even number of rows, which no filter crosses
        strip = full.picture[top : top + STRIP]
        alpha = None
        if layout.alpha:
            y, x = top + np.arange(len(strip)) + 0.5, np.arange(full.width) + 0.5
            alpha = torch.from_numpy(mask_of_all(x, y[:, None], full.squares))[None, None]
        parts.append(layout.split(to_planes(to_tensor(strip), layout, alpha)[0].numpy()))
    planes = np.concatenate([part.reshape(-1) for plane in zip(*parts, strict=True) for part in plane])
    return Picture(planes.reshape(-1, full.width), layout, full.square, full.others)
