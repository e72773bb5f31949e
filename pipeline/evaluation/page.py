"""evaluation.html: one page with all tables, which loads nothing except the side-by-side videos next to it."""

import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.evaluation import published
from pipeline.evaluation.comparison import FOLDER
from pipeline.evaluation.differences import best_of, differences
from pipeline.evaluation.metrics import ALL
from pipeline.evaluation.page_differences import differences_part, worst_part
from pipeline.evaluation.sources import sources_of
from pipeline.evaluation.stage import Row
from pipeline.evaluation.systems import REAL, Result, measured, systems_of
from pipeline.report.html import cell, document, escaped, made_now, paragraph, table, text_table
from pipeline.storage.objects import write_bytes
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import join

PAGE = "evaluation.html"

SHOWN = 50
"""Number of rows, and of kinds of notes, that are listed one by one."""

BEST = "best"


@dataclass(frozen=True)
class Evaluation:
    """Everything that the page shows."""

    output: str
    rows: Sequence[Row]
    """Rows of pairs.parquet."""
    results: Sequence[Result]
    networks: Mapping[str, str]
    """Setting -> SHA-256 of the file."""
    comparisons: Sequence[Row] = field(default_factory=list)
    """Rows of `comparison.ComparisonStage`."""
    seed: int = 0
    manifest: str = ""
    strips: Mapping[int, bytes] = field(default_factory=dict)
    """Row number of a pair -> a JPEG of both its videos, for some of the worst pairs."""


def write_page(evaluation: Evaluation) -> str:
    """Write the page and return its URI."""
    uri = join(evaluation.output, PAGE)
    clear_way(uri, evaluation.output)
    write_bytes(page(evaluation).encode(), uri)
    return uri


def page(evaluation: Evaluation) -> str:
    """The HTML of the page."""
    counts = Counter(row["status"] for row in evaluation.rows)
    others = "".join(f", {counts[status]} {status}" for status in ("rejected", "failed") if counts[status])
    about = [
        ("manifest", evaluation.manifest),
        ("output", evaluation.output),
        ("pairs", f"{counts['done']} of {len(evaluation.rows)} pairs were measured{others}"),
        ("seed", evaluation.seed),
        made_now(),
    ]
    found = list(differences(evaluation.rows, evaluation.seed))
    parts = [
        "<h2>Where the videos come from</h2>",
        _sources(evaluation.rows),
        "<h2>Systems</h2>",
        *_systems(evaluation, best_of(found)),
        *differences_part(found),
        *worst_part(evaluation.rows, evaluation.results, evaluation.strips),
        *_comparison_figures(evaluation.comparisons),
        f"<h2>{published.HEADING}</h2>",
        *_published(),
        "<h2>Networks</h2>",
        *_networks(evaluation.networks),
        *_failed(evaluation.rows),
        *_notes(evaluation.rows),
        "<h2>Definitions of the metrics</h2>",
        *_definitions(),
    ]
    return document("Evaluation", parts, about)


def _sources(rows: Sequence[Row]) -> str:
    lines = [(one.system, one.pairs, one.videos, one.folders, one.run) for one in sources_of(rows, REAL)]
    return text_table(
        "Where the videos come from", ("system", "measured pairs", "videos", "folder", "Floatcast run"), lines, (1, 2)
    )


def _systems(evaluation: Evaluation, best: Mapping[str, str]) -> Iterable[str]:
    systems = systems_of(evaluation.rows)
    by_place = {(result.system, result.figure): result for result in evaluation.results}
    yield (
        '<p class="soft">Each value is the mean over pairs with its 95 % confidence interval (percentile bootstrap '
        f"over pairs, 2,000 resamples, seed {evaluation.seed}). Distances between distributions have no interval. "
        "Their floor is shown instead: the distance between two random halves of the real videos. Because a half has "
        "only half of the samples, the floor is somewhat too high. Each empty cell says why it is empty.</p>"
    )
    if len(systems) > 1:
        yield (
            f'<p class="soft"><strong class="best">{BEST}</strong> marks a system that differs for the better from '
            f"each of the others, as the paired differences below say. {_missing_marks(best)}</p>"
        )
    heads = ["Metric", *systems, f"{REAL}, floors"]
    pairs, real_videos = _counts(evaluation.rows, systems)
    if len(set(filter(None, real_videos.values()))) > 1:
        yield (
            '<p class="review">The systems were measured on different real videos, so differences between their '
            "metrics may come from the videos.</p>"
        )
    counts = [
        f'<td class="number">{pairs[system]}<small>{len(real_videos[system])} real</small></td>' for system in systems
    ]
    rows = [['<th scope="row">pairs measured</th>', *counts, "<td></td>"]]
    for metric in ALL:
        cells = [f'<th scope="row">{escaped(metric.name)}<small>{escaped(metric.told)}</small></th>']
        cells += [_cell(by_place.get((system, metric.column)), best.get(metric.column)) for system in systems]
        real = by_place.get((REAL, metric.column))
        floor = next((r for s in systems if (r := by_place.get((s, metric.column))) and r.floor is not None), None)
        if metric.features and floor is not None:
            cells.append(_floor([by_place[s, metric.column] for s in systems]))
        else:
            cells.append(_cell(real) if metric.of_video else "<td></td>")
        rows.append(cells)
    yield table("Systems", heads, rows)


def _missing_marks(best: Mapping[str, str]) -> str:
    """Why no system is marked."""
    return "" if best else "None is marked, because no system does, or too few real videos are common to them."


def _counts(rows: Sequence[Row], systems: Sequence[str]) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Per system: measured pairs out of all, and their real videos."""
    done = {system: measured(rows, system) for system in systems}
    all_of = Counter(row["system"] for row in rows)
    return (
        {system: f"{len(ours)} of {all_of[system]}" for system, ours in done.items()},
        {system: frozenset(row["reference"] for row in ours) for system, ours in done.items()},
    )


def _cell(result: Result | None, best: str | None = None) -> str:
    if result is None:
        return "<td></td>"
    if result.value is None:
        return f'<td><small class="review">{escaped(result.note)}</small></td>'
    lines = [f"{result.value:.4g}"]
    if best is not None and result.system == best:
        lines.append(f' <strong class="best">{BEST}</strong>')
    if result.low is not None and result.high is not None:
        lines.append(f"<small>{result.low:.4g} to {result.high:.4g}; {result.count} values</small>")
    elif result.reference_count is not None:
        counts = f"{result.count:,} against {result.reference_count:,} samples of {result.dimension:,}"
        lines.append(f"<small>{counts}</small>")
    if result.note:
        lines.append(f'<small class="review">{escaped(result.note)}</small>')
    return f'<td class="number">{"".join(lines)}</td>'


def _floor(results: Sequence[Result]) -> str:
    """The floors of all systems, if they do not share their real videos."""
    lines = []
    for value, counts in dict.fromkeys((r.floor, tuple(r.floor_counts or ())) for r in results if r.floor is not None):
        lines.append(f"{value:.4g}<small>floor, {' against '.join(f'{count:,}' for count in counts)} samples</small>")
    return f'<td class="number">{"".join(lines)}</td>'


def _published() -> Iterable[str]:
    names = {metric.column: metric for metric in ALL}
    yield paragraph(f"{published.SOURCE} HDTF / RAVDESS.", "soft")
    heads = ["Method", *(names[column].name for column in published.METRICS)]
    rows = [
        [
            f'<th scope="row">{escaped(one.method)}</th>',
            *(cell(f"{a:.3f} / {b:.3f}", "number") for a, b in zip(one.hdtf, one.ravdess, strict=True)),
        ]
        for one in published.TABLE
    ]
    yield table(published.HEADING, heads, rows)


def _comparison_figures(comparisons: Sequence[Row]) -> Iterable[str]:
    if comparisons:
        yield "<h2>Side by side</h2>"
    for comparison in comparisons:
        name = escaped(comparison["reference"])
        if comparison["status"] != "done":
            yield paragraph(
                f"{comparison['reference']}: {comparison['error_code']}: {comparison['error_message']}", "review"
            )
            continue
        link = f"{FOLDER}/{urllib.parse.quote(comparison['file'])}"
        notes = "".join(f"<br><small>{escaped(note)}</small>" for note in comparison["notes"])
        yield (
            f'<figure><video controls preload="none" src="{link}" aria-label="{name} side by side"></video>'
            f'<figcaption><a href="{link}">{escaped(comparison["file"])}</a>, {comparison["frames"]} frames of '
            f"{name}{notes}</figcaption></figure>"
        )


def _networks(networks: Mapping[str, str]) -> Iterable[str]:
    if not networks:
        yield "<p>No network was given, so the metrics that need one are empty.</p>"
        return
    rows = [[cell(key), f"<td><code>{escaped(mark)}</code></td>"] for key, mark in networks.items()]
    yield table("Networks", ("setting", "SHA-256 of the file"), rows)


def _failed(rows: Sequence[Row]) -> Iterable[str]:
    failed = [row for row in rows if row["status"] != "done"]
    if not failed:
        return
    yield "<h2>Pairs that were not measured</h2>"
    columns = ("row", "system", "status", "error_code", "error_message")
    rows_shown = [[row.get(name) or "" for name in columns] for row in failed[:SHOWN]]
    yield text_table("Pairs that were not measured", ("row", "system", "status", "code", "why"), rows_shown)
    if len(failed) > SHOWN:
        yield f"<p>... and {len(failed) - SHOWN} more: see pairs.parquet.</p>"


def _notes(rows: Sequence[Row]) -> Iterable[str]:
    counts = Counter(note for row in rows for note in row.get("notes", ()))
    if not counts:
        return
    yield "<h2>Notes on pairs</h2>"
    notes = [(count, note) for note, count in counts.most_common(SHOWN)]
    yield text_table("Notes on pairs", ("pairs", "note"), notes, (0,))
    if len(counts) > SHOWN:
        yield f"<p>... and {len(counts) - SHOWN} more kinds: see pairs.parquet.</p>"


def _definitions() -> Iterable[str]:
    rows = [(metric.name, metric.unit, metric.text, metric.source) for metric in ALL]
    yield text_table("Definitions of the metrics", ("metric", "unit", "definition", "source"), rows)
