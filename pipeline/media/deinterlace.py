"""Interlaced frames -> whole pictures. The two fields of such a frame are 1/50 or 1/60 s apart, so that whatever moves
has a comb at its edges.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice

import av
from av.filter import Graph

from pipeline.media.filters import pulled, video_chain

Timed = tuple[Fraction, av.VideoFrame]


def deinterlaced(frames: Iterable[Timed]) -> Iterator[Timed]:
    """(time in seconds, frame) -> the same number of them. Frames that are not interlaced are passed on as they are.

    FFmpeg's bwdif looks at both neighbours of a frame, so frames come one later from the first interlaced one on.
    """
    graph: Graph | None = None
    kind: object = None
    times: list[Fraction] = []
    for time, frame in frames:
        if graph is not None and kind != _kind(frame):
            yield from _ended(graph, times)
            graph = None
        if graph is None and frame.interlaced_frame:
            base = frame.time_base or Fraction(1, 1000)
            graph, kind = video_chain(frame, base, ("bwdif", "mode=send_frame:deint=interlaced")), _kind(frame)
        if graph is None:
            yield time, frame
            continue
        times.append(time)
        graph.push(frame)
        yield from _ready(graph, times)
    if graph is not None:
        yield from _ended(graph, times)


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    """What a graph of filters cannot change."""
    return frame.width, frame.height, frame.format.name


def _ready(graph: Graph, times: list[Fraction]) -> Iterator[Timed]:
    """Frames come in order, so that each has the earliest of the `times` that are left."""
    for frame in islice(pulled(graph), len(times)):
        assert isinstance(frame, av.VideoFrame)
        yield times.pop(0), frame


def _ended(graph: Graph, times: list[Fraction]) -> Iterator[Timed]:
    graph.push(None)
    return _ready(graph, times)
