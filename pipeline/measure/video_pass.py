"""What is measured: a delivered file and its inputs, and the pass over its frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import numpy as np

from models import MOTION_FPS
from pipeline.common.child_main import tell_decoded
from pipeline.face.full_frame import FullFrame, Square
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.measure.metric import Measured
from pipeline.media.mix import Voice
from pipeline.media.presets import WEB, FileFormat
from pipeline.media.slot import Slot
from pipeline.media.sound_output import TrackTags


class Feelings(NamedTuple):
    """The emotions of a clip that has spans of them."""

    spans: tuple[EmotionSpan, ...]
    """In the order of time."""
    fade: float
    """Length of the cross-fades at their ends, s."""
    elsewhere: Mapping[str, float]
    """Weights by emotion outside of the spans."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """A file and its expected properties."""

    path: Path
    fps: Fraction
    frames: int
    """Number of frames that the audio needs, ceil(duration * fps), or that the slot has."""
    size: int | tuple[int, int]
    """Side length of square frames, or width and height, px."""
    source: bytes | None = None
    """The audio file from which the clip was made; None if it is not available any more."""
    portrait: np.ndarray | None = None
    """(S,S,3) uint8 RGB, cropped as for the model."""
    window_seconds: float = 2.0
    """Length of the windows in which motion is sampled."""
    full: FullFrame | None = None
    """The picture as it was before the square was put into it; None if the square is what was delivered."""
    upscale: float | None = None
    """By how much the model's frames were enlarged for it."""
    format: FileFormat = WEB
    """What kind of file it has to be."""
    language: str | None = None
    """Language (BCP 47) of the clip, which decides among several streams of its source."""
    audio_stream: str | None = None
    """The stream that the row names, as for `SoundReader`; None if it names none."""
    heard: float = float("inf")
    """Length of the source, s; what follows in a slot that is longer is silence that was added."""
    tracks: tuple[TrackTags, ...] = ()
    """Further audio tracks that the file has to have."""
    slot: Slot | None = None
    """The slot to whose length the source was cut or extended, if the clip has one."""
    feelings: Feelings | None = None
    """Its emotions, if they change by span."""
    faces: "tuple[Delivery, ...]" = ()
    """For a clip with several faces: the same file for each of them, with its own portrait and square, and with its own
    sound as the source (None if it is idle).
    """
    voices: tuple[Voice, ...] = ()
    """The sounds of such a clip, whose mix stands for the source; empty if one of them is not available any more."""

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height, px."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @cached_property
    def borders(self) -> frozenset[int]:
        """Numbers of the frames that start a new window, except for the first window."""
        per_window = self.window_seconds * self.fps
        count = int(self.frames / per_window)
        return frozenset(-int(-(k * per_window) // 1) for k in range(1, count + 1) if k * per_window < self.frames)


LARGEST_SQUARE = 512
"""The animated square of a full frame is scaled down to this, px: limits of metrics were found for such frames."""


class Frame:
    """A decoded frame as yuv420p. Expensive conversions are made once, when they are first needed."""

    def __init__(self, number: int, av_frame: av.VideoFrame, whole: "Frame | None" = None) -> None:
        if av_frame.format.name != "yuv420p":  # of another preset, or a fault of its own
            av_frame = av_frame.reformat(format="yuv420p")
        self.number, self.av_frame = number, av_frame
        self.whole = whole or self
        """The full frame of which this is the animated square; the frame itself where there is no more."""

    def cut(self, square: Square) -> "Frame":
        """The animated square of this frame, as the model's frames are delivered without the picture around them.

        Where it leaves the frame, border pixels are repeated, as in the crop.
        """
        left, top = (2 * round(start / 2) for start in square[:2])
        side = max(4, 4 * round(square[2] / 4))
        parts = []
        for plane, share in zip(self.av_frame.planes, (1, 2, 2), strict=True):
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
            rows, columns = (
                (start // share + np.arange(side // share)).clip(0, length - 1)
                for start, length in ((top, plane.height), (left, plane.width))
            )
            parts.append(lines[rows[:, None], columns].reshape(-1))
        planes = np.concatenate(parts).reshape(-1, side)
        cut = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        cut.colorspace, cut.color_range = self.av_frame.colorspace, self.av_frame.color_range
        if side > LARGEST_SQUARE:
            cut = cut.reformat(width=LARGEST_SQUARE, height=LARGEST_SQUARE)
        return Frame(self.number, cut, self)

    @cached_property
    def luma(self) -> np.ndarray:
        """(H,W) uint8 in limited range, as in the file."""
        plane = self.av_frame.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return lines[: self.av_frame.height, : self.av_frame.width]

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H,W,3) uint8."""
        return self.av_frame.to_ndarray(format="rgb24")


class FrameCheck(Protocol):
    """A check that looks at every frame."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""


class Watcher(Protocol):
    """What looks at every frame."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""


def watch(path: Path, watchers: Sequence[Watcher]) -> list[Fraction | None]:
    """Decode the video once and pass every frame to everybody; returns the times of the frames in seconds."""
    times: list[Fraction | None] = []
    for frame in decoded(path):
        pts, base = frame.av_frame.pts, frame.av_frame.time_base
        times.append(None if pts is None or base is None else pts * base)
        for watcher in watchers:
            watcher.frame(frame)
    return times


def decoded(path: Path) -> Iterator[Frame]:
    """Yield the frames of a delivered file, on one thread."""
    with av.open(path, "r") as file:
        stream = file.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the actors share the cores
        for number, av_frame in enumerate(file.decode(stream)):
            tell_decoded(1 / MOTION_FPS)  # whatever its time stamp says
            yield Frame(number, av_frame)
