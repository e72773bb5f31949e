"""Speech by espeak-ng: a voice and a text -> sound and the times of its phonemes.

It is a formant synthesiser, and sounds like one. Many voices come from its languages, its variants of the speaker,
its speed and pitch, and a vocal tract that is made longer or shorter. Licence: espeak-ng is GPL-3.0-or-later; it runs
as a program of its own, is installed by the extra `corpus`, and is no part of this project.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from models import EMOTIONS, SAMPLE_RATE
from models.config import SAMPLES_PER_FRAME
from pipeline.research.corpus.quality import Quality, coloured

LANGUAGES: dict[str, tuple[str, ...]] = {
    "en": ("en", "en-us", "en-gb-scotland"),
    "de": ("de",),
    "es": ("es", "es-419"),
    "fr": ("fr",),
    "it": ("it",),
    "pt": ("pt", "pt-br"),
    "ko": ("ko",),
    "ja": ("ja",),  # kana and digits: it spells Chinese characters
}
"""BCP-47 -> espeak-ng's voices, its accents."""

VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
"""espeak-ng's speakers, men and women: they shift the formants and the pitch of a language's voice."""

PAUSE = ""
"""Symbol of a pause, as espeak-ng has it."""

LEAD_SECONDS, TAIL_SECONDS = 0.2, 0.2
"""Silence before and after: the mouth opens before the audio starts and closes after it."""

HEADROOM = 0.5
"""Factor on espeak-ng's samples, so that a loud emotion is not clipped."""

UNITS_PER_SEMITONE = 50 / 12
"""espeak-ng's pitch goes from 0 to 99; 50 units are about an octave."""


@dataclass(frozen=True)
class Voice:
    """One speaker."""

    language: str = "en"
    """A key of `LANGUAGES`."""
    accent: str = "en"
    """One of `LANGUAGES[language]`."""
    variant: str = "m1"
    """One of `VARIANTS`."""
    rate: int = 160
    """Words a minute, 80 to 300."""
    pitch: int = 50
    """espeak-ng's, 0 to 99; 50 is the variant's own."""
    range: int = 50
    """How far the pitch moves, 0 (monotone) to 99."""
    tract: float = 1.0
    """Factor on formants and pitch alike: above 1 a shorter vocal tract."""


@dataclass(frozen=True)
class Phoneme:
    """A speech sound in IPA, as espeak-ng writes it; stress marks (ˈ ˌ) are part of the symbol."""

    symbol: str
    start: float
    """Seconds in the wave."""
    end: float


@dataclass(frozen=True)
class Utterance:
    """A spoken text."""

    wave: np.ndarray
    """(T*640,) float32, mono, 16 kHz, whole frames of 25 fps."""
    phonemes: tuple[Phoneme, ...]
    """Consecutive without a gap; pauses have the symbol `PAUSE`."""
    emotion: str
    intensity: float

    @property
    def frames(self) -> int:
        """T, at 25 fps."""
        return len(self.wave) // SAMPLES_PER_FRAME


@dataclass(frozen=True)
class Manner:
    """How an emotion changes a voice at intensity 1."""

    pitch: float
    """Semitones up, as asked of espeak-ng; with its range, the measured median moves by up to 2 more or less."""
    range: float
    """Factor on the pitch movement."""
    rate: float
    """Factor on the speed."""
    level: float
    """dB on the samples; a higher voice is a little louder by itself."""
    quality: Quality = field(default_factory=Quality)


MANNERS: dict[str, Manner] = {
    "angry": Manner(pitch=2.5, range=1.4, rate=1.10, level=5.0, quality=Quality(4.0, 0.0, 0.55, 70.0)),
    "disgust": Manner(pitch=-2.0, range=0.8, rate=0.86, level=-2.5, quality=Quality(-1.0, 0.0, 0.75, 27.0)),
    "fear": Manner(pitch=5.0, range=0.7, rate=1.22, level=-2.0, quality=Quality(1.0, 0.2, 0.65, 8.0)),
    "happy": Manner(pitch=3.5, range=1.6, rate=1.06, level=2.5, quality=Quality(3.0)),
    "neutral": Manner(pitch=0.0, range=1.0, rate=1.00, level=0.0),
    "sad": Manner(pitch=-3.0, range=0.5, rate=0.78, level=-5.0, quality=Quality(-4.0, 0.25)),
    "surprise": Manner(pitch=6.0, range=1.8, rate=0.96, level=2.0, quality=Quality(0.0, 0.6)),
}
"""Ours. Directions of pitch, speed and level follow the review of Scherer (2003, Speech Communication 40), those of the
quality Gobl and Ni Chasaide (2003, the same volume): tense and harsh anger, lax and breathy sadness, a trembling fear,
creak for disgust. Sizes are chosen so that the seven differ clearly, and are no measurement of people."""


def draw_voice(language: str, seed: int) -> Voice:
    """A speaker of a language from a seed. Raises ValueError for a language that is not in `LANGUAGES`."""
    _check_language(language)
    rng = np.random.default_rng([seed, 1])
    return Voice(
        language=language,
        accent=LANGUAGES[language][rng.integers(len(LANGUAGES[language]))],
        variant=VARIANTS[rng.integers(len(VARIANTS))],
        rate=int(rng.integers(130, 186)),
        pitch=int(rng.integers(35, 66)),
        range=int(rng.integers(35, 71)),
        tract=round(float(rng.uniform(0.92, 1.08)), 3),
    )


def speak(text: str, voice: Voice, *, emotion: str = "neutral", intensity: float = 1.0, seed: int = 0) -> Utterance:
    """A sentence or more, spoken.

    Args:
        text: in the voice's language.
        voice: who speaks.
        emotion: one of `models.EMOTIONS`; changes pitch, its range, speed, level and quality by `MANNERS`.
        intensity: of the emotion, 0 to 1.
        seed: of the breath, and of the voice's quality.

    The same arguments give the same bytes. Any number of threads and processes may call it: each call is a short
    process of its own (`pipeline.research.corpus.espeak`), as espeak-ng itself has one global state. Raises
    ValueError where an argument is wrong or nothing was said, ImportError where the extra `corpus` is not installed.
    """
    _check_language(voice.language)
    if voice.accent not in LANGUAGES[voice.language] or voice.variant not in VARIANTS:
        raise ValueError(
            f"accent and variant must be one of {', '.join(LANGUAGES[voice.language])} and of {', '.join(VARIANTS)}, "
            f"got {voice.accent!r} and {voice.variant!r}"
        )
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion must be one of {', '.join(EMOTIONS)}, got {emotion!r}")
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity must be 0 to 1, got {intensity}")
    manner = MANNERS[emotion]
    pitch = voice.pitch + intensity * manner.pitch * UNITS_PER_SEMITONE
    wave, rate, events = _synthesise(
        text,
        voice=f"{voice.accent}+{voice.variant}",
        # A longer tract plays slower: the speed asked for makes up for it.
        rate=_whole(voice.rate * manner.rate**intensity / voice.tract, 80, 300),
        pitch=_whole(pitch, 0, 99),
        range=_whole(voice.range * manner.range**intensity, 0, 99),
        seed=seed & 0x7FFFFFFF,
    )
    wave = coloured(resampled(wave, round(rate * voice.tract)), manner.quality, intensity, seed)
    wave = wave * np.float32(HEADROOM * 10 ** (intensity * manner.level / 20))
    wave = wave.clip(-1, 1)  # 5 dB above half of the scale: almost never
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    samples = lead + len(wave) + round(TAIL_SECONDS * SAMPLE_RATE)
    samples += -samples % SAMPLES_PER_FRAME
    phonemes = _phonemes(events, rate / round(rate * voice.tract), len(wave) / SAMPLE_RATE, samples / SAMPLE_RATE)
    if all(phoneme.symbol == PAUSE for phoneme in phonemes):
        raise ValueError(f"there is nothing to say in {text!r}: give words in the language {voice.language}")
    return Utterance(np.pad(wave, (lead, samples - lead - len(wave))), phonemes, emotion, intensity)


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, got {language!r}")


def _whole(value: float, least: int, most: int) -> int:
    return min(max(round(value), least), most)


@cache
def _paths() -> tuple[str, str]:
    try:
        from espeakng_loader import get_data_path, get_library_path
    except ImportError as error:
        raise ImportError("espeak-ng is not installed: pip install 'floatcast[corpus]'") from error
    return get_library_path(), get_data_path()


def _synthesise(text: str, **settings: str | int) -> tuple[np.ndarray, int, list[tuple[str, int]]]:
    """Samples (n,) float32, their rate in Hz, and the start of each phoneme in ms."""
    header, sound = _espeak({"text": text, **settings}).split(b"\n", 1)
    said = json.loads(header)
    return np.frombuffer(sound, np.int16).astype(np.float32) / 32768, said["rate"], said["events"]


def spelled_by_espeak(clauses: list[str], accent: str) -> list[list[list[str]]]:
    """Each clause as words, and each word as espeak-ng's phonemes in IPA, stress marks included.

    `accent` is one of the values of `LANGUAGES`. Raises ValueError and ImportError as `speak`.
    """
    told = json.loads(_espeak({"clauses": clauses, "voice": accent}))
    bare = (re.sub(r"\([^)]*\)", "", clause) for clause in told)  # "(en)": the rules of another language from here on
    return [[found for word in clause.split() if (found := [p for p in word.split("_") if p])] for clause in bare]


def _espeak(asked: dict[str, Any]) -> bytes:
    """What `pipeline.research.corpus.espeak` writes for a request. Raises ValueError and ImportError."""
    library, data = _paths()
    # Isolated and without site-packages: it needs neither, and starts in a fifth of the time.
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("espeak.py"))]
    message = json.dumps({"library": library, "data": data, **asked}).encode()
    done = subprocess.run(command, input=message, capture_output=True, timeout=120)
    if done.returncode:
        reason = {2: "the voice or its data is missing", 3: "it produced no audio"}.get(done.returncode)
        reason = reason or done.stderr.decode(errors="replace").strip()[-500:] or f"exit {done.returncode}"
        text = asked.get("text", asked.get("clauses"))
        raise ValueError(f"espeak-ng ({asked['voice']}) could not speak {text!r}: {reason}")
    return done.stdout


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    """(n,) float32 at `rate` -> 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return np.concatenate([out.to_ndarray()[0] for out in [*resampler.resample(frame), *resampler.resample(None)]])


def _phonemes(events: list[tuple[str, int]], stretch: float, spoken: float, end: float) -> tuple[Phoneme, ...]:
    """Start times in ms -> intervals in seconds, with pauses joined.

    The first and the last are the surrounding silence.
    """
    found = [(PAUSE, 0.0)]
    for symbol, milliseconds in events:
        if symbol.startswith("("):  # "(en)": the rules of another language from here on
            continue
        start = LEAD_SECONDS + min(milliseconds / 1000 * stretch, spoken)
        if symbol == found[-1][0] == PAUSE:
            continue
        found.append((symbol, max(start, found[-1][1])))
    if found[-1][0] != PAUSE:
        found.append((PAUSE, LEAD_SECONDS + spoken))
    ends = [start for _, start in found[1:]] + [end]
    return tuple(Phoneme(symbol, start, to) for (symbol, start), to in zip(found, ends, strict=True) if to > start)
