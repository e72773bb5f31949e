"""Charts for static pages as SVG: lines over numbers, and dots with their intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence

from pipeline.report.html import escaped, scrolling

WIDTH, HEIGHT = 480, 200
MARGIN = 46
"""Space to the left of lines for their values, px."""
NAMES, PLOT, VALUES, LINE = 290, 330, 70, 20
"""Sizes of a dot chart in px: its part for names at most, its part for dots and values, what values take of that, and
the height of a line.
"""
LETTER = 8
"""Width of a letter, px, where a small screen shows larger ones. A chart that is wider than one of lines because of its
names scrolls there instead of shrinking.
"""
LETTERS = 46
"""Longest name in a dot chart that its space holds; the end of a longer one is cut off."""

Dot = tuple[str, float | None, float | None, float | None]
"""(name, value, lower and upper end of its interval); None if there is no value."""


def charts(parts: Iterable[str]) -> str:
    """Charts side by side, as many as fit."""
    return f'<div class="charts">{"".join(parts)}</div>'


def line_chart(
    caption: str, x: Sequence[float], curves: Mapping[str, Sequence[float]], x_name: str, *, zero: bool = False
) -> str:
    """At most two lines, name -> values over increasing `x`; `zero` adds an axis at 0. Only finite values are drawn."""
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    if not values:
        return _figure(caption, "<p>not finite</p>")
    low, high = min([*values, *[0.0] * zero]), max([*values, *[0.0] * zero])
    tall, wide = (high - low) or 1.0, (x[-1] - x[0]) or 1.0

    def across(value: float) -> str:
        return f"{MARGIN + (value - x[0]) / wide * (WIDTH - MARGIN - 16):.1f}"

    def down(value: float) -> str:
        return f"{HEIGHT - 34 - (value - low) / tall * (HEIGHT - 64):.1f}"

    parts = [f'<text x="4" y="{down(value)}">{value:.3g}</text>' for value in (low, high)]
    if zero:
        parts.append(f'<line class="axis" x1="{MARGIN}" x2="{WIDTH - 16}" y1="{down(0)}" y2="{down(0)}"/>')
    for value in dict.fromkeys((x[0], *([0] if zero else []), x[-1])):
        parts.append(f'<text x="{across(value)}" y="{HEIGHT - 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escaped(x_name)}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        kind = ' class="second"' if number else ""
        points = " ".join(f"{across(a)},{down(b)}" for a, b in zip(x, curve, strict=True) if math.isfinite(b))
        parts.append(f'<polyline{kind} points="{points}"/>')
        parts.append(f'<text{kind} x="{MARGIN + 8 + 200 * number}" y="14">{escaped(name)}</text>')
    return _figure(caption, _svg(caption, WIDTH, HEIGHT, parts))


def dot_chart(caption: str, dots: Sequence[Dot]) -> str:
    """Values with their intervals, one below another; values that are None are left out."""
    known = [(name, value, low, high) for name, value, low, high in dots if value is not None]
    if not known:
        return _figure(caption, "<p>nothing was measured</p>")
    ends = [end for _, *values in known for end in values if end is not None]
    least, reach = min(ends), (max(ends) - min(ends)) or 1.0
    longest = min(LETTERS, max(len(name) for name, *_ in known))
    names = min(NAMES, longest * LETTER + 12)
    width = names + PLOT

    def place(value: float) -> str:
        return f"{names + (value - least) / reach * (PLOT - VALUES):.1f}"

    parts = []
    for number, (name, value, low, high) in enumerate(known):
        y = LINE * number + 16
        short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
        parts.append(f'<text x="6" y="{y + 4}"><title>{escaped(name)}</title>{escaped(short)}</text>')
        if low is not None and high is not None:
            parts.append(f'<line x1="{place(low)}" x2="{place(high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{place(value)}" cy="{y}" r="3.5"/>')
        parts.append(f'<text x="{width - 6}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
    drawn = _svg(caption, width, LINE * len(known) + 14, parts)
    return _figure(caption, drawn if width <= WIDTH else scrolling(caption, drawn))


def _svg(caption: str, width: int, height: int, parts: Sequence[str]) -> str:
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg {box} role="img" aria-label="{escaped(caption)}">{"".join(parts)}</svg>'


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{drawn}</figure>"
