"""Recordings of people, on which no encoder here was trained: what is recognised in sentences that are known."""

# The IPA contains letters that look like others; they are intended.
# ruff: noqa: RUF001

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.research.corpus.voice import Voice, draw_voice, speak
from pipeline.research.speech_encoders.corpus import letters_said, spelled
from pipeline.research.speech_encoders.networks import PhonemeModel
from pipeline.research.speech_encoders.phonemes import errors_of, transcript

SHUFFLES = 200
"""Number of random orders of a sentence's phonemes that give the floor."""
NEW_VOICES, FIRST_SEED = 8, 1_000_000
"""Number of espeak-ng voices that also say the sentences, with seeds far from those of the corpus."""


@dataclass(frozen=True)
class Sentence:
    """A recording of a real person, and what they say."""

    file: str
    """In `jobs/demo/media`."""
    text: str
    """From the sentence list of CMU ARCTIC (Kominek and Black 2003); nobody has compared it with the recording."""
    letters: str
    """Phonemes of the text in espeak-ng's voice en-us, spelled by `corpus.visemes.letters`; the person may differ."""


SENTENCES = (
    Sentence(
        "speech_en_arctic_a0007.wav",
        "And you always want to see it in the superlative degree.",
        "ændjuɔweɪzwɔntəsiɪɾɪnðəsupɜlətɪvdᵻɡɹi",
    ),
    Sentence(
        "speech_en_arctic_a0009.wav",
        "He turned sharply, and faced Gregson across the table.",
        "hitɜndʃɑɹpliændfeɪsdɡɹɛɡsənəkɹɑsðəteɪbəl",
    ),
)
UNWRITTEN = ("speech_kokoro_jf.wav",)
"""Natural synthetic voices without a transcript."""


def pronounced(text: str, voice: Voice, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """(letters, wave (samples,) int16) of espeak-ng; ImportError without the extra `corpus`."""
    said = speak(text, voice, seed=seed)
    rows = [{"symbol": one.symbol, "start": one.start, "end": one.end} for one in said.phonemes]
    return letters_said(spelled(rows)[1]), (said.wave * 32767).astype(np.int16)


def hear_people(model: PhonemeModel, symbols: Sequence[str], folder: Path, seed: int) -> list[dict[str, Any]]:
    """For each recording: spoken and recognised phonemes, and the error rate.

    For comparison, it adds the mean error rate with the spoken phonemes in random order, and the share of such orders
    that are as close.
    """
    rows: list[dict[str, Any]] = []
    for sentence in SENTENCES:
        said, heard = list(sentence.letters), transcript(model, read(folder / sentence.file), symbols)
        rng = np.random.default_rng([seed, 3])
        rate, floor = errors_of(said, heard), [errors_of(rng.permutation(said), heard) for _ in range(SHUFFLES)]
        rows.append(
            {
                "file": sentence.file,
                "text": sentence.text,
                "said": sentence.letters,
                "heard": "".join(heard),
                "phoneme_error_rate": rate,
                "phoneme_error_rate_shuffled": float(np.mean(floor)),
                "shuffled_as_good": float(np.mean(np.array(floor) <= rate)),
            }
        )
    for file in UNWRITTEN:
        rows.append({"file": file, "heard": "".join(transcript(model, read(folder / file), symbols))})
    return rows


def hear_new_sentences(model: PhonemeModel, symbols: Sequence[str]) -> dict[str, Any]:
    """The same sentences, which are not in the corpus, in new voices of espeak-ng.

    They show how much of the held-out speakers' results is due to sentences that were heard from others in training.
    Without the extra `corpus`, the result is a note instead.
    """
    try:
        rates = []
        for sentence in SENTENCES:
            for seed in range(FIRST_SEED, FIRST_SEED + NEW_VOICES):
                said, wave = pronounced(sentence.text, draw_voice("en", seed), seed)
                rates.append(errors_of(said, transcript(model, wave, symbols)))
    except ImportError as error:
        return {"note": f"not measured: {error}"}
    return {"sentences": len(SENTENCES), "voices": NEW_VOICES, "phoneme_error_rate": float(np.mean(rates))}


def read(file: Path) -> np.ndarray:
    """(samples,) int16 at 16 kHz."""
    return (load_audio(file.read_bytes(), Limits()).wave.clip(-1, 1) * 32767).astype(np.int16)
