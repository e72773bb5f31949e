"""A corpus as `jobs.research.corpus` leaves it, whose phonemes are tones: small enough to learn in seconds."""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models import EMOTIONS
from pipeline.research.corpus.stage import SCHEMA
from tests.media import mp4

TONES = {"a": 400.0, "i": 2400.0, "u": 1100.0}
LENGTH = 0.16
"""Seconds of a sound: four frames."""


def write_corpus(folder: Path, speakers: int, clips: int = 2, sounds: int = 8) -> Path:
    """Speakers are higher or lower; the emotion is in the speed of a tremolo."""
    for number in range(speakers):
        name, rows = f"speaker-{number:05d}", []
        for i in range(clips):
            rng = np.random.default_rng([number, i])
            emotion = (number * clips + i) % len(EMOTIONS)
            letters = [str(letter) for letter in rng.choice(list(TONES), sounds)]
            wave, phonemes = _said(letters, 1 + 0.02 * (number % 5), 2.0 + 4.0 * emotion, rng)
            video = folder / "videos" / name / f"{name}-{i:03d}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            video.write_bytes(mp4(wave[None], 16_000, pictures=2))
            row = {"clip_id": video.stem, "speaker": name, "language": ("en", "de")[number % 2], "text": ""}
            row |= {"emotion": EMOTIONS[emotion], "intensity": 0.6 + 0.1 * (i % 4), "frames": len(wave) // 640}
            rows.append(row | {"phonemes": phonemes})
        table = folder / "truth" / f"{name}.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), table)
    return folder


def _said(letters, factor, tremolo, rng):
    sound, phonemes, time = [np.zeros(3200)], [{"symbol": "", "start": 0.0, "end": 0.2}], 0.2
    moments = np.arange(round(LENGTH * 16_000)) / 16_000
    for letter in letters:
        sound.append(0.3 * np.sin(2 * np.pi * TONES[letter] * factor * moments))
        phonemes.append({"symbol": f"ˈ{letter}ː", "start": time, "end": time + LENGTH})
        time += LENGTH
    sound.append(np.zeros(3200))
    phonemes.append({"symbol": "", "start": time, "end": time + 0.2})
    wave = np.concatenate(sound) + rng.normal(0, 0.003, sum(map(len, sound)))
    wave *= 1 + 0.8 * np.sin(2 * np.pi * tremolo * np.arange(len(wave)) / 16_000)
    return np.pad(wave, (0, -len(wave) % 640)).astype(np.float32), phonemes
