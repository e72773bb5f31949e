"""`encoders.html`: what the encoders recognise, for which voices, and their learning curves. No scripts."""

from collections.abc import Sequence
from typing import Any

from pipeline.report.html import cell, document, escaped, made_now, paragraph, table, text_table
from pipeline.training.curves import Point, curve_charts

PEOPLE = ("phoneme_error_rate", "phoneme_error_rate_shuffled", "shuffled_as_good")
PEOPLE_NOTE = (
    "An encoder that understands a person has an error rate far below that of random order; an encoder close to it "
    "has learned only synthetic speech."
)


def page(metrics: dict[str, Any], points: Sequence[Point], corpus: str) -> str:
    """HTML of `figures.json` and of the learning curves; `corpus` is what they were made from."""
    whole = metrics["content"]["all"]
    held_out = f"{whole['clips']} clips of {whole['speakers']} speakers"
    about = [("corpus", corpus), ("held out", held_out), ("seed", metrics["settings"]["seed"]), made_now()]
    parts = [paragraph(metrics["corpus_note"])]
    parts += ["<h2>Phonemes</h2>", _phonemes(metrics), "<h2>Recordings of people</h2>", _people(metrics)]
    parts += ["<h2>Emotions</h2>", _emotions(metrics["emotion"]), "<h2>Learning curves</h2>", curve_charts(points)]
    return document("Speech encoders", parts, about)


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


def _phonemes(metrics: dict[str, Any]) -> str:
    content = metrics["content"]
    rows = [_row("all languages", content["all"])]
    rows += [_row(name, one) for name, one in content["languages"].items()]
    rows += [_row(name, one) for name, one in content["voices"].items()]
    rows += [_row("linear probe of all layers", content["probe"])]
    rows += [_row("floor: the same probe on a random encoder", content["probe_untrained"])]
    rows += [_row(f"floor: always {content['most_frequent']['letter']}", content["most_frequent"])]
    return (
        "<p>Held-out speakers of the corpus, in frames of 40 ms. The error rate is the edit distance divided by the "
        "number of spoken phonemes, with greedy decoding, repeated symbols merged and pauses left out. The brackets "
        "show 95 % intervals, by bootstrap over speakers.</p>"
        + text_table("Phonemes", ("", "speakers", "clips", "frame accuracy", "phoneme error rate"), rows, range(1, 5))
    )


def _people(metrics: dict[str, Any]) -> str:
    rows = [[one["file"], *(share(one.get(name)) for name in PEOPLE)] for one in metrics["people"]]
    texts = "".join(
        f"<p>{escaped(one['file'])}<br>{escaped(one.get('text', 'no transcript'))}<br>"
        + (f"phonemes by espeak-ng: <code>{escaped(one['said'])}</code><br>" if "said" in one else "")
        + f"recognised: <code>{escaped(one['heard'])}</code></p>"
        for one in metrics["people"]
    )
    new = metrics["new_sentences"]
    told = new.get("note") or (
        f"The same sentences, spoken by {new['voices']} new voices of espeak-ng: {share(new['phoneme_error_rate'])}."
    )
    head = ("recording", "phoneme error rate", "with the phonemes in random order", "random orders that are as good")
    return f"{text_table('Recordings of people', head, rows, range(1, 4))}<p>{escaped(told)} {PEOPLE_NOTE}</p>{texts}"


def _emotions(emotion: dict[str, Any]) -> str:
    strength = "".join(
        f", {name.removeprefix('accuracy_').replace('_', ' ')}: {share(value)}"
        for name, value in emotion.items()
        if name.startswith("accuracy_intensity")
    )
    names = emotion["emotions"]
    rows = []
    for name, counts in zip(names, emotion["confusion"], strict=True):
        shades = [f"number heat{round(10 * count / max(1, sum(counts)))}" for count in counts]
        rows.append([f'<th scope="row">{escaped(name)}</th>', *map(cell, counts, shades)])
    return (
        f"<p>Accuracy: {share(emotion['accuracy'], emotion['accuracy_interval'])} on {emotion['clips']} clips of "
        f"{emotion['speakers']} held-out speakers; chance level {share(emotion['chance'])}{strength}. Rows are the "
        f"intended emotions, columns the predicted ones.</p>{table('Emotions', ('', *names), rows)}"
    )
