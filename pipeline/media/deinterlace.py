"""Interlaced frames -> whole pictures. The two fields of such a frame are 1/50 or 1/60 s apart, so that whatever moves
has a comb at its edges.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph

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
            yield from _pulled(graph, times, end=True)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, kind = _graph(frame), _kind(frame)
        if graph is None:
            yield time, frame
            continue
        times.append(time)
        graph.push(frame)
        yield from _pulled(graph, times)
    if graph is not None:
        yield from _pulled(graph, times, end=True)


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    """What a graph of filters cannot change."""
    return frame.width, frame.height, frame.format.name


def _graph(like: av.VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    base = like.time_base or Fraction(1, 1000)
    source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=base)
    weave, sink = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    source.link_to(weave)
    weave.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Graph, times: list[Fraction], end: bool = False) -> Iterator[Timed]:
    """Frames come in order, so that each has the earliest of the `times` that are left."""
    if end:
        graph.push(None)
    while times:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield times.pop(0), frame
