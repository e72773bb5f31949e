"""Speech by trained voices: the same truth as from espeak-ng, in voices that were learned from recordings of people.

Many speakers come from a few voices: Kokoro's styles are mixed, and pitch and vocal tract are changed independently of
each other. Phonemes are those that espeak-ng gives for the text (Flite's are its own), and their times are the voice's
own durations.
"""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models import EMOTIONS, SAMPLE_RATE
from models.config import SAMPLES_PER_FRAME
from pipeline.research.corpus.alignment import Script, script, timed
from pipeline.research.corpus.flite import FLITE_SPEAKERS, flite
from pipeline.research.corpus.formants import moved_formants
from pipeline.research.corpus.neural import (
    KOKORO_RATE,
    PIPER_RATE,
    STYLES,
    kokoro,
    kokoro_symbols,
    piper,
    piper_symbols,
)
from pipeline.research.corpus.quality import coloured
from pipeline.research.corpus.voice import (
    LANGUAGES,
    LEAD_SECONDS,
    MANNERS,
    PAUSE,
    TAIL_SECONDS,
    Utterance,
    resampled,
    spelled_by_espeak,
)

ACCENTS: dict[str, tuple[str, ...]] = {
    "en": ("en-us", "en"),
    **{language: LANGUAGES[language] for language in ("de", "es", "fr", "it", "pt", "ja")},
}
"""BCP-47 -> espeak-ng's accents. Kokoro was not trained on German, but has its sounds; it has not those of Korean."""
PIPER, KOKORO, FLITE = "joe", "kokoro", "flite"
MODELS = (PIPER, KOKORO, FLITE)
ENGLISH_ONLY = (PIPER, FLITE)
WOMEN = ("slt",)
"""Of Flite's speakers; Kokoro's are nearly all women."""
ONE_STYLE = 0.35
"""Share of Kokoro's speakers who have one of its styles, unmixed."""
ALONE = "jf_nezumi"
"""A style that is in no mixture, so that a training may leave it out and be measured on it."""

KOKORO_LETTERS = {
    **{"eɪ": "A", "aɪ": "I", "oʊ": "O", "əʊ": "Q", "aʊ": "W", "ɔɪ": "Y"},
    **{"dʒ": "ʤ", "tʃ": "ʧ", "ts": "ʦ", "dz": "ʣ", "tɕ": "ʨ", "dʑ": "ʥ"},
    **{"g": "ɡ", "ʏ": "y", "ɫ": "l", "ʉ": "u", "ʍ": "w", "ʑ": "ʒ", "ɱ": "m", "χ": "x", "ʀ": "ʁ", "ɣ": "ɡ"},
}
"""espeak-ng's phonemes and letters that Kokoro writes otherwise or does not have."""
LOUDNESS = 0.12
"""RMS of the voices' frames before an emotion changes it; espeak-ng's are about as loud."""
MARKS = {"。": ".", "、": ",", "？": "?", "！": "!"}
EMOTION_PITCH = 0.5
"""Share of an emotion's change of pitch: all of it sounds like another speaker here, as the melody stays the same."""


@dataclass(frozen=True)
class NaturalVoice:
    """One speaker."""

    language: str
    accent: str
    """Of espeak-ng, which decides how a text is pronounced."""
    model: str
    """`PIPER`, `KOKORO` or `FLITE`."""
    style: tuple[float, ...] = ()
    """Weights of `neural.STYLES`, for Kokoro."""
    speaker: str = ""
    """One of `FLITE_SPEAKERS`, for Flite."""
    pace: float = 1.0
    """Factor on the durations."""
    pitch: float = 1.0
    """Factor on the pitch."""
    tract: float = 1.0
    """Factor on the formants: above 1 a shorter vocal tract."""
    liveliness: float = 1.0
    """Of Piper's random numbers."""

    @property
    def source(self) -> str:
        """`joe`, `flite:<speaker>`, `kokoro:<style>` or `kokoro:mixed`."""
        if self.model == PIPER:
            return PIPER
        if self.model == FLITE:
            return f"{FLITE}:{self.speaker}"
        alone = [name for name, weight in zip(STYLES, self.style, strict=True) if weight == 1]
        return f"{KOKORO}:{alone[0] if alone else 'mixed'}"


def models_of(language: str, models: Sequence[str]) -> list[str]:
    """Those of the models that speak a language."""
    return [name for name in models if language in ACCENTS and (language == "en" or name not in ENGLISH_ONLY)]


def draw_natural_voice(language: str, seed: int, models: Sequence[str] = (KOKORO,)) -> NaturalVoice:
    """A speaker of a language from a seed, with one of the models, of which one may occur more often.

    Raises ValueError if none of them speaks the language.
    """
    able = models_of(language, models)
    if not able:
        raise ValueError(f"none of the voices {', '.join(models)} speaks {language!r}")
    rng = np.random.default_rng([seed, 12])
    model = able[rng.integers(len(able))]
    speaker = str(rng.choice(FLITE_SPEAKERS)) if model == FLITE else ""
    rise, tract = np.exp(rng.uniform(-0.2, 0.35)), np.exp(rng.uniform(-0.1, 0.17))  # a man's voice to a woman's
    if model == KOKORO or speaker in WOMEN:
        rise, tract = np.exp(rng.uniform(-0.45, 0.15)), np.exp(rng.uniform(-0.17, 0.08))
    return NaturalVoice(
        language=language,
        accent="en-us" if model != KOKORO else ACCENTS[language][rng.integers(len(ACCENTS[language]))],
        model=model,
        style=_style(rng) if model == KOKORO else (),
        speaker=speaker,
        pace=round(float(np.exp(rng.uniform(-0.2, 0.2))), 3),
        pitch=round(float(rise), 3),
        tract=round(float(tract), 3),
        liveliness=round(float(rng.uniform(0.6, 1.2)), 3),
    )


def _style(rng: np.random.Generator) -> tuple[float, ...]:
    if rng.random() < ONE_STYLE:
        one = int(rng.integers(len(STYLES)))
        return tuple(float(i == one) for i in range(len(STYLES)))
    shared = [i for i, name in enumerate(STYLES) if name != ALONE]
    weights = np.zeros(len(STYLES))
    weights[shared] = rng.dirichlet([0.6] * len(shared)).round(3)
    return tuple(float(weight) for weight in weights / weights.sum())


def speak_naturally(
    text: str, voice: NaturalVoice, *, emotion: str = "neutral", intensity: float = 1.0, seed: int = 0
) -> Utterance:
    """A sentence or more, spoken; arguments, result and errors as of `pipeline.research.corpus.voice.speak`.

    An emotion changes speed, level and quality as there, and the pitch by half as much. The same arguments give the
    same samples on one kind of machine. Raises RefusedError where the extra `voices`, or Flite, is not installed.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion must be one of {', '.join(EMOTIONS)}, got {emotion!r}")
    manner = MANNERS[emotion]
    rise = voice.pitch * 2 ** (EMOTION_PITCH * intensity * manner.pitch / 12)
    # Resampling raises the pitch and makes it faster: the pace asked for makes up for it.
    pace = voice.pace * rise / manner.rate**intensity
    if voice.model == FLITE:
        asked, rate, wave, seconds = flite(text, voice.speaker, pace=pace)
    elif voice.model == PIPER:
        asked, rate = _script(text, voice), PIPER_RATE
        wave, seconds = piper(asked, pace=pace, liveliness=voice.liveliness, seed=seed)
    else:
        asked, rate = _script(text, voice), KOKORO_RATE
        wave, seconds = kokoro(asked, voice.style, pace=pace)
    played = round(rate * rise)
    wave = resampled(wave, played)
    wave = moved_formants(torch.from_numpy(wave)[None], torch.tensor([voice.tract / rise]))[0].numpy()
    loud = np.sqrt(np.square(wave, dtype=np.float64).mean())
    wave = coloured(wave * np.float32(LOUDNESS / max(loud, 1e-6)), manner.quality, intensity, seed)
    wave = (wave * np.float32(10 ** (intensity * manner.level / 20))).clip(-1, 1)
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    samples = lead + len(wave) + round(TAIL_SECONDS * SAMPLE_RATE)
    samples += -samples % SAMPLES_PER_FRAME
    seconds = seconds * (len(wave) / SAMPLE_RATE / seconds.sum())  # to the last sample
    wave = np.pad(wave, (lead, samples - lead - len(wave)))
    phonemes = timed(asked, seconds, wave)
    if all(phoneme.symbol == PAUSE for phoneme in phonemes):
        raise ValueError(f"there is nothing to say in {text!r}: give words in the language {voice.language}")
    return Utterance(wave, phonemes, emotion, intensity)


def _script(text: str, voice: NaturalVoice) -> Script:
    clauses = [part for part in re.split(r"(?<=[.,;:!?…])\s+|(?<=[。、？！])\s*", text) if part.strip()]
    marks = [MARKS.get(clause[-1], clause[-1]) for clause in clauses]
    words = spelled_by_espeak(clauses, voice.accent)
    spoken = [(said, mark) for said, mark in zip(words, marks, strict=True) if said]
    if voice.model == PIPER:
        return script(spoken, piper_symbols(), str, start=(1,), end=(2,), filling=0)
    return script(spoken, kokoro_symbols(), kokoro_letters, start=(0,), end=(0,))


def kokoro_letters(phoneme: str) -> str:
    """A phoneme of espeak-ng as Kokoro writes it, with its stress and length."""
    stress = "".join(mark for mark in "ˈˌ" if mark in phoneme)
    bare = phoneme.strip("ˈˌ")
    core = bare.replace("ː", "")
    if core in KOKORO_LETTERS and len(core) > 1:
        return stress + KOKORO_LETTERS[core]
    return stress + "".join(KOKORO_LETTERS.get(letter, letter) for letter in bare)
