"""`encoders.html`: what the encoders hear, of whom, and how they learned. No scripts."""

import html
from collections.abc import Sequence
from typing import Any

from pipeline.training.curves import STYLE, Point, charts

OWN_STYLE = """
table { border-collapse: collapse; margin: 8px 0 20px } th, td { padding: 3px 10px; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #8884 }
p { max-width: 900px } code { overflow-wrap: anywhere }
"""


PEOPLE = ("phoneme_error_rate", "phoneme_error_rate_shuffled", "shuffled_as_good")
PEOPLE_NOTE = (
    "An encoder that understands a person is far below the error rate of random order; one that is near it has learned "
    "synthetic speech only."
)


def page(figures: dict[str, Any], points: Sequence[Point]) -> str:
    """HTML of `figures.json` and of the learning curves."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Speech encoders</title>'
        f"<style>{STYLE}{OWN_STYLE}</style><h1>Speech encoders</h1>"
        f"<p>{html.escape(figures['corpus_note'])}</p>"
        f"<h2>Phonemes</h2>{_phonemes(figures)}"
        f"<h2>Voices of people</h2>{_people(figures)}"
        f"<h2>Emotions</h2>{_emotions(figures['emotion'])}"
        f"<h2>Learning curves</h2><main>{charts(points)}</main></html>\n"
    )


def share(value: float | None, between: Sequence[float | None] = ()) -> str:
    """12.3 % (10.1 to 14.0); a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001
    low, high = between or (None, None)
    return f"{value:.1%}" + ("" if low is None or high is None else f" ({low:.1%} to {high:.1%})")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{top}{body}</table>"


def _row(name: str, one: dict[str, Any]) -> list[str]:
    return [
        name,
        str(one["speakers"]),
        str(one["clips"]),
        share(one["frame_accuracy"], one["frame_accuracy_interval"]),
        share(one["phoneme_error_rate"], one["phoneme_error_rate_interval"]),
    ]


def _phonemes(figures: dict[str, Any]) -> str:
    content = figures["content"]
    rows = [_row("all languages", content["all"])]
    rows += [_row(name, one) for name, one in content["languages"].items()]
    rows += [_row("linear probe of all layers", content["probe"])]
    rows += [_row("floor: the same probe, random encoder", content["probe_untrained"])]
    rows += [_row(f"floor: always {content['most_frequent']['letter']}", content["most_frequent"])]
    return (
        "<p>Speakers of the corpus who were held out. Frames of 40 ms; error rate: edit distance over letters said, "
        "greedy, equal neighbours joined, pauses left out. In brackets 95 % intervals by bootstrap over speakers.</p>"
        + _table(("", "speakers", "clips", "frames right", "phoneme error rate"), rows)
    )


def _people(figures: dict[str, Any]) -> str:
    rows = [[one["file"], *(share(one.get(name)) for name in PEOPLE)] for one in figures["people"]]
    texts = "".join(
        f"<p>{html.escape(one['file'])}<br>{html.escape(one.get('text', 'no transcript'))}<br>"
        + (f"as espeak-ng says it: <code>{html.escape(one['said'])}</code><br>" if "said" in one else "")
        + f"heard: <code>{html.escape(one['heard'])}</code></p>"
        for one in figures["people"]
    )
    new = figures["new_sentences"]
    told = new.get("note") or (
        f"The same texts, spoken by {new['voices']} new voices of espeak-ng: {share(new['phoneme_error_rate'])}."
    )
    head = ("recording", "phoneme error rate", "with the letters said in random order", "random orders as good")
    return f"{_table(head, rows)}<p>{html.escape(told)} {PEOPLE_NOTE}</p>{texts}"


def _emotions(emotion: dict[str, Any]) -> str:
    strength = "".join(
        f", {name.removeprefix('accuracy_').replace('_', ' ')}: {share(value)}"
        for name, value in emotion.items()
        if name.startswith("accuracy_intensity")
    )
    names = emotion["emotions"]
    rows = ""
    for name, counts in zip(names, emotion["confusion"], strict=True):
        total = max(1, sum(counts))
        cells = "".join(f'<td style="background:rgb(21 96 189/{count / total:.2f})">{count}' for count in counts)
        rows += f"<tr><td>{name}{cells}"
    head = "".join(f"<th>{name}" for name in names)
    return (
        f"<p>Right: {share(emotion['accuracy'], emotion['accuracy_interval'])} of {emotion['clips']} clips of "
        f"{emotion['speakers']} held-out speakers; chance: {share(emotion['chance'])}{strength}. Rows: what was meant; "
        f"columns: what was heard.</p><table><tr><th>{head}{rows}</table>"
    )
