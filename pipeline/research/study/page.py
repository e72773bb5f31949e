"""study.html: claims, figures, plots and pictures on one page, of which nothing is loaded from elsewhere."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.research.study.estimate import Estimate
from pipeline.research.study.figure import Claim, Figure

PAGE = "study.html"

STYLE = """
:root { color-scheme: light dark; --back: #fbfbf9; --card: #fff; --ink: #1c2024; --soft: #5b636b; --line: #d9dcdf;
  --mark: #1560bd; --other: #b4540a; --good: #1b7a3d; --bad: #a32020 }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1d2125; --ink: #e7eaec; --soft: #a3acb4;
  --line: #353b41; --mark: #6fb1ff; --other: #f0a35e; --good: #6fcf8d; --bad: #ff8f8f } }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem } .soft { color: var(--soft) }
.scroll { overflow-x: auto } table { border-collapse: collapse; background: var(--card) }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.met { color: var(--good) } .not { color: var(--bad) } img { max-width: 100% }
main { display: flex; flex-wrap: wrap; gap: 1rem } main figure { max-width: 590px }
figure { margin: 0 0 1rem } figcaption { font-weight: 600 }
svg { background: var(--card); border: 1px solid var(--line); border-radius: 4px; max-width: 100% }
text { font-size: 11px; fill: var(--soft) } line, polyline { stroke: var(--mark); fill: none; stroke-width: 1.5 }
circle { fill: var(--mark) } .axis { stroke: var(--line) } .limit { stroke: var(--other); stroke-dasharray: 4 3 }
.second { stroke: var(--other) } text.second { fill: var(--other); stroke: none }
"""


# --- Plots -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plot:
    """Either dots with intervals, one below the other, or curves over numbers."""

    caption: str
    dots: Sequence[tuple[str, Estimate]] = ()
    """(name, estimate)."""
    limit: float | None = None
    """A value that is marked."""
    x: Sequence[float] = ()
    curves: dict[str, Sequence[float]] = field(default_factory=dict)
    """Name -> values over `x`, two at most."""
    x_name: str = ""

    def svg(self) -> str:
        """As a figure of HTML."""
        drawn = _curves(self) if self.curves else _dots(self)
        return f"<figure><figcaption>{html.escape(self.caption)}</figcaption>{drawn}</figure>"


WIDTH, LEFT, RIGHT, LINE = 620, 290, 60, 20


def _dots(plot: Plot) -> str:
    rows = [(name, one) for name, one in plot.dots if one.value is not None]
    if not rows:
        return "<p>nothing was measured</p>"
    ends = [v for _, one in rows for v in (one.value, one.low, one.high, plot.limit) if v is not None]
    low, high = min(ends), max(ends)
    reach = (high - low) or 1.0

    def place(value: float) -> str:
        return f"{LEFT + (value - low) / reach * (WIDTH - LEFT - RIGHT):.1f}"

    height = LINE * len(rows) + 14
    parts = [f'<svg width="{WIDTH}" height="{height}" role="img" aria-label="{html.escape(plot.caption)}">']
    if plot.limit is not None:
        x = place(plot.limit)
        parts.append(f'<line class="limit" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    for number, (name, one) in enumerate(rows):
        y = LINE * number + 16
        assert one.value is not None
        parts.append(f'<text x="6" y="{y + 4}">{html.escape(name)}</text>')
        if one.low is not None and one.high is not None:
            parts.append(f'<line x1="{place(one.low)}" x2="{place(one.high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{place(one.value)}" cy="{y}" r="3.5"/>')
        parts.append(f'<text x="{WIDTH - 6}" y="{y + 4}" text-anchor="end">{one.value:.3g}</text>')
    return "".join(parts) + "</svg>"


def _curves(plot: Plot) -> str:
    values = [v for curve in plot.curves.values() for v in curve if v == v]
    if not values:
        return "<p>nothing was measured</p>"
    low, high = min([0.0, *values]), max([0.0, *values])
    tall, wide = (high - low) or 1.0, (plot.x[-1] - plot.x[0]) or 1.0
    height, margin = 200, 46

    def across(x: float) -> str:
        return f"{margin + (x - plot.x[0]) / wide * (WIDTH - margin - 16):.1f}"

    def down(value: float) -> str:
        return f"{height - 30 - (value - low) / tall * (height - 60):.1f}"

    parts = [f'<svg width="{WIDTH}" height="{height}" role="img" aria-label="{html.escape(plot.caption)}">']
    parts.append(f'<line class="axis" x1="{margin}" x2="{WIDTH - 16}" y1="{down(0)}" y2="{down(0)}"/>')
    parts += [f'<text x="4" y="{down(v)}">{v:.2f}</text>' for v in (low, high)]
    for x in (plot.x[0], 0, plot.x[-1]):
        parts.append(f'<text x="{across(x)}" y="{height - 14}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{height - 2}" text-anchor="middle">{html.escape(plot.x_name)}</text>')
    for number, (name, curve) in enumerate(plot.curves.items()):
        kind = ' class="second"' if number else ""
        points = " ".join(f"{across(x)},{down(v)}" for x, v in zip(plot.x, curve, strict=True) if v == v)
        parts.append(f'<polyline{kind} points="{points}"/>')
        parts.append(f'<text{kind} x="{margin + 8 + 220 * number}" y="14">{html.escape(name)}</text>')
    return "".join(parts) + "</svg>"


# --- The page --------------------------------------------------------------------------------------------------


def value_text(estimate: Estimate, unit: str = "") -> str:
    """4.13 dB [3.80, 4.46]."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.3f}{' ' if unit else ''}{unit}{interval}"


def count_text(figure: Figure) -> str:
    """600 pairs, 23 speakers."""
    one = figure.estimate
    return f"{one.count} {figure.counted}, {one.speakers} speakers"


def claim_rows(figures: Sequence[Figure], claims: Sequence[Claim]) -> list[list[str]]:
    """Of each claim: what, value, wanted, verdict, of how many."""
    known = {figure.key: figure for figure in figures}
    rows = []
    for claim in claims:
        figure = known.get(claim.key)
        if figure is None:
            rows.append([claim.key, "-", claim.wanted, "not measured", ""])
            continue
        value = value_text(figure.estimate, figure.unit)
        rows.append([figure.text, value, claim.wanted, claim.verdict(figure.estimate), count_text(figure)])
    return rows


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; `numbers`: columns that are numbers."""

    def cell(i: int, text: str) -> str:
        kind = "number" if i in numbers else ("met" if text.startswith("met") else "not" if text == "not met" else "")
        return f'<td class="{kind}">{html.escape(text)}</td>'

    lines = ["<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>" for row in rows]
    top = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture_html(caption: str, jpeg: bytes) -> str:
    """Inside the page."""
    data = base64.b64encode(jpeg).decode()
    label = html.escape(caption)
    return f'<figure><figcaption>{label}</figcaption><img alt="{label}" src="data:image/jpeg;base64,{data}"></figure>'


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page of `parts`."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{''.join(parts)}</html>\n"
    )
