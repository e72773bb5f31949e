"""The contact sheet: the frames of a clip that a person would look at first, side by side in one JPEG."""

import numpy as np

from pipeline.face.full_frame import INNER, OUTER, Square, distance
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.rim import Rim
from pipeline.measure.seams import Seams
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.media.contact_sheet import Tile, contact_sheet, jpeg

SIDE = 160
"""Side length of a tile, px."""
FULL_SIDE = 320
"""Longer side of a tile with a full frame, px."""
MARGIN = 0.12
"""What is shown around the animated square, to see its edge in, as a share of its side."""
DASHES = 40
"""Number of dashes in which the mask's edge is drawn: between them it stays visible."""
EDGE = "edge of the mask"
"""Label of that tile."""
QUALITY = 75
"""JPEG quality."""


class ContactSheet:
    """The first, middle and worst frame, and both sides of the seam with the largest change.

    The worst frame is one without a face, or otherwise the one that changed most from the previous frame. Of full
    frames also the surroundings of the animated square, with the mask's edge drawn over them, where that is most
    visible. Each frame must be passed to `track`, `seams` and `rim` first.
    """

    def __init__(self, delivery: Delivery, track: FaceTrack, seams: Seams, rim: Rim) -> None:
        self._track, self._seams, self._rim = track, seams, rim
        self._fps, self._middle, self._borders = float(delivery.fps), delivery.frames // 2, delivery.borders
        self._square = None if delivery.full is None else delivery.full.square
        self.sides = _tile_of(delivery)
        """Width and height of a tile, px."""
        self._tiles: dict[str, tuple[int, np.ndarray]] = {}
        self._worst = self._seam = self._edge = -1.0
        self._before: np.ndarray | None = None

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        number, change = frame.number, self._seams.changes[-1]
        if number == 0:
            self._keep("first", frame)
        if number == self._middle:
            self._keep("middle", frame)
        badness = change + 256 * (not self._track.found)
        if badness > self._worst and number:
            self._worst = badness
            self._keep("no face" if not self._track.found else "largest change", frame, key="worst")
        if number in self._borders and change > self._seam and self._before is not None:
            self._seam = change
            self._tiles["seam before"] = (number - 1, self._before)
            self._keep("seam after", frame)
        if self._square is not None and self._rim.last is not None and self._rim.last > self._edge:
            self._edge = self._rim.last
            self._tiles[EDGE] = (number, edge_of(frame, self._square, min(self.sides)))
        self._before = self._tile(frame) if number + 1 in self._borders else None

    def _keep(self, name: str, frame: Frame, key: str = "") -> None:
        if key:
            self._tiles = {n: tile for n, tile in self._tiles.items() if n not in ("no face", "largest change")}
        self._tiles[name] = (frame.number, self._tile(frame))

    def _tile(self, frame: Frame) -> np.ndarray:
        whole = frame.whole.av_frame
        scale = min(self.sides[0] / whole.width, self.sides[1] / whole.height)
        width, height = (max(1, round(scale * side)) for side in (whole.width, whole.height))
        return whole.reformat(width=width, height=height, format="rgb24").to_ndarray()

    def labels(self) -> list[str]:
        """Labels of the tiles with their times: `first 0.00 s`."""
        return [f"{name} {number / self._fps:.2f} s" for name, (number, _) in self._tiles.items()]

    def jpeg(self) -> bytes | None:
        """All tiles in one row; None for a video without frames."""
        if not self._tiles:
            return None
        row = [Tile(picture) for _, picture in self._tiles.values()]
        return jpeg(contact_sheet([row], side=self.sides[0], height=self.sides[1]), QUALITY)


def _tile_of(delivery: Delivery) -> tuple[int, int]:
    """Width and height of a tile: that of a full frame has its aspect ratio."""
    if delivery.full is None:
        return SIDE, SIDE
    longer = max(delivery.full.width, delivery.full.height)
    width, height = (max(2, round(FULL_SIDE * side / longer)) for side in (delivery.full.width, delivery.full.height))
    return width, height


def edge_of(frame: Frame, square: Square, side: int) -> np.ndarray:
    """The animated square and what is around it, (side,side,3) uint8, with dashes where the mask begins and ends."""
    left, top, length = square
    margin = MARGIN * length
    seen = frame.whole.cut((left - margin, top - margin, length + 2 * margin)).av_frame
    picture = seen.reformat(width=side, height=side, format="rgb24").to_ndarray()
    inset = side * MARGIN / (1 + 2 * MARGIN)
    at = np.arange(side) + 0.5
    far = distance(at, at[:, None], (inset, inset, side - 2 * inset))
    pixel = 2 / (side - 2 * inset)
    dash = np.arctan2(at[:, None] - side / 2, at - side / 2) * (DASHES / np.pi) % 2 < 1
    near = np.minimum(np.abs(far - INNER), np.abs(far - OUTER)) / pixel
    picture[dash & (near < 1.5)] = 0
    picture[dash & (near < 0.6)] = 255
    return picture
