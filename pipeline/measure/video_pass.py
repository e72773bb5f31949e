"""What is judged: a delivered file, its inputs, and the pass over its frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from pipeline.measure.metric import Measured


@dataclass(frozen=True, eq=False)
class Delivery:
    """A file and what it should be."""

    path: Path
    fps: Fraction
    frames: int
    """That the sound needs: ceil(duration * fps)."""
    size: int
    """Side of the picture, px."""
    source: bytes | None = None
    """The audio file that the clip was made from; None where it cannot be had any more."""
    portrait: np.ndarray | None = None
    """(S,S,3) uint8 RGB, cropped as for the model."""
    window_seconds: float = 2.0
    """Motion is sampled in windows of this length."""

    @cached_property
    def borders(self) -> frozenset[int]:
        """Numbers of the frames that begin a new window, but for the first."""
        per_window = self.window_seconds * self.fps
        count = int(self.frames / per_window)
        return frozenset(-int(-(k * per_window) // 1) for k in range(1, count + 1) if k * per_window < self.frames)


class Frame:
    """A decoded frame. What takes time is made once, when it is first asked for."""

    def __init__(self, number: int, picture: av.VideoFrame) -> None:
        self.number, self.picture = number, picture

    @cached_property
    def luma(self) -> np.ndarray:
        """(H,W) uint8, limited range as in the file."""
        plane = self.picture.planes[0]
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return lines[: self.picture.height, : self.picture.width]

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H,W,3) uint8."""
        return self.picture.to_ndarray(format="rgb24")


class FrameCheck(Protocol):
    """A check that looks at every frame."""

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""

    def metrics(self) -> Measured:
        """After the last one."""


def watch(path: Path, checks: Sequence[FrameCheck]) -> list[Fraction | None]:
    """Decode the video once and show every frame to every check; returns the frames' times in seconds."""
    times: list[Fraction | None] = []
    for frame in decoded(path):
        pts, base = frame.picture.pts, frame.picture.time_base
        times.append(None if pts is None or base is None else pts * base)
        for check in checks:
            check.frame(frame)
    return times


def decoded(path: Path, options: Mapping[str, str] | None = None) -> Iterator[Frame]:
    """The frames of the first video stream, on one thread, as yuv420p; `options` are FFmpeg's for the input."""
    with av.open(path, "r", options=dict(options or {})) as file:
        stream = file.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # actors share out the cores
        for number, picture in enumerate(file.decode(stream)):
            if picture.format.name != "yuv420p":  # a fault of its own; the other checks go on
                picture = picture.reformat(format="yuv420p")
            yield Frame(number, picture)
