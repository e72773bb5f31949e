"""Metrics -> pass, review or fail, with a code and a sentence for each reason.

A code is the name of the metric and the side on which it exceeds its limit: `black_seconds_high`, `face_share_low`.
Codes are an interface, like those of `pipeline.common.errors`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.notes import NOTES
from pipeline.common.options import SettingError
from pipeline.common.quoted import quoted
from pipeline.manifest.dialogue import face_name
from pipeline.measure.metric import VERDICTS, Metric, Rule, Verdict
from pipeline.measure.metrics import METRICS

UNTRAINED = "model_untrained"
UNMEASURED = "qc_incomplete"

_THRESHOLD = re.compile(
    r"(?:qc_)?(?P<name>\w+)\s*(?P<operator>[<>])\s*(?P<limit>off|-?[\d.]+(?:e-?\d+)?)\s+(?P<verdict>review|fail)"
    r"(?:\s+(?P<column>language|speaker)=(?P<value>.+))?"
)


@dataclass(frozen=True)
class Threshold:
    """A rule from the config for one metric, for all clips or for those of one language or speaker."""

    column: str
    rule: Rule
    off: bool = False
    """Whether it disables the metric's own rule instead."""
    of: str = ""
    """language, speaker or empty."""
    value: str = ""

    def is_for(self, row: Mapping[str, Any]) -> bool:
        """Whether it applies to a clip. A language includes its regions: pt includes pt-BR."""
        given = str(row.get(self.of) or "")
        if self.of == "language":
            return f"{given}-".lower().startswith(f"{self.value}-".lower())
        return not self.of or given == self.value


def parse_thresholds(texts: Iterable[str]) -> list[Threshold]:
    """Parse `METRIC <|> NUMBER|off review|fail [language=TAG|speaker=NAME]`. Raises SettingError."""
    found = []
    columns = {metric.column for metric in METRICS}
    for text in texts:
        match = _THRESHOLD.fullmatch(text.strip())
        column = f"qc_{match['name']}" if match else ""
        if match is None or column not in columns:
            raise SettingError(
                "thresholds",
                f"{quoted(text)} is not of the form 'METRIC < NUMBER review', with < or >, a number or off, review or "
                "fail, and optionally language=TAG or speaker=NAME at the end; the metrics are "
                f"{', '.join(sorted(c[3:] for c in columns))}",
            )
        off = match["limit"] == "off"
        rule = Rule(match["operator"], 0.0 if off else float(match["limit"]), match["verdict"])  # type: ignore[arg-type]
        found.append(Threshold(column, rule, off, match["column"] or "", match["value"] or ""))
    return found


@dataclass(frozen=True)
class Judgement:
    """The verdict of quality control on one file."""

    status: Verdict
    reasons: tuple[str, ...]
    """Codes, the worst first."""
    messages: tuple[str, ...]
    """One sentence per code."""
    seed_may_help: bool
    """Whether another seed can fix everything that it fails for."""


def judge(row: Mapping[str, Any], thresholds: Iterable[Threshold] = (), notes: Iterable[str] = ()) -> Judgement:
    """The verdict on a row with its metrics. Metrics that depend on the model are ignored if the model is untrained.

    `notes` say in words what could not be measured; each of them requires a review, and so does what was noticed about
    the inputs if its level says so.
    """
    trained = row.get("model_trained") is not False
    # Later and more specific rules win: a rule for a speaker over one for a language over one for all clips.
    order = {"": 0, "language": 1, "speaker": 2}
    ours = sorted((t for t in thresholds if t.is_for(row)), key=lambda t: order[t.of])
    slotted = row.get("on_length") or "length_padded" in (row.get("input_notes") or ())
    seconds = row.get("duration" if slotted else "audio_duration")
    found: list[tuple[Verdict, str, str, Metric | None]] = []
    for metric in METRICS:
        value = row.get(metric.column)
        if value is None or (metric.by_model and not trained):
            continue
        broken = [rule for rule in _rules(metric, ours) if rule.broken_by(value, seconds)]
        if broken:
            worst = max(broken, key=lambda rule: VERDICTS.index(rule.verdict))
            text = _named_face(row, metric, value) + _message(metric, worst, value, seconds)
            found.append((worst.verdict, _code(metric, worst), text, metric))
    found += [("review", UNMEASURED, note, None) for note in notes]
    noticed = zip(row.get("input_notes") or (), row.get("input_messages") or (), strict=True)
    # An output of a later version may have codes that this one does not know: a person decides.
    found += [("review", code, text, None) for code, text in noticed if NOTES.get(code, ("review",))[0] == "review"]
    if not trained:
        text = "the model is untrained, so the face, lips, motion and image of this clip are not judged"
        found.append(("review", UNTRAINED, text, None))
    found.sort(key=lambda reason: -VERDICTS.index(reason[0]))
    failed = [metric for verdict, _, _, metric in found if verdict == "fail"]
    return Judgement(
        status=found[0][0] if found else "pass",
        reasons=tuple(code for _, code, _, _ in found),
        messages=tuple(message for _, _, message, _ in found),
        seed_may_help=bool(failed) and all(metric is not None and metric.by_model for metric in failed),
    )


def _rules(metric: Metric, thresholds: Iterable[Threshold]) -> list[Rule]:
    rules = {(rule.operator, rule.verdict): rule for rule in metric.rules}
    for threshold in thresholds:
        key = (threshold.rule.operator, threshold.rule.verdict)
        if threshold.column == metric.column:
            rules.pop(key, None)
            if not threshold.off:
                rules[key] = threshold.rule
    return list(rules.values())


def _code(metric: Metric, rule: Rule) -> str:
    return f"{metric.column.removeprefix('qc_')}_{'low' if rule.operator == '<' else 'high'}"


def _message(metric: Metric, rule: Rule, value: float, seconds: float | None) -> str:
    name = metric.column.removeprefix("qc_")
    unit = f" {metric.unit}" if metric.unit else ""
    side = "below" if rule.operator == "<" else "above"
    advice = f": {metric.advice}" if metric.advice else ""
    return f"{name} is {value:g}{unit}, {side} {rule.limit_for(seconds):.4g}{advice}"


def _named_face(row: Mapping[str, Any], metric: Metric, value: float) -> str:
    """`faces[2]: ` if a value of the row is that of its second face; empty for a clip of one face, or of the file."""
    for number, measured in enumerate(json.loads(row.get("qc_faces") or "[]"), start=1):
        if measured.get(metric.column) == value:
            return f"{face_name(number)}: "
    return ""


def metric_table() -> str:
    """All metrics with their limits as Markdown, for the end of `pipeline/qc/README.md`."""
    lines = ["| metric | unit | definition | review | fail | where the limit comes from |", "|---|---|---|---|---|---|"]
    for metric in METRICS:
        limits = {
            verdict: ", ".join(str(rule) for rule in metric.rules if rule.verdict == verdict)
            for verdict in ("review", "fail")
        }
        name = metric.column.removeprefix("qc_")
        cells = (name, metric.unit, metric.text, limits["review"], limits["fail"], metric.origin)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
