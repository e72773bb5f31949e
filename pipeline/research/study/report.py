"""The output of a study: figures.json and study.html, and the lines on the screen."""

import json
import re
from collections.abc import Sequence
from typing import Any

from models import ModelFolder
from pipeline.report.charts import charts
from pipeline.report.html import cell, document, embedded_image, escaped, made_now, paragraph, table, text_table
from pipeline.research.study.metric import CLAIMS, Metric, claim_rows, count_text, value_text
from pipeline.research.study.run import Findings
from pipeline.storage.objects import write_bytes
from pipeline.storage.uris import join

METRICS, PAGE = "figures.json", "study.html"

INTERVAL = "Intervals are 95 % intervals, by bootstrap over speakers (2,000 resamples)."


def write_report(found: Findings, folder: ModelFolder, output: str, about: dict[str, Any]) -> tuple[str, str]:
    """Write both files and return their URIs. `about` are the settings and data of the study."""
    model = {"name": folder.name, "hash": folder.hash, "trained": folder.trained, "side": folder.config.image_size}
    known = {metric.key: metric for metric in found.metrics}
    claims = [
        {
            "figure": claim.key,
            "wanted": claim.wanted,
            "verdict": claim.verdict(known[claim.key].estimate) if claim.key in known else "not measured",
        }
        for claim in CLAIMS
    ]
    metrics = [
        {"key": one.key, **one.estimate.as_row(), "unit": one.unit, "counted": one.counted, "text": one.text}
        for one in found.metrics
    ]
    values = {"model": model, **about, "claims": claims, "figures": metrics, "notes": found.notes}
    places = join(output, METRICS), join(output, PAGE)
    write_bytes((json.dumps(values, indent=1) + "\n").encode(), places[0])
    write_bytes(_page(found, folder, about).encode(), places[1])
    return places


def _page(found: Findings, folder: ModelFolder, about: dict[str, Any]) -> str:
    settings = about.get("settings", {})
    known = [
        ("model", model_text(folder)),
        *((name, settings.get(name)) for name in ("data", "corpus", "output", "seed")),
        ("held out", held_out_text(found.metrics)),
        made_now(),
    ]
    parts = [paragraph("The model is UNTRAINED, so these metrics are those of noise.", "note")] * (not folder.trained)
    parts += [paragraph(INTERVAL, "soft"), "<h2>Requirements for a model that ships</h2>"]
    rows = [
        [cell(text), cell(value, "number"), cell(wanted, "number"), cell(verdict, _kind(verdict)), cell(of)]
        for text, value, wanted, verdict, of in claim_rows(found.metrics, CLAIMS)
    ]
    parts.append(table("Requirements", ("metric", "value", "required", "verdict", "of"), rows))
    parts += [paragraph(note) for note in found.notes]
    parts += ["<h2>Plots</h2>", charts(found.plots), "<h2>Pictures</h2>"]
    parts += [embedded_image(caption, jpeg) for caption, jpeg in found.pictures]
    for caption, lines in found.tables:
        parts += [f"<h2>{escaped(caption)}</h2>", text_table(caption, lines[0], lines[1:], number_columns(lines[1:]))]
    parts.append("<h2>All metrics</h2>")
    told = [[one.key, one.text, value_text(one.estimate, one.unit), count_text(one)] for one in found.metrics]
    parts += [text_table("All metrics", ("key", "definition", "value", "of"), told, (2,))]
    parts += ["<h2>Settings</h2>", paragraph(json.dumps(about), "soft")]
    return document("Model measured against the ground truth of the corpus", parts, known)


def number_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns, but for the first, whose first value is a number."""
    first = rows[0] if rows else ()
    return [place for place, value in enumerate(first) if place and re.match(r"-?\d+(\.\d+)?(\s|%|$)", value)]


def model_text(folder: ModelFolder) -> str:
    """The model in words: name, hash and image size."""
    return f"{folder.name}, hash {folder.hash[:12]}, {folder.config.image_size} px"


def held_out_text(metrics: Sequence[Metric]) -> str:
    """The largest numbers of held-out clips and speakers that a metric was measured on."""
    clips = max((one.estimate.count for one in metrics if one.counted == "clips"), default=0)
    speakers = max((one.estimate.speakers for one in metrics), default=0)
    return f"up to {clips} clips of {speakers} speakers" if clips else f"{speakers} speakers"


def _kind(verdict: str) -> str:
    return "pass" if verdict.startswith("met") else "fail" if verdict == "not met" else ""


def screen_lines(metrics: Sequence[Metric], notes: Sequence[str] = ()) -> list[str]:
    """Requirements with their verdicts, and then all other metrics except those of single blendshapes."""
    wide = max(len(one.text) for one in metrics) if metrics else 40
    lines = ["", f"{'requirement':<{wide}}  {'value':<32}  {'required':<13}  verdict"]
    for text, value, wanted, verdict, of in claim_rows(metrics, CLAIMS):
        lines.append(f"{text:<{wide}}  {value:<32}  {wanted:<13}  {verdict}{f' ({of})' if of else ''}")
    claimed = {claim.key for claim in CLAIMS}
    lines += ["", "other metrics"]
    for one in metrics:
        if one.key not in claimed and ".each." not in one.key:
            lines.append(f"{one.text:<{wide}}  {value_text(one.estimate, one.unit):<32}  {count_text(one)}")
    return [*lines, "", INTERVAL, *notes]
