"""A video as training sees it: 25 frames per second by their timestamps, and its audio on the same timeline.

It is read as a stream: a few frames are in memory at a time, and the audio as 16 kHz mono (115 MB per hour).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from models import MOTION_FPS
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.deinterlace import deinterlaced
from pipeline.media.frame_orientation import upright, upright_size
from pipeline.media.video_reader import HDR, Problem, VideoError, open_video
from pipeline.storage.untrusted import input_file
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.sound import Sound, read_sound

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts")
"""Suffixes of the files that count as videos when a folder is listed."""

_REASONS: dict[Problem, str] = {
    "unreadable": "unreadable",
    "cut_short": "unreadable",
    "too_many_pixels": "too_many_pixels",
    "too_long": "too_long",
}


@contextmanager
def local_file(uri: str, limits: Limits) -> Iterator[Path]:
    """The video as a local file: itself, or a copy for as long as the context lasts. Raises Dropped."""
    with ExitStack() as stack:
        try:
            path = stack.enter_context(input_file(uri, limits))
        except ClipError as error:
            raise Dropped.of(error) from error
        yield path


class SourceFrame:
    """A frame of the source. Expensive conversions are made once, when they are first needed."""

    def __init__(self, index: int, frame: av.VideoFrame, shape: tuple[int, int]) -> None:
        self.index, self._frame, self._shape = index, frame, shape

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H,W,3) uint8, upright, with square pixels."""
        return upright(self._frame, self._shape)

    @cached_property
    def small(self) -> np.ndarray:
        """(32,32,3) uint8 of the frame, whatever its aspect ratio: enough to detect a cut."""
        return upright(self._frame, (32, 32), "AREA")


class SourceVideo:
    """A local video. It is read anew for its sound and by each use of `pictures`."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits

    @cached_property
    def origin(self) -> Fraction:
        """Time stamp of the first frame, s: its sound and its frames count from there. Raises Dropped."""
        with _dropping(), open_video(self._path, self._limits) as film:
            return next(film.timed())[0]

    def sound(self, language: str | None = None) -> Sound:
        """The audio, of several streams preferably that of the `language`. Raises Dropped as `read_sound` does."""
        return read_sound(self._path, self.origin, self._limits, language)

    def pictures(self) -> Iterator[tuple[int, SourceFrame]]:
        """(n, frame shown at n / 25 s) from 0 on: the frame with the nearest time, so a frame may occur twice.

        Raises Dropped: unreadable, too_many_pixels, too_long, hdr.
        """
        number, step = 0, Fraction(1, MOTION_FPS)
        before: tuple[Fraction, SourceFrame] | None = None
        lasts = step
        with _dropping(), open_video(self._path, self._limits) as film:
            for index, (stamp, frame) in enumerate(deinterlaced(film.timed())):
                if frame.color_trc in HDR:
                    raise Dropped("hdr", "the video is HDR (PQ or HLG): convert it to SDR in BT.709")
                time = stamp - self.origin
                lasts = (frame.duration or 0) * (frame.time_base or Fraction(0)) or step
                picture = SourceFrame(index, frame, upright_size(frame, film.stream.sample_aspect_ratio))
                if before is not None:
                    if time <= before[0]:
                        continue
                    while number * step <= (before[0] + time) / 2:
                        yield number, before[1]
                        number += 1
                before = (time, picture)
        if before is not None:
            while number * step < before[0] + lasts - step / 2:
                yield number, before[1]
                number += 1


@contextmanager
def _dropping() -> Iterator[None]:
    """Errors of the reader as reasons."""
    try:
        yield
    except VideoError as error:
        raise Dropped(_REASONS[error.problem], str(error)) from error
