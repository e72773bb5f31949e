"""The parts of evaluation.html that compare: paired differences between systems, and the worst pairs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.evaluation.bootstrap import LEAST, Estimate
from pipeline.evaluation.differences import Difference
from pipeline.evaluation.systems import Result
from pipeline.evaluation.worst import EACH, to_picture, worst_pairs
from pipeline.report.html import cell, embedded_image, escaped, paragraph, table

SHOWN_PAIRS = 10
"""Number of pairs of systems whose differences are listed."""

Row = dict[str, Any]


def differences_part(found: Sequence[Difference]) -> Iterable[str]:
    """All paired differences, one table for each pair of systems."""
    if not found:
        return
    yield "<h2>Paired differences</h2>"
    yield (
        '<p class="soft">The mean difference on the real videos that both systems imitate, with its 95 % interval '
        "(percentile bootstrap over real videos). A system is called better where the interval excludes zero and at "
        f"least {LEAST} real videos are compared. Each interval stands for itself: of 20 comparisons without any true "
        "difference, about one excludes zero by chance. For a metric whose aim is the real video's value, the "
        "difference is that of the distances from it. Distances between distributions have no pairs.</p>"
    )
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for one in found:
        by_pair.setdefault((one.one, one.other), []).append(one)
    for (name, other), ours in list(by_pair.items())[:SHOWN_PAIRS]:
        title = f"{name} minus {other}"
        yield f"<h3>{escaped(title)}</h3>"
        rows = [
            [
                f'<th scope="row">{escaped(one.metric.name)}<small>{escaped(one.metric.told)}</small></th>',
                _interval(one.estimate),
                cell(one.estimate.count, "number"),
                cell(f"{one.better} is better", "best") if one.better else cell(_undecided(one), "soft"),
            ]
            for one in ours
        ]
        yield table(title, ("metric", "difference", "real videos", "verdict"), rows)
    if len(by_pair) > SHOWN_PAIRS:
        yield paragraph(f"and {len(by_pair) - SHOWN_PAIRS} more pairs of systems: their values are in pairs.parquet.")


def _interval(estimate: Estimate) -> str:
    between = "" if estimate.low is None else f"<small>{estimate.low:+.4g} to {estimate.high:+.4g}</small>"
    return f'<td class="number">{estimate.value:+.4g}{between}</td>'


def _undecided(one: Difference) -> str:
    return "too few real videos to decide" if one.estimate.count < LEAST else "no difference beyond chance"


def worst_part(rows: Sequence[Row], results: Sequence[Result], strips: Mapping[int, bytes]) -> Iterable[str]:
    """The worst pairs of each metric; `strips`: row number -> a JPEG of both its videos."""
    worst = worst_pairs(rows)
    if not worst:
        return
    yield "<h2>Worst pairs</h2>"
    yield paragraph(f"At most {EACH} pairs of each metric, of all systems, the worst first.", "soft")
    lines = []
    means = {(result.system, result.figure): result.value for result in results}
    for one in worst:
        row, mean = one.row, means.get((one.row["system"], one.metric.column))
        lines.append(
            [
                f'<th scope="row">{escaped(one.metric.name)}</th>',
                cell(f"{row[one.metric.column]:.4g}", "number"),
                cell("" if mean is None else f"{mean:.4g}", "number"),
                cell(row["system"]),
                cell(row["row"], "number"),
                cell(_file(row["generated"])),
                cell(_file(row["reference"])),
            ]
        )
    heads = ("metric", "value", "mean of its system", "system", "row", "generated video", "real video")
    yield table("Worst pairs", heads, lines)
    for row in to_picture(worst):
        if (jpeg := strips.get(row["row"])) is not None:
            figures = [f"{one.metric.name} {row[one.metric.column]:.4g}" for one in worst if one.row is row]
            yield embedded_image(f"Row {row['row']}, {row['system']}: {', '.join(figures)}", jpeg)


def _file(uri: str) -> str:
    """The name without its folder, which the page shows once per system."""
    return uri.rsplit("/", 1)[-1]
