"""The speech of one clip, drawn from seeds: who says what, in which emotion and room; and its file on its own."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import av
import numpy as np

from models import EMOTIONS, SAMPLE_RATE
from pipeline.research.corpus.natural import NaturalVoice, draw_natural_voice, models_of, speak_naturally
from pipeline.research.corpus.room import draw_room, record
from pipeline.research.corpus.text import draw_text, draw_words
from pipeline.research.corpus.voice import Utterance, Voice, draw_voice, speak

ESPEAK = "espeak"
WORDS_PER_SENTENCE = 7
LEAST_KBPS, MOST_KBPS = 10, 48
"""Bit rates of Opus in files without a picture: from a telephone's to a recorder's."""


@dataclass(frozen=True)
class Spoken:
    """One clip's speech."""

    seed: int
    """Also of what else is drawn for the clip."""
    text: str
    said: Utterance
    sound: np.ndarray
    """(T*640,) float32 at 16 kHz, as recorded in a room."""

    def truth(self) -> dict[str, Any]:
        """The columns of `pipeline.research.corpus.stage.SCHEMA` that are about the speech."""
        phonemes = [asdict(phoneme) for phoneme in self.said.phonemes]
        told = {"emotion": self.said.emotion, "intensity": self.said.intensity}
        return {**told, "text": self.text, "phonemes": phonemes}


def draw_speaker(language: str, person: int, natural: float, models: Sequence[str]) -> Voice | NaturalVoice:
    """A speaker's voice from a seed; a share `natural` of those whose language one of the models speaks has such a
    voice.
    """
    if models_of(language, models) and np.random.default_rng([person, 13]).random() < natural:
        return draw_natural_voice(language, person, models)
    return draw_voice(language, person)


def source_of(voice: Voice | NaturalVoice) -> str:
    """`espeak`, or what a natural voice was made from."""
    return voice.source if isinstance(voice, NaturalVoice) else ESPEAK


def draw_speech(
    voice: Voice | NaturalVoice, *, seed: int, number: int, clip: int, sentences: int, shuffled: float
) -> Spoken:
    """Clip `clip` of speaker `number` of the corpus `seed`; `shuffled` is the share of texts in random order."""
    draw = np.random.default_rng([seed, number, clip])
    own = int(draw.integers(2**31))
    emotion, intensity = EMOTIONS[(number + clip) % len(EMOTIONS)], float(draw.uniform(0.6, 1.0))
    if draw.random() < shuffled:
        text = draw_words(voice.language, own, WORDS_PER_SENTENCE * sentences)
    else:
        text = draw_text(voice.language, own, sentences)
    if isinstance(voice, NaturalVoice):
        said = speak_naturally(text, voice, emotion=emotion, intensity=intensity, seed=own)
    else:
        said = speak(text, voice, emotion=emotion, intensity=intensity, seed=own)
    return Spoken(own, text, said, record(said.wave, draw_room(own), own))


def compressed(wave: np.ndarray, seed: int) -> bytes:
    """(n,) float32 at 16 kHz -> Opus in Ogg, at a bit rate drawn from the seed; decoded, it is as long as before."""
    kbps = int(np.random.default_rng([seed, 14]).integers(LEAST_KBPS, MOST_KBPS + 1))
    buffer = io.BytesIO()
    with av.open(buffer, "w", "ogg") as file:
        stream = file.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = kbps * 1000
        samples = (wave.clip(-1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packets in (stream.encode(frame), stream.encode(None)):
            file.mux(packets)
    return buffer.getvalue()
