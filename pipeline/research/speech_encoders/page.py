"""`encoders.html`: what the encoders hear, of whom, and how they learned. No scripts."""

from collections.abc import Sequence
from typing import Any

from pipeline.report.html import cell, document, escaped, paragraph, table, text_table
from pipeline.training.curves import Point, curve_charts

PEOPLE = ("phoneme_error_rate", "phoneme_error_rate_shuffled", "shuffled_as_good")
PEOPLE_NOTE = (
    "An encoder that understands a person is far below the error rate of random order; one that is near it has learned "
    "synthetic speech only."
)


def page(figures: dict[str, Any], points: Sequence[Point]) -> str:
    """HTML of `figures.json` and of the learning curves."""
    parts = [paragraph(figures["corpus_note"])]
    parts += ["<h2>Phonemes</h2>", _phonemes(figures), "<h2>Voices of people</h2>", _people(figures)]
    parts += ["<h2>Emotions</h2>", _emotions(figures["emotion"]), "<h2>Learning curves</h2>", curve_charts(points)]
    return document("Speech encoders", parts)


def share(value: float | None, between: Sequence[float | None] = ()) -> str:
    """12.3 % (10.1 to 14.0); a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001
    low, high = between or (None, None)
    return f"{value:.1%}" + ("" if low is None or high is None else f" ({low:.1%} to {high:.1%})")


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
        + text_table(("", "speakers", "clips", "frames right", "phoneme error rate"), rows, range(1, 5))
    )


def _people(figures: dict[str, Any]) -> str:
    rows = [[one["file"], *(share(one.get(name)) for name in PEOPLE)] for one in figures["people"]]
    texts = "".join(
        f"<p>{escaped(one['file'])}<br>{escaped(one.get('text', 'no transcript'))}<br>"
        + (f"as espeak-ng says it: <code>{escaped(one['said'])}</code><br>" if "said" in one else "")
        + f"heard: <code>{escaped(one['heard'])}</code></p>"
        for one in figures["people"]
    )
    new = figures["new_sentences"]
    told = new.get("note") or (
        f"The same texts, spoken by {new['voices']} new voices of espeak-ng: {share(new['phoneme_error_rate'])}."
    )
    head = ("recording", "phoneme error rate", "with the letters said in random order", "random orders as good")
    return f"{text_table(head, rows, range(1, 4))}<p>{escaped(told)} {PEOPLE_NOTE}</p>{texts}"


def _emotions(emotion: dict[str, Any]) -> str:
    strength = "".join(
        f", {name.removeprefix('accuracy_').replace('_', ' ')}: {share(value)}"
        for name, value in emotion.items()
        if name.startswith("accuracy_intensity")
    )
    names = emotion["emotions"]
    rows = [
        [cell(name), *(cell(count, f"number heat{round(10 * count / max(1, sum(counts)))}") for count in counts)]
        for name, counts in zip(names, emotion["confusion"], strict=True)
    ]
    return (
        f"<p>Right: {share(emotion['accuracy'], emotion['accuracy_interval'])} of {emotion['clips']} clips of "
        f"{emotion['speakers']} held-out speakers; chance: {share(emotion['chance'])}{strength}. Rows: what was meant; "
        f"columns: what was heard.</p>{table(('', *names), rows)}"
    )
