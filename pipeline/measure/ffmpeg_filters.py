"""Chains of FFmpeg's filters."""

from av.filter import Graph
from av.filter.context import FilterContext


def connect(graph: Graph, source: FilterContext, *filters: tuple[str, str]) -> Graph:
    """Put the filters, (name, options) each, behind the source and one another, and make the graph ready."""
    last = source
    for name, options in filters:
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
