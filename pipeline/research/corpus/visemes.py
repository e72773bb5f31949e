"""Phonemes -> curves of the mouth: what lips and jaw do for each sound, and how neighbours blend.

Coarticulation after Cohen and Massaro (1993, "Modeling coarticulation in synthetic visual speech"): each sound has a
target and a dominance that falls off exponentially with time, and a curve is the mean of the targets, weighted by
their dominance. Ours differs in that dominance stays at its top all through the sound instead of at its middle only.
Targets and dominances are set by hand, from what phonetics says of each sound's place; they are not measured.
"""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from models import MOTION_FPS
from pipeline.research.corpus.units import ARKIT, columns, weights
from pipeline.research.corpus.voice import PAUSE, Phoneme


@dataclass(frozen=True)
class Viseme:
    """A mouth shape, relative to the speaker's own largest movements (`MouthStyle`)."""

    face: dict[str, float]
    """Units of `ARKIT` and their weights; others are 0."""
    jaw: float = 1.0
    """Dominance on the jaw: of 0.4, a sound is half as strict about it as its two neighbours."""
    rounding: float = 1.0
    """On pucker, funnel, stretch and dimple."""
    parting: float = 1.0
    """On everything else: how far and how the lips part."""
    closes: bool = False
    """The lips meet: dominance is sharper, and lasts as long as a frame."""


@dataclass(frozen=True)
class MouthStyle:
    """How far one speaker moves the mouth."""

    jaw: float = 0.3
    """Weight of jawOpen in a stressed /a/; 0.27 to 0.36 are what `motion.draw_habits` draws."""
    lips: float = 0.85
    """Factor on the other units."""


ROUNDING = ("mouthPucker", "mouthFunnel", "mouthStretch", "mouthDimple")

FALL = {"jaw": 22.0, "rounding": 11.0, "parting": 24.0}
"""1/s, of the dominance; lips round long before and after a sound that needs it."""
CLOSING_FALL = 150.0
"""1/s: where lips meet, it is sudden."""

UNSTRESSED = 0.8
"""Share of its opening that an unstressed vowel keeps."""

CLOSURE_SECONDS = 0.03
"""espeak-ng's silence before the burst of p, t and k is still in the sound before: they begin this much earlier."""
LEAST_CLOSED = 0.056
"""In seconds; longer than a frame's 40 ms, so that each closure is visible in a frame."""

_REST = Viseme({}, jaw=0.8, rounding=0.5, parting=0.8)
_LIPS = Viseme({"mouthPress": 0.30, "mouthRollLower": 0.15, "mouthRollUpper": 0.10}, 20, 0.2, 20, closes=True)
_TEETH = Viseme({"jawOpen": 0.16, "mouthRollLower": 0.45, "mouthUpperUp": 0.22}, 2, 0.2, 4)
_TONGUE = Viseme({"jawOpen": 0.26, "mouthLowerDown": 0.22, "mouthUpperUp": 0.08, "mouthStretch": 0.12}, 0.5, 0.15, 0.7)
_HISS = Viseme({"jawOpen": 0.16, "mouthLowerDown": 0.26, "mouthUpperUp": 0.10, "mouthStretch": 0.20}, 1.2, 0.4, 1)
_HUSH = Viseme({"jawOpen": 0.24, "mouthFunnel": 0.50, "mouthPucker": 0.15, "mouthUpperUp": 0.10}, 1, 1.2, 0.8)
_BACK = Viseme({"jawOpen": 0.36, "mouthLowerDown": 0.10}, 0.4, 0.15, 0.4)
_R = Viseme({"jawOpen": 0.28, "mouthPucker": 0.25, "mouthFunnel": 0.20}, 0.6, 0.7, 0.5)
_W = Viseme({"jawOpen": 0.18, "mouthPucker": 0.65, "mouthFunnel": 0.20}, 1.2, 2, 1)
_J = Viseme({"jawOpen": 0.24, "mouthStretch": 0.28, "mouthLowerDown": 0.10}, 0.6, 0.7, 0.5)
_I = Viseme({"jawOpen": 0.30, "mouthStretch": 0.38, "mouthDimple": 0.12, "mouthLowerDown": 0.20})
_E = Viseme({"jawOpen": 0.60, "mouthStretch": 0.28, "mouthLowerDown": 0.26, "mouthUpperUp": 0.08})
_AE = Viseme({"jawOpen": 0.85, "mouthStretch": 0.20, "mouthLowerDown": 0.30, "mouthUpperUp": 0.14})
_A = Viseme({"jawOpen": 1.00, "mouthLowerDown": 0.28, "mouthUpperUp": 0.14})
_SCHWA = Viseme({"jawOpen": 0.50, "mouthLowerDown": 0.16}, 0.7, 0.5, 0.7)
_O = Viseme({"jawOpen": 0.66, "mouthFunnel": 0.42, "mouthPucker": 0.22, "mouthLowerDown": 0.08}, rounding=1.5)
_U = Viseme({"jawOpen": 0.26, "mouthPucker": 0.60, "mouthFunnel": 0.28}, rounding=1.8)
_UE = Viseme({"jawOpen": 0.26, "mouthPucker": 0.52, "mouthFunnel": 0.34}, rounding=1.8)
_OE = Viseme({"jawOpen": 0.52, "mouthFunnel": 0.46, "mouthPucker": 0.18}, rounding=1.5)

VISEMES: dict[str, Viseme] = {
    letter: viseme
    for letters, viseme in (
        ("pbm", _LIPS),
        ("fvɱʋ", _TEETH),
        ("tdnlɾrɽθðɫʎɲ", _TONGUE),
        ("szɕʑ", _HISS),
        ("ʃʒʂʐ", _HUSH),
        ("kɡgŋxɣhqʔɴçχʁɦ", _BACK),
        ("ɹɻ", _R),
        ("wʍɸβɥ", _W),
        ("jʝ", _J),
        ("iɪɨᵻ", _I),
        ("eɛ", _E),
        ("æ", _AE),
        ("aɑɐʌɒ", _A),
        ("əɜɚɯ", _SCHWA),
        ("oɔ", _O),
        ("uʊʉ", _U),
        ("yʏ", _UE),
        ("øœ", _OE),
    )
    for letter in letters
}
"""IPA letters that occur in the languages of `voice.LANGUAGES`."""

VOWELS = frozenset("iɪɨᵻeɛæaɑɐʌɒəɜɚɯoɔuʊʉyʏøœ")
_VOICELESS_STOPS = frozenset("ptk")
PRIMARY_STRESS, SECONDARY_STRESS = "ˈ", "ˌ"


@dataclass(frozen=True)
class _Sound:
    viseme: Viseme
    start: float
    end: float
    opening: float
    """Factor on the target."""


def letters(symbol: str) -> list[str]:
    """An espeak-ng symbol -> its IPA letters, without stress, length, tone and diacritics: `ˈeɪ` -> e, ɪ.

    Raises ValueError for a letter without a mouth shape.
    """
    plain = (c if c in VISEMES else unicodedata.normalize("NFD", c)[0] for c in symbol)
    found = [c for c in plain if unicodedata.category(c) in ("Ll", "Lo")]
    for letter in found:
        if letter not in VISEMES:
            raise ValueError(f"there is no mouth shape for {letter!r} of the phoneme {symbol!r}: add it to VISEMES")
    return found


def mouth_curves(phonemes: Sequence[Phoneme], frames: int, style: MouthStyle | None = None) -> np.ndarray:
    """Phonemes -> weights (T,52) float32 in [0,1] of the units that shape the mouth, in the order of `ARKIT`.

    Frame n shows the middle of its 40 ms, (n + 0.5) / 25 s. The tongue has no unit: it never comes out.
    """
    style = style or MouthStyle()
    sounds = _sounds(phonemes)
    targets = np.array([s.opening * _target(s.viseme) for s in sounds])  # (sounds,52)
    curves = np.zeros((frames, len(ARKIT)))
    for group, places in _groups().items():
        dominance = _dominance(sounds, frames, group)  # (T,sounds)
        curves[:, places] = dominance @ targets[:, places] / dominance.sum(1, keepdims=True)
    scale = np.full(len(ARKIT), style.lips)
    scale[columns("jawOpen")] = style.jaw
    return (curves * scale).clip(0, 1).astype(np.float32)


def lip_closure(phonemes: Sequence[Phoneme], frames: int) -> np.ndarray:
    """How much a sound holds the lips together, (T,) float32 from 0 to 1, in which case an expression must not part
    them.
    """
    sounds = _sounds(phonemes)
    dominance = _dominance(sounds, frames, "parting")
    closing = np.array([s.viseme.closes for s in sounds])
    return (dominance[:, closing].sum(1) / dominance.sum(1)).astype(np.float32)


def _target(viseme: Viseme) -> np.ndarray:
    return weights(viseme.face)


@cache
def _groups() -> dict[str, list[int]]:
    """Units by the dominance that they follow."""
    jaw = columns("jawOpen")
    rounding = [place for name in ROUNDING for place in columns(name)]
    return {
        "jaw": jaw,
        "rounding": rounding,
        "parting": [i for i in range(len(ARKIT)) if i not in jaw and i not in rounding],
    }


def _sounds(phonemes: Sequence[Phoneme]) -> list[_Sound]:
    """Each letter of each phoneme, with its share of the time."""
    sounds: list[_Sound] = []
    for phoneme in phonemes:
        found = letters(phoneme.symbol)
        if phoneme.symbol != PAUSE and not found:  # a mark alone, as ʲ: it belongs to the sound before
            continue
        stressed = PRIMARY_STRESS in phoneme.symbol or SECONDARY_STRESS in phoneme.symbol
        each = (phoneme.end - phoneme.start) / max(1, len(found))
        if not found:
            sounds.append(_Sound(_REST, phoneme.start, phoneme.end, 1.0))
        for i, letter in enumerate(found):
            start, end = phoneme.start + i * each, phoneme.start + (i + 1) * each
            viseme = VISEMES[letter]
            if letter in _VOICELESS_STOPS and i == 0:
                start, end = start - CLOSURE_SECONDS, start
            if viseme.closes:
                missing = max(0.0, LEAST_CLOSED - (end - start))
                start, end = start - missing / 2, end + missing / 2
            opening = UNSTRESSED if letter in VOWELS and not stressed else 1.0
            sounds.append(_Sound(viseme, start, end, opening))
    return sounds


def _dominance(sounds: list[_Sound], frames: int, group: str) -> np.ndarray:
    """(T,sounds), above 0 throughout."""
    times = (np.arange(frames)[:, None] + 0.5) / MOTION_FPS
    start, end = np.array([s.start for s in sounds]), np.array([s.end for s in sounds])
    away = np.maximum(0, np.maximum(start - times, times - end))  # s
    top = np.array([getattr(s.viseme, group) for s in sounds])
    sharp = np.array([s.viseme.closes and group != "rounding" for s in sounds])
    fall = np.where(sharp, CLOSING_FALL, FALL[group])
    return top * np.exp(-fall * away) + 1e-9
