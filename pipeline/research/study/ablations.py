"""The paper's ablations on held-out clips of the corpus: several models, and one model under several settings.

Each line of the table is one model with one setting. Metrics of motion come from latents
(`pipeline.research.study.latent`), and those of the mouth's pixels from reconstructed frames, once per model.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch

from models import FLOAT, ModelFolder, load_float
from models.config import VARIANTS, Objective
from models.sampling import default_nfe
from pipeline.evaluation.bootstrap import LEAST, Estimate
from pipeline.report.charts import charts, dot_chart
from pipeline.report.html import cell, document, escaped, made_now, paragraph, table, text_table
from pipeline.research.study.clips import StudyError, Watch, unwatched
from pipeline.research.study.codes import LatentClip, Setting, read_latents
from pipeline.research.study.differences import standings
from pipeline.research.study.latent import Instrument, fit_instrument, latent_metrics, truth_metrics
from pipeline.research.study.metric import Metric, value_text
from pipeline.research.study.orderings import compare_orderings
from pipeline.research.study.reconstruction import (
    PairScores,
    draw_pairs,
    paired_metrics,
    reconstruction_metrics,
    score_pairs,
)
from pipeline.research.study.report import INTERVAL, held_out_text
from pipeline.research.study.run import open_split
from pipeline.research.study.settings import AblationSettings
from pipeline.storage.objects import write_bytes
from pipeline.storage.uris import join

TABLE, PAGE = "ablations.json", "ablations.html"

PIXELS = ("mouth.psnr", "mouth.over_shuffled", "mouth.gradient_energy", "whole.psnr")
"""Metrics of reconstructed frames: what a loss on facial components can change."""

TRUE = "true motion"


@dataclass
class Line:
    """One model with one setting."""

    model: str
    setting: str
    metrics: list[Metric]
    variant: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in plots."""
        return ": ".join(filter(None, (self.model, self.setting)))


def settings_of(grid: AblationSettings, objective: Objective) -> list[Setting]:
    """The defaults of jobs.render, and then one change at a time."""
    usual = Setting(nfe=default_nfe(objective))
    found = [usual]
    if objective == "flow":
        found += [replace(usual, nfe=nfe) for nfe in grid.nfe]
    found += [replace(usual, audio_scale=scale) for scale in grid.audio]
    found += [replace(usual, emotion_scale=scale) for scale in grid.emotion]
    return list(dict.fromkeys(found))


def run_ablations(
    folders: Sequence[ModelFolder],
    data: str,
    splits: Sequence[str],
    grid: AblationSettings,
    seed: int = 0,
    watch: Watch = unwatched,
) -> tuple[list[Line], list[str]]:
    """Lines of the table, and notes on what could not be measured.

    The settings vary for the first model, or for all.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines: list[Line] = []
    notes: list[str] = []
    names = _names(folders)
    work: list[tuple[int, Setting | None]] = []
    for place, folder in enumerate(folders):
        full, settings = grid.every or place == 0, settings_of(grid, folder.config.objective)
        work += [(place, None)]
        work += [(place, one) for one in settings[: None if full else 1]]
    current = _Current()
    first: PairScores | None = None
    for place, setting in watch(work, "measurements (a model, and its settings)"):
        folder = folders[place]
        if setting is None:
            current = _Current(load_float(folder, device))
            if grid.pairs:
                scores = _score(current, folder, data, splits, grid, seed, device)
                metrics = _pixels(scores, seed)
                if first is None:
                    first = scores
                elif folder.config.image_size == folders[0].config.image_size:
                    metrics += paired_metrics(scores, first, seed)
                lines.append(Line(names[place], "frames reconstructed", metrics, _variant(folder)))
            try:
                current.prepare(folder, data, splits, grid, seed)
            except StudyError as error:
                notes.append(f"NOTE: the motion of {names[place]} is not measured: {error.code}: {error}")
                continue
            assert current.instrument is not None
            lines.append(Line(names[place], TRUE, truth_metrics(current.instrument, current.clips, seed)))
        elif current.instrument is not None:
            assert current.model is not None
            metrics = latent_metrics(
                current.model,
                current.instrument,
                current.clips,
                setting,
                portraits=grid.portraits,
                seed=seed,
                device=device,
            )
            lines.append(Line(names[place], setting.name, metrics, _variant(folder)))
    return lines, notes


@dataclass
class _Current:
    """The model that is being measured."""

    model: FLOAT | None = None
    instrument: Instrument | None = None
    clips: list[LatentClip] = field(default_factory=list)

    def prepare(self, folder: ModelFolder, data: str, splits: Sequence[str], grid: AblationSettings, seed: int) -> None:
        """Read the latents. Raises StudyError."""
        assert self.model is not None
        encoders, frames = folder.encoders_hash(), round(25 * grid.seconds)
        train = read_latents(self.model, encoders, data, ["train"], grid.train_clips, frames, seed)
        self.clips = read_latents(self.model, encoders, data, splits, grid.clips, frames, seed)
        self.instrument = fit_instrument(train)


def _score(
    current: _Current,
    folder: ModelFolder,
    data: str,
    splits: Sequence[str],
    grid: AblationSettings,
    seed: int,
    device: str,
) -> PairScores:
    """Score the same pairs for every model."""
    assert current.model is not None
    held_out = open_split(data, list(splits))
    pairs = draw_pairs(held_out, grid.pairs, seed)
    return score_pairs(current.model.autoencoder, held_out, pairs, folder.config.image_size, device)


def _pixels(scores: PairScores, seed: int) -> list[Metric]:
    wanted = {f"reconstruction.{key}" for key in PIXELS}
    return [metric for metric in reconstruction_metrics(scores, seed) if metric.key in wanted]


def _variant(folder: ModelFolder) -> dict[str, str]:
    return {name: getattr(folder.config, name) for name in VARIANTS}


def _names(folders: Sequence[ModelFolder]) -> list[str]:
    """Unique names of the models."""
    names = [folder.name for folder in folders]
    return [name if names.count(name) == 1 else f"{name} {f.hash[:6]}" for name, f in zip(names, folders, strict=True)]


def orderings_of(lines: Sequence[Line]) -> list[str]:
    """Whether the table ranks models and settings like the paper, where it contains both."""
    usual = {objective: Setting(nfe=default_nfe(objective)).name for objective in get_args(Objective)}

    def look(variant: dict[str, str], setting: str, key: str) -> Estimate | None:
        for line in lines:
            if line.variant == variant and line.setting == (setting or usual[variant["objective"]]):
                return next((metric.estimate for metric in line.metrics if metric.key == key), None)
        return None

    return compare_orderings(look)


# --- What comes out ----------------------------------------------------------------------------------------------


def columns_of(lines: Sequence[Line]) -> dict[str, str]:
    """Key of a metric -> its description, in order of appearance."""
    return {metric.key: metric.text for line in lines for metric in line.metrics}


def ablation_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Header and rows of the table, one row per line."""
    columns = columns_of(lines)
    rows = [["model", "setting", *columns]]
    for line in lines:
        known = {metric.key: value_text(metric.estimate, metric.unit) for metric in line.metrics}
        rows.append([line.model, line.setting, *(known.get(key, "") for key in columns)])
    return rows


def screen_lines(lines: Sequence[Line]) -> list[str]:
    """For each metric, its value in every line that has it."""
    found = []
    for key, text in columns_of(lines).items():
        found += ["", f"{key}: {text}"]
        for line in lines:
            for metric in line.metrics:
                if metric.key == key:
                    count = f"{metric.estimate.count}, {metric.estimate.speakers} speakers"
                    found.append(f"  {line.name:<64}  {value_text(metric.estimate, metric.unit):<36}  n={count}")
    return [*found, "", *orderings_of(lines), INTERVAL]


def write_ablations(lines: Sequence[Line], notes: Sequence[str], output: str, about: dict[str, Any]) -> tuple[str, str]:
    """Write ablations.json and ablations.html; returns their URIs."""
    values = {
        **about,
        "lines": [
            {
                "model": line.model,
                "setting": line.setting,
                "variant": line.variant,
                "figures": [
                    {"key": one.key, **one.estimate.as_row(), "unit": one.unit, "text": one.text}
                    for one in line.metrics
                ],
            }
            for line in lines
        ],
        "orderings": orderings_of(lines),
        "notes": list(notes),
    }
    places = join(output, TABLE), join(output, PAGE)
    write_bytes((json.dumps(values, indent=1) + "\n").encode(), places[0])
    rows = ablation_rows(lines)
    plots = []
    for key, text in columns_of(lines).items():
        dots = [one.estimate.dot(line.name) for line in lines for one in line.metrics if one.key == key]
        plots.append(dot_chart(f"{key}: {text}", dots))
    told = [paragraph(note) for note in (INTERVAL, *orderings_of(lines), *notes)]
    parts = [*told, *comparison(lines), "<h2>Plots</h2>", charts(plots), "<h2>Table</h2>"]
    parts.append(text_table("All lines", rows[0], rows[1:], range(2, len(rows[0]))))
    settings = about.get("settings", {})
    known = [
        ("models", ", ".join(dict.fromkeys(line.model for line in lines))),
        *((name, settings.get(name)) for name in ("data", "output", "seed")),
        ("held out", held_out_text([metric for line in lines for metric in line.metrics])),
        made_now(),
    ]
    write_bytes(document("Ablations on held-out clips of the corpus", parts, known).encode(), places[1])
    return places


def comparison(lines: Sequence[Line]) -> Iterator[str]:
    """Per metric: the lines, and how each differs from the first one on the same speakers."""
    yield "<h2>Paired differences</h2>"
    yield paragraph(
        "Each line minus the first one, on the same held-out speakers, with its 95 % interval. A difference counts if "
        f"its interval excludes zero and at least {LEAST} speakers are compared; a line is marked as the best if it "
        "differs for the better from every other line. Each interval stands for itself: of 20 comparisons without any "
        "true difference, about one excludes zero by chance.",
        "soft",
    )
    for key, text in columns_of(lines).items():
        ours = {line.name: one for line in lines for one in line.metrics if one.key == key and line.setting != TRUE}
        if len(ours) < 2:
            continue
        rows = []
        for one in standings(ours):
            value = cell(value_text(one.metric.estimate, one.metric.unit), "number")
            difference = cell("" if one.difference is None else value_text(one.difference), "number")
            verdict = cell("the best", "best") if one.best else cell(one.verdict)
            rows.append([f'<th scope="row">{escaped(one.name)}</th>', value, difference, verdict])
        yield f"<h3>{escaped(text)}</h3>"
        yield table(text, ("line", "value", "minus the first line", "verdict"), rows)
