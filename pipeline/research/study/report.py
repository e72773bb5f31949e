"""What a study leaves in its output: figures.json and study.html; and the lines on the screen."""

import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from models import ModelFolder
from pipeline.research.study.figure import CLAIMS, Figure
from pipeline.research.study.page import (
    PAGE,
    claim_rows,
    count_text,
    document,
    picture_html,
    table_html,
    value_text,
)
from pipeline.research.study.run import Findings
from pipeline.storage.objects import join, write_bytes

FIGURES = "figures.json"

INTERVAL = "Intervals are 95 %, by bootstrap over speakers (2,000 resamples)."


def write_report(found: Findings, folder: ModelFolder, output: str, about: dict[str, Any]) -> tuple[str, str]:
    """Write both files, and return their URIs. `about`: settings and data, as they were."""
    model = {"name": folder.name, "hash": folder.hash, "trained": folder.trained, "side": folder.config.image_size}
    known = {figure.key: figure for figure in found.figures}
    claims = [
        {
            "figure": claim.key,
            "wanted": claim.wanted,
            "verdict": claim.verdict(known[claim.key].estimate) if claim.key in known else "not measured",
        }
        for claim in CLAIMS
    ]
    figures = [
        {"key": one.key, **asdict(one.estimate), "unit": one.unit, "counted": one.counted, "text": one.text}
        for one in found.figures
    ]
    values = {"model": model, **about, "claims": claims, "figures": figures, "notes": found.notes}
    places = join(output, FIGURES), join(output, PAGE)
    write_bytes((json.dumps(values, indent=1) + "\n").encode(), places[0])
    write_bytes(_page(found, folder, about).encode(), places[1])
    return places


def _page(found: Findings, folder: ModelFolder, about: dict[str, Any]) -> str:
    known = f"Model {folder.name} ({folder.hash[:12]}), {folder.config.image_size} px"
    known += "" if folder.trained else "; UNTRAINED: these figures are those of noise"
    parts = [f'<p>{html.escape(known)}. <span class="soft">{INTERVAL}</span></p>']
    parts.append("<h2>What a model that ships must reach</h2>")
    rows = claim_rows(found.figures, CLAIMS)
    parts.append(table_html(("figure", "value", "wanted", "verdict", "of"), rows, (1, 2)))
    parts += [f"<p>{html.escape(note)}</p>" for note in found.notes]
    parts.append("<h2>Plots</h2><main>" + "".join(plot.svg() for plot in found.plots) + "</main>")
    parts.append("<h2>Pictures</h2>")
    parts += [picture_html(caption, jpeg) for caption, jpeg in found.pictures]
    for caption, table in found.tables:
        parts.append(f"<h2>{html.escape(caption)}</h2>" + table_html(table[0], table[1:], range(1, len(table[0]))))
    parts.append("<h2>All figures</h2>")
    rows = [[one.key, one.text, value_text(one.estimate, one.unit), count_text(one)] for one in found.figures]
    parts.append(table_html(("key", "what it is", "value", "of"), rows, (2,)))
    parts.append(f'<p class="soft">{html.escape(json.dumps(about))}</p>')
    return document("A model against what is known of the corpus", parts)


def screen_lines(figures: Sequence[Figure], notes: Sequence[str] = ()) -> list[str]:
    """Claims with their verdicts, then all other figures but those of single curves."""
    wide = max(len(one.text) for one in figures) if figures else 40
    lines = ["", f"{'what must hold':<{wide}}  {'value':<32}  {'wanted':<13}  verdict"]
    for text, value, wanted, verdict, of in claim_rows(figures, CLAIMS):
        lines.append(f"{text:<{wide}}  {value:<32}  {wanted:<13}  {verdict}{f' ({of})' if of else ''}")
    claimed = {claim.key for claim in CLAIMS}
    lines += ["", "other figures"]
    for one in figures:
        if one.key not in claimed and ".each." not in one.key:
            lines.append(f"{one.text:<{wide}}  {value_text(one.estimate, one.unit):<32}  {count_text(one)}")
    return [*lines, "", INTERVAL, *notes]
