"""Chains of FFmpeg filters."""

from av.filter import Graph
from av.filter.context import FilterContext


def connect(graph: Graph, source: FilterContext, *filters: tuple[str, str]) -> Graph:
    """Connect the filters, (name, options) each, in a chain after the source, and configure the graph."""
    last = source
    for name, options in filters:
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
