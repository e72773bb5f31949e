"""The frames of a video -> candidates. Every frame is in exactly one, and each is accepted or dropped as a whole."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from models import MOTION_FPS
from pipeline.training_data.cuts import with_cuts
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.sound import Sound
from pipeline.training_data.source_video import SourceFrame
from pipeline.training_data.track import Look, Tracker


@dataclass(frozen=True, eq=False)
class Candidate:
    """Frames `first` to `last` (exclusive, at 25 per second) of one shot, with one face in all of them, or in none."""

    first: int
    last: int
    shot_frames: int
    """Number of frames of the whole shot that contains it."""
    shot_has_face: bool
    heard: bool
    """Whether there is audio."""
    faces: np.ndarray | None
    """(T, track.WIDTH) float32; None if there is no face."""
    looks: list[Look]
    pictures: int
    """Number of distinct frames of the source, which is smaller than that of the frames if some repeat."""
    width: int
    height: int
    """Height of the source when upright, px."""

    @property
    def frames(self) -> int:
        """T."""
        return self.last - self.first

    @property
    def thumbnail(self) -> bytes | None:
        """JPEG of a whole frame near the middle."""
        middle = (self.first + self.last) / 2
        near = min(self.looks, key=lambda look: abs(look.frame - middle), default=None)
        return near.thumbnail if near else None


@dataclass
class _Shot:
    sound: Sound
    first: int
    width: int
    height: int
    faces: list[np.ndarray | None] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    """Frames of the shot at which a new track begins."""
    looks: list[Look] = field(default_factory=list)

    def runs(self) -> Iterator[tuple[int, int, bool]]:
        """Runs of frames with one face and audio, with one face and no audio, or without a face.

        The last value says whether there is audio.
        """
        start = 0
        for number in range(1, len(self.faces) + 1):
            ends = number == len(self.faces)
            if ends or number in self.begins or (self.faces[number] is None) != (self.faces[start] is None):
                heard = self.sound.heard(self.first + start, self.first + number)
                borders = [0, *(np.flatnonzero(np.diff(heard)) + 1).tolist(), number - start]
                if self.faces[start] is None:
                    yield start, number, bool(heard.any())
                else:
                    yield from ((start + a, start + b, bool(heard[a])) for a, b in pairwise(borders))
                start = number


def candidates(
    pictures: Iterable[tuple[int, SourceFrame]], sound: Sound, tracker: Tracker, settings: ClipSettings
) -> Iterator[Candidate]:
    """Yield candidates one after another, as their shots end."""
    shot: _Shot | None = None
    for number, picture, begins in with_cuts(pictures):
        face, new, look = tracker.frame(number, picture, begins)
        if begins or shot is None:
            if shot is not None:
                yield from _of_shot(shot, settings)
            height, width, _ = picture.rgb.shape
            shot = _Shot(sound, number, width, height)
        elif new:
            shot.begins.append(number - shot.first)
        if look is not None:
            shot.looks.append(look)
        shot.faces.append(face)
        shot.sources.append(picture.index)
    if shot is not None:
        yield from _of_shot(shot, settings)


def _of_shot(shot: _Shot, settings: ClipSettings) -> Iterator[Candidate]:
    least, most = least_frames(settings), int(settings.max_seconds * MOTION_FPS)
    frames = len(shot.faces)
    has_face = any(face is not None for face in shot.faces)
    runs = [(0, frames, True)] if frames < least else list(shot.runs())
    for start, end, heard in runs:
        parts = 1 if shot.faces[start] is None or not heard else -(-(end - start) // most)
        edges = [start + i * (end - start) // parts for i in range(parts + 1)]
        for first, last in pairwise(edges):
            faces = [face for face in shot.faces[first:last] if face is not None]
            yield Candidate(
                first=shot.first + first,
                last=shot.first + last,
                shot_frames=frames,
                shot_has_face=has_face,
                heard=heard,
                faces=np.stack(faces) if len(faces) == last - first else None,
                looks=[look for look in shot.looks if first <= look.frame - shot.first < last],
                pictures=len(set(shot.sources[first:last])),
                width=shot.width,
                height=shot.height,
            )


def least_frames(settings: ClipSettings) -> int:
    """Minimum number of frames of a sample."""
    return math.ceil(settings.min_seconds * MOTION_FPS)
