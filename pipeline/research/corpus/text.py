"""The text of a video, drawn from the stock of sentences and templates by a seed."""

import numpy as np

from pipeline.research.corpus.sentences import MONTHS, SENTENCES, TEMPLATES

MARKS = ".,;:!?。、？！"  # noqa: RUF001
TEMPLATE_SHARE = 0.3
"""Share of the sentences that have numbers and dates."""


def draw_text(language: str, seed: int, sentences: int = 2) -> str:
    """A text of this many different sentences; the same seed gives the same text. A sentence is about 2.5 s of speech.

    Raises ValueError for a language without sentences, or if there are not enough of them.
    """
    if language not in SENTENCES:
        raise ValueError(f"language must be one of {', '.join(SENTENCES)}, got {language!r}")
    most = min(len(SENTENCES[language]), len(TEMPLATES[language]))
    if not 1 <= sentences <= most:
        raise ValueError(f"sentences must be 1 to {most}, got {sentences}")
    rng = np.random.default_rng([seed, 0])
    filled = int(rng.binomial(sentences, TEMPLATE_SHARE))
    chosen = [*_pick(SENTENCES[language], sentences - filled, rng)]
    chosen += [_fill(template, language, rng) for template in _pick(TEMPLATES[language], filled, rng)]
    return " ".join(chosen[i] for i in rng.permutation(sentences))


def draw_words(language: str, seed: int, count: int) -> str:
    """Words of the language's sentences in random order, as one sentence; the same seed gives the same words.

    A recogniser that hears whole sentences again and again learns which sound follows which. ValueError as `draw_text`.
    """
    if language not in SENTENCES:
        raise ValueError(f"language must be one of {', '.join(SENTENCES)}, got {language!r}")
    words = sorted({word.strip(MARKS).lower() for text in SENTENCES[language] for word in text.split()} - {""})
    rng = np.random.default_rng([seed, 1])
    return " ".join(words[i] for i in rng.integers(len(words), size=count)) + "."


def _pick(texts: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in rng.choice(len(texts), count, replace=False)]


def _fill(template: str, language: str, rng: np.random.Generator) -> str:
    months = MONTHS[language].split()
    return template.format(
        hour=rng.integers(1, 13),
        minute=rng.integers(10, 60),
        small=rng.integers(2, 10),
        number=rng.integers(11, 1000),
        day=rng.integers(10, 21),
        month=months[rng.integers(len(months))],
    )
