"""Chains of FFmpeg filters, and what comes out of them."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.filter.context import FilterContext

Filter = tuple[str, str]
"""Name and options."""


def video_chain(like: av.VideoFrame, time_base: Fraction, *filters: Filter) -> Graph:
    """A chain for frames of the size and format of `like`."""
    graph = _graph()
    source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=time_base)
    return _connected(graph, source, *filters, ("buffersink", ""))


def audio_chain(rate: int, form: str, layout: str, *filters: Filter) -> Graph:
    """A chain for frames of `rate` samples per second, of FFmpeg's sample format `form` and channel `layout`."""
    graph = _graph()
    source = graph.add_abuffer(sample_rate=rate, format=form, layout=layout, time_base=None)
    return _connected(graph, source, *filters, ("abuffersink", ""))


def pulled(graph: Graph) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """The frames that are ready; those that a filter still holds come after `graph.push(None)`."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.VideoFrame | av.AudioFrame)
        yield frame


def _graph() -> Graph:
    graph = Graph()
    graph.threads = 1  # must be set before the first filter; the workers share the cores
    return graph


def _connected(graph: Graph, source: FilterContext, *filters: Filter) -> Graph:
    last = source
    for name, options in filters:
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
