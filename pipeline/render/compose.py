"""Full frames: the decoded square is put back into the original picture, plane by plane, on the render device.

Only the region that the mask covers is computed and leaves the device; the encoder's thread pastes it into a copy of
the picture, whose planes are made once per clip. So neither the device nor the queue of frames holds whole pictures.
Everything is linear in Y'CbCr, so the engine's own planes are used, and full frames need no decoder of their own.
Where the mask is zero, a sample is the picture's own, bit for bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models import Portrait
from models.pixels import to_tensor
from pipeline.face.full_frame import distance, fade, mask, reach
from pipeline.media.pixel_layout import PixelLayout
from pipeline.media.planes import to_planes
from pipeline.render.hold_rim import RimHolder
from pipeline.render.picture import Picture

if TYPE_CHECKING:
    from pipeline.render.feature_stage import ClipFeatures
    from pipeline.render.model_runner import ModelRunner

MOST_PIXELS = 4_000_000
"""Pixels that are composed at once, which bounds the memory that large pictures need on the device."""
COLOUR_REACH = 1 / 8
"""Standard deviation of the filter that smooths the difference of colours at the rim, in sides of the square."""
COLOUR_BAND = 0.6
"""Distance from the centre beyond which the difference of colours is looked at (as for `full_frame.INNER`)."""


class Composer:
    """Composes the frames of one clip."""

    def __init__(self, picture: Picture, portrait: np.ndarray, rest: Tensor, *, hold_rim: float = 0.0) -> None:
        """`portrait` (S,S,3) uint8 is the square of the picture, and `rest` (1,rows,S) its planes as decoded again.

        `hold_rim` as in the settings.
        """
        self._layout = layout = picture.layout
        self._picture, device = picture, rest.device
        self._left, self._top, right, bottom = reach(picture.square, picture.width, picture.height)
        self._width, self._height = right - self._left, bottom - self._top
        region, parts = (self._left, self._top, self._width, self._height), layout.split(picture.planes)
        source, again = self._split(to_planes(to_tensor(portrait, device), layout)), self._split(rest)
        self._planes = []
        for number in range(3):
            plane = _Plane(picture, number, region, parts[number], device, len(portrait))
            plane.match(source[number][0], again[number][0])
            self._planes.append(plane)
        self._unit = 2.0 ** (8 - layout.bits)  # to levels of 8 bits
        self._holder = RimHolder(self._split(rest)[0][0] * self._unit, hold_rim) if hold_rim else None
        self._alpha: Tensor | None = None
        if layout.alpha:
            alpha = parts[3][self._top : bottom, self._left : right]
            self._alpha = torch.from_numpy(alpha.astype(np.float32)).to(device)

    def regions(self, frames: Tensor) -> Iterator[Tensor]:
        """Decoded planes (n,rows,S) -> the changed regions of the picture (m,rows,w), in parts of few frames."""
        count = max(1, MOST_PIXELS // (self._width * self._height))
        return (self._composed(part) for part in frames.split(count))

    def _composed(self, frames: Tensor) -> Tensor:
        done = self._over(frames)
        if self._alpha is not None:
            done.append(self._alpha.expand(len(frames), -1, -1))
        return _joined(done, self._layout, self._height, self._width)

    def _over(self, frames: Tensor, bases: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The planes of the region, with the frames over `bases` (n,h,w) or over the picture; float32."""
        planes = self._split(frames)[:3]
        if self._holder is not None:
            planes = self._holder.warped(planes, planes[0] * self._unit)
        grounds: Sequence[Tensor | None] = bases or (None, None, None)
        return [plane.composed(part, base) for plane, part, base in zip(self._planes, planes, grounds, strict=True)]

    def put_into(self, planes: Sequence[Tensor], left: int, top: int, frames: Tensor) -> None:
        """Put frames (n,rows,S) over the planes (n,h,w) float32 of a larger region, which begins at these pixels."""
        down, across = self._layout.vertical, self._layout.horizontal
        views = []
        for plane, (v, h) in zip(planes, ((1, 1), (down, across), (down, across)), strict=True):
            y, x = (self._top - top) // v, (self._left - left) // h
            views.append(plane[:, y : y + self._height // v, x : x + self._width // h])
        for view, done in zip(views, self._over(frames, views), strict=True):
            view.copy_(done)

    def whole(self, region: np.ndarray) -> np.ndarray:
        """One region (rows,w) on the host -> the whole frame (rows,W). A copy, because encoders may keep frames."""
        return _whole(self._picture, region, (self._left, self._top, self._width, self._height))

    def _split(self, planes: Tensor) -> list[Tensor]:
        """Planes (n,rows,w) -> each plane (n,h,w) float32."""
        n, rows, width = planes.shape
        sizes = self._layout.plane_sizes(width, self._layout.height(rows))
        flat = planes.flatten(1).split([h * w for h, w in sizes], dim=1)
        return [part.float().view(n, *size) for part, size in zip(flat, sizes, strict=True)]


class FacesComposer:
    """Composes the frames of one clip with several faces: one face after another, each over what is there then."""

    def __init__(
        self, picture: Picture, portraits: Sequence[np.ndarray], rests: Sequence[Tensor], *, hold_rim: float = 0.0
    ) -> None:
        """A portrait (S,S,3) uint8 and its decoded planes (1,rows,S) for each of the picture's squares, as for
        `Composer`.
        """
        self._picture, self._layout = picture, picture.layout
        self._faces = [
            Composer(replace(picture, square=square, others=()), portrait, rest, hold_rim=hold_rim)
            for square, portrait, rest in zip(picture.squares, portraits, rests, strict=True)
        ]
        ends = np.array([reach(square, picture.width, picture.height) for square in picture.squares])
        (left, top), (right, bottom) = ends[:, :2].min(0).tolist(), ends[:, 2:].max(0).tolist()
        self._left, self._top, self._width, self._height = left, top, right - left, bottom - top
        self._bases = []
        for part in self._layout.split(picture.planes):
            down, across = picture.height // part.shape[0], picture.width // part.shape[1]
            cut = part[top // down : bottom // down, left // across : right // across]
            self._bases.append(torch.from_numpy(cut.astype(np.float32)).to(rests[0].device, non_blocking=True))

    def regions(self, frames: Tensor) -> Iterator[Tensor]:
        """Decoded planes (faces,n,rows,S) -> the region around all squares (m,rows,w), in parts of few frames."""
        count = max(1, MOST_PIXELS // (self._width * self._height))
        return (self._composed(part) for part in frames.split(count, dim=1))

    def _composed(self, frames: Tensor) -> Tensor:
        planes = [base.expand(frames.shape[1], -1, -1).clone() for base in self._bases]
        for face, own in zip(self._faces, frames, strict=True):
            face.put_into(planes[:3], self._left, self._top, own)
        return _joined(planes, self._layout, self._height, self._width)

    def whole(self, region: np.ndarray) -> np.ndarray:
        """As for `Composer`."""
        return _whole(self._picture, region, (self._left, self._top, self._width, self._height))


def composer_of(
    item: "ClipFeatures", runner: "ModelRunner", portraits: Sequence[Portrait], hold_rim: float
) -> Composer | FacesComposer | None:
    """What composes the frames of a clip; None if its square is delivered. It decodes each portrait as one frame."""
    if item.picture is None:
        return None
    rests = [next(runner.decoded(portrait, portrait.motion, item.picture.layout)) for portrait in portraits]
    if len(rests) == 1:
        return Composer(item.picture, item.portrait, rests[0], hold_rim=hold_rim)
    return FacesComposer(item.picture, [face.portrait for face in item.faces], rests, hold_rim=hold_rim)


def composed(composer: Composer | FacesComposer | None, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches of decoded planes -> what is handed over: these themselves, or the regions of full frames."""
    return chain.from_iterable([batch] if composer is None else composer.regions(batch) for batch in batches)


class _Plane:
    """One plane of the region: how the square's samples become the picture's, and the picture's own."""

    def __init__(
        self,
        picture: Picture,
        number: int,
        region: tuple[int, int, int, int],
        whole: np.ndarray,
        device: torch.device,
        size: int,
    ) -> None:
        """`whole` is this plane (h,w) of the picture, and `region` left, top, width and height of the region, px."""
        layout, square = picture.layout, picture.square
        across, down = (layout.horizontal, layout.vertical) if number else (1, 1)
        # Chroma lies at the left one of two columns, and between two rows (`PixelLayout`).
        self._sites = (across, 0.5), (down, down / 2)
        left, top, width, height = region
        x, y = ((first + np.arange(0, length, step)) + site for (step, site), first, length in zip(
            self._sites, (left, top), (width, height), strict=True
        ))  # fmt: skip
        part = whole[top // down : (top + height) // down, left // across : (left + width) // across]

        def sent(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)

        self._base, self._mask = sent(part), sent(mask(x, y[:, None], square))
        enlarged = square[2] / size
        self._x = sent(_filter((x - square[0]) / enlarged, size // across, *self._sites[0], enlarged)).T
        self._y = sent(_filter((y - square[1]) / enlarged, size // down, *self._sites[1], enlarged))
        self._lowest, self._highest = 1 << layout.bits - 8, 254 << layout.bits - 8  # the others are for synchronisation
        self._correction: Tensor | None = None

    def match(self, source: Tensor, again: Tensor) -> None:
        """Add what the decoded portrait lacks at its rim compared with its source, both (h,w), in low frequencies."""
        height, width = source.shape
        y, x = ((np.arange(n) + 0.5) * (2 / n) - 1 for n in (height, width))
        band = 1 - fade(distance(x, y[:, None], (-1.0, -1.0, 2.0)), COLOUR_BAND, 1.0)
        weight = torch.from_numpy(band.astype(np.float32)).to(source.device)
        down, across = (_smoothing(n, source.device) for n in (height, width))
        self._correction = (down @ (weight * (source - again)) @ across) / (down @ weight @ across)

    def composed(self, square: Tensor, base: Tensor | None = None) -> Tensor:
        """The plane (n,h,w) of the decoded square -> that of the region, float32, over the picture or over `base`."""
        if self._correction is not None:
            square = square + self._correction
        scaled, base = self._y @ (square @ self._x), self._base if base is None else base
        return torch.addcmul(base, self._mask, scaled - base).clamp(self._lowest, self._highest)


def _joined(planes: Sequence[Tensor], layout: PixelLayout, height: int, width: int) -> Tensor:
    """Planes (n,h,w) float32 of a region of this size -> the region (n,rows,w) in the numbers of its layout."""
    # PyTorch computes with int16, whose bits are those of uint16.
    kind = torch.uint8 if layout.bits == 8 else torch.int16
    joined = torch.cat([part.round().to(kind).flatten(1) for part in planes], dim=1)
    joined = joined if layout.bits == 8 else joined.view(torch.uint16)
    return joined.view(len(joined), layout.plane_rows(height), width)


def _whole(picture: Picture, region: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
    """A copy of the picture's planes with a region, whose place is its left, top, width and height, px."""
    frame, (left, top, width, height) = picture.planes.copy(), place
    for target, part in zip(picture.layout.split(frame), picture.layout.split(region), strict=True):
        down, across = height // len(part), width // part.shape[1]
        y, x = top // down, left // across
        target[y : y + part.shape[0], x : x + part.shape[1]] = part
    return frame


def _smoothing(size: int, device: torch.device) -> Tensor:
    """(size,size): a Gaussian filter as a product from the left or from the right."""
    places = torch.arange(size, dtype=torch.float32, device=device)
    return torch.exp(-((places[:, None] - places) ** 2) / (2 * (COLOUR_REACH * size) ** 2))


def _filter(at: np.ndarray, count: int, step: int, site: float, enlarged: float) -> np.ndarray:
    """(len(at),count): weights of the samples of a row, at `step * k + site` px, for values at `at` px.

    Keys' cubic filter (Catmull-Rom), which is stretched where the square shrinks, so that nothing is aliased. Beyond
    the last samples these are repeated.
    """
    stretch = max(1.0, 1 / enlarged)
    centre = (at - site) / step
    taps = np.floor(centre)[:, None] + np.arange(-int(2 * stretch), int(2 * stretch) + 2)
    t = np.abs(taps - centre[:, None]) / stretch
    weights = np.where(t < 1, 1 + t * t * (1.5 * t - 2.5), np.where(t < 2, 2 - t * (4 - t * (2.5 - 0.5 * t)), 0))
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(at), count))
    np.add.at(matrix, (np.arange(len(at))[:, None], taps.clip(0, count - 1).astype(int)), weights)
    return matrix
