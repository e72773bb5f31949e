"""How RGB becomes the planes of a delivered picture, on the device that has it (`pixel_layout` says how they lie)."""

import torch
from torch import Tensor

from pipeline.media.pixel_layout import YUV420P, PixelLayout


def to_planes(frames: Tensor, layout: PixelLayout, alpha: Tensor | None = None) -> Tensor:
    """RGB (N,3,H,W) in [-1,1] -> planes (N,rows,W) uint8 or uint16, on the device of `frames`.

    Chroma is filtered to its site: by [1,2,1]/4 over columns, at whose left one it lies, and by the mean of two rows.
    `alpha` (N or 1,1,H,W) in [0,1] is for layouts that have it; None is opaque. The sides must fit the layout.
    """
    n, _, height, width = frames.shape
    if not layout.fits(width, height):
        raise ValueError(f"{width} x {height} px does not fit {layout.name}")
    rgb = frames.float().clamp(-1, 1)
    luma = _luma(*rgb.unbind(1))
    # The matrix is linear, so that the colours are filtered before it, at the size of chroma.
    weights = 1
    if layout.vertical == 2:
        rgb = rgb[:, :, ::2] + rgb[:, :, 1::2]
        weights *= 2
    if layout.horizontal == 2:
        even, odd = rgb[..., ::2], rgb[..., 1::2]
        left = torch.cat([even[..., :1], odd[..., :-1]], dim=-1)  # the first column has itself to the left
        rgb = torch.add(left + odd, even, alpha=2)
        weights *= 4
    r, g, b = rgb.unbind(1)
    grey = _luma(r, g, b)
    unit = 1 << layout.bits - 8
    planes = [
        16 * unit + 219 * unit / 2 * (luma + 1),
        128 * unit + 224 * unit / 2 / weights / 1.8556 * (b - grey),
        128 * unit + 224 * unit / 2 / weights / 1.5748 * (r - grey),
    ]
    if layout.alpha:
        opaque = frames.new_ones(1, 1, height, width) if alpha is None else alpha
        planes.append((opaque.float() * ((1 << layout.bits) - 1))[:, 0].expand(n, -1, -1))
    # Torch computes with int16; its uint16 has the same bits.
    kind = torch.uint8 if layout.bits == 8 else torch.int16
    joined = torch.cat([plane.round().to(kind).flatten(1) for plane in planes], dim=1)
    joined = joined if layout.bits == 8 else joined.view(torch.uint16)
    return joined.view(n, layout.plane_rows(height), width)


def rgb_to_yuv420(frames: Tensor) -> Tensor:
    """RGB (N,3,H,W) in [-1,1] -> Y'CbCr 4:2:0 of 8 bits, uint8 (N,H*3/2,W); H and W must be even."""
    return to_planes(frames, YUV420P)


def _luma(r: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Y' of BT.709, in the range of the components."""
    return torch.add(torch.add(0.2126 * r, g, alpha=0.7152), b, alpha=0.0722)
