"""What a neural voice is asked to say, symbol by symbol, and when it said which phoneme."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models import SAMPLE_RATE
from pipeline.research.corpus.voice import LEAD_SECONDS, PAUSE, Phoneme

LEAST_PAUSE = 0.06
"""A space or comma that takes less time than this, in seconds, is no pause: its neighbours share the time."""
SILENT_DB = 20.0
"""Level of a pause below that of the loud frames; voices often speak through the time of a space."""
STEP = 160
"""Samples of a level: 10 ms."""


@dataclass(frozen=True)
class Token:
    """One input symbol of a voice."""

    number: int
    item: int
    """Place in `Script.items`, or -1 for the filling between two symbols."""


@dataclass(frozen=True)
class Script:
    """A text as input of a voice."""

    tokens: tuple[Token, ...]
    items: tuple[str, ...]
    """Phonemes in espeak-ng's IPA; `PAUSE` for spaces, punctuation and the ends."""


def script(
    clauses: Sequence[tuple[list[list[str]], str]],
    numbers: dict[str, int],
    respell: Callable[[str], str],
    *,
    start: Sequence[int],
    end: Sequence[int],
    filling: int | None = None,
) -> Script:
    """Write phonemes as a voice's input.

    Args:
        clauses: (words of espeak-ng's phonemes, the punctuation mark that follows) of each clause.
        numbers: symbol -> the voice's number; symbols that it does not have are left out.
        respell: a phoneme of espeak-ng -> the voice's symbols for it.
        start: numbers before the first symbol.
        end: numbers after the last one.
        filling: number between any two symbols.
    """
    items: list[str] = [PAUSE]
    tokens = [Token(number, 0) for number in start]

    def add(item: str, symbols: str) -> None:
        items.append(item)
        plain = unicodedata.normalize("NFD", symbols)
        tokens.extend(Token(numbers[symbol], len(items) - 1) for symbol in plain if symbol in numbers)

    for words, mark in clauses:
        for i, word in enumerate(words):
            if i:
                add(PAUSE, " ")
            for phoneme in word:
                add(phoneme, respell(phoneme))
        add(PAUSE, mark)
        add(PAUSE, " ")
    items.append(PAUSE)
    tokens.extend(Token(number, len(items) - 1) for number in end)
    if filling is not None:
        between = Token(filling, -1)
        tokens = [token for one in tokens for token in (one, between)][:-1]
    return Script(tuple(tokens), tuple(items))


def timed(script: Script, durations: np.ndarray, wave: np.ndarray) -> tuple[Phoneme, ...]:
    """Times of the phonemes in a recording (n,) at 16 kHz, in which the voice begins `LEAD_SECONDS` late.

    `durations` (tokens,) are in seconds. Filling between two symbols belongs to both by halves. Phonemes that the voice
    has no symbol for do not occur.
    """
    ends = LEAD_SECONDS + np.cumsum(durations)
    starts = ends - durations
    spans: list[list[float]] = []  # start, end, item
    gap = 0.0
    for token, start, end in zip(script.tokens, starts, ends, strict=True):
        if token.item < 0:
            gap = end - start
            continue
        if spans and spans[-1][2] == token.item:
            spans[-1][1] = end
        else:
            spans.append([start - gap / 2, end, token.item])
            if len(spans) > 1:
                spans[-2][1] = start - gap / 2
        gap = 0.0
    found: list[Phoneme] = []
    for start, end, item in spans:
        _append(found, script.items[int(item)], start, end)
    found[0] = Phoneme(PAUSE, 0.0, found[0].end)
    found[-1] = Phoneme(found[-1].symbol, found[-1].start, float(ends[-1]))
    _append(found, PAUSE, float(ends[-1]), len(wave) / SAMPLE_RATE)
    return _without_false_pauses(found, _silent(wave))


def _append(found: list[Phoneme], symbol: str, start: float, end: float) -> None:
    if found and symbol == PAUSE == found[-1].symbol:
        found[-1] = Phoneme(PAUSE, found[-1].start, end)
    else:
        found.append(Phoneme(symbol, start, end))


def _silent(wave: np.ndarray) -> np.ndarray:
    """(n,) -> whether each `STEP` is as quiet as a pause."""
    steps = wave[: len(wave) // STEP * STEP].reshape(-1, STEP).astype(np.float64)
    decibels = 10 * np.log10(np.square(steps).mean(1) + 1e-12)
    return decibels < np.percentile(decibels, 90) - SILENT_DB


def _without_false_pauses(phonemes: list[Phoneme], silent: np.ndarray) -> tuple[Phoneme, ...]:
    found: list[Phoneme] = []
    early = None  # where a pause that was left out gives its second half to the next phoneme
    for i, one in enumerate(phonemes):
        inside = silent[round(one.start * SAMPLE_RATE / STEP) : round(one.end * SAMPLE_RATE / STEP)]
        short = one.end - one.start < LEAST_PAUSE or inside.mean() < 0.5
        if one.symbol == PAUSE and 0 < i < len(phonemes) - 1 and short:
            early = (one.start + one.end) / 2
            found[-1] = Phoneme(found[-1].symbol, found[-1].start, early)
            continue
        found.append(one if early is None else Phoneme(one.symbol, early, one.end))
        early = None
    return tuple(found)
