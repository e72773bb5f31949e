"""What is measured: a delivered file and its inputs, and the pass over its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from models import MOTION_FPS
from pipeline.common.child_main import tell_decoded
from pipeline.measure.metric import Measured
from pipeline.media.presets import WEB, FileFormat


@dataclass(frozen=True, eq=False)
class Delivery:
    """A file and its expected properties."""

    path: Path
    fps: Fraction
    frames: int
    """Number of frames that the audio needs: ceil(duration * fps)."""
    size: int
    """Side length of the frames, px."""
    source: bytes | None = None
    """The audio file from which the clip was made; None if it is not available any more."""
    portrait: np.ndarray | None = None
    """(S,S,3) uint8 RGB, cropped as for the model."""
    window_seconds: float = 2.0
    """Length of the windows in which motion is sampled."""
    format: FileFormat = WEB
    """What kind of file it has to be."""
    language: str | None = None
    """Language (BCP 47) of the clip, which decides among several streams of its source."""

    @cached_property
    def borders(self) -> frozenset[int]:
        """Numbers of the frames that start a new window, except for the first window."""
        per_window = self.window_seconds * self.fps
        count = int(self.frames / per_window)
        return frozenset(-int(-(k * per_window) // 1) for k in range(1, count + 1) if k * per_window < self.frames)


class Frame:
    """A decoded frame as yuv420p. Expensive conversions are made once, when they are first needed."""

    def __init__(self, number: int, av_frame: av.VideoFrame) -> None:
        if av_frame.format.name != "yuv420p":  # of another preset, or a fault of its own
            av_frame = av_frame.reformat(format="yuv420p")
        self.number, self.av_frame = number, av_frame

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


def watch(path: Path, checks: Sequence[FrameCheck]) -> list[Fraction | None]:
    """Decode the video once and pass every frame to every check; returns the times of the frames in seconds."""
    times: list[Fraction | None] = []
    for frame in decoded(path):
        pts, base = frame.av_frame.pts, frame.av_frame.time_base
        times.append(None if pts is None or base is None else pts * base)
        for check in checks:
            check.frame(frame)
    return times


def decoded(path: Path) -> Iterator[Frame]:
    """Yield the frames of a delivered file, on one thread."""
    with av.open(path, "r") as file:
        stream = file.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the actors share the cores
        for number, av_frame in enumerate(file.decode(stream)):
            tell_decoded(1 / MOTION_FPS)  # whatever its time stamp says
            yield Frame(number, av_frame)
