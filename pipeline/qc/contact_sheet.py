"""The contact sheet: the frames of a clip that a person would look at first, side by side in one JPEG."""

import numpy as np

from pipeline.measure.face_track import FaceTrack
from pipeline.measure.seams import Seams
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.media.contact_sheet import Tile, contact_sheet, jpeg

SIDE = 160
"""Side length of a tile, px."""
QUALITY = 75
"""JPEG quality."""


class ContactSheet:
    """The first, middle and worst frame, and both sides of the seam with the largest change.

    The worst frame is one without a face, or otherwise the one that changed most from the previous frame. Each frame
    must be passed to `track` and `seams` first.
    """

    def __init__(self, delivery: Delivery, track: FaceTrack, seams: Seams) -> None:
        self._track, self._seams = track, seams
        self._fps, self._middle, self._borders = float(delivery.fps), delivery.frames // 2, delivery.borders
        self._tiles: dict[str, tuple[int, np.ndarray]] = {}
        self._worst = self._seam = -1.0
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
        self._before = self._tile(frame) if number + 1 in self._borders else None

    def _keep(self, name: str, frame: Frame, key: str = "") -> None:
        if key:
            self._tiles = {n: tile for n, tile in self._tiles.items() if n not in ("no face", "largest change")}
        self._tiles[name] = (frame.number, self._tile(frame))

    @staticmethod
    def _tile(frame: Frame) -> np.ndarray:
        whole = frame.whole.av_frame
        scale = SIDE / max(whole.width, whole.height)
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
        return jpeg(contact_sheet([row], side=SIDE), QUALITY)
