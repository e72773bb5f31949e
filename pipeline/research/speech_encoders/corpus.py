"""The generated corpus as speech: audio and the times of its phonemes, with held-out speakers separate.

No frame is decoded.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from models.config import SAMPLES_PER_FRAME
from pipeline.common.disk_collections import mapped
from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio
from pipeline.research.corpus.speech import ESPEAK
from pipeline.research.corpus.stage import TRUTH, VIDEOS
from pipeline.research.corpus.visemes import letters
from pipeline.research.corpus.voice import PAUSE
from pipeline.storage.objects import filesystem, list_folder, read_bytes
from pipeline.storage.uris import join
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.settings import SplitSettings
from pipeline.training_data.sound import read_sound
from pipeline.training_data.splits import assign

COLUMNS = ["clip_id", "speaker", "language", "emotion", "intensity", "text", "frames", "phonemes", "voice", "sound"]
"""Columns of `pipeline.research.corpus.stage.SCHEMA` that are read; the others are about the frames."""
LATER = ("voice", "sound")
"""Columns that earlier corpora do not have: espeak-ng's voices alone, and videos."""
SILENCE = PAUSE


class CorpusError(RefusedError):
    """A folder that is not a corpus, or that cannot be used for training."""

    def __init__(self, message: str) -> None:
        super().__init__(f"corpus: {message}")


@dataclass(frozen=True, eq=False)
class Clip:
    """One video's speech."""

    clip_id: str
    speaker: str
    language: str
    emotion: str
    intensity: float
    voice: str
    """`espeak`, or the natural voice that the speaker's was made from."""
    wave: np.ndarray
    """(T*640,) int16, 16 kHz."""
    starts: np.ndarray
    """(n,) float64, start of each sound in seconds; the first is 0."""
    symbols: tuple[str, ...]
    """n IPA letters without stress, length and diacritics; `SILENCE` for a pause."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Clips by split, sorted by name."""

    train: list[Clip]
    held_out: list[Clip]
    """Clips of the speakers whom `jobs.prepare` with the same `split.*` puts into the validation and test splits, and
    of the voices that are held out."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols that occur, sorted; `SILENCE` is the first."""
        return tuple(sorted({symbol for clip in [*self.train, *self.held_out] for symbol in clip.symbols} | {SILENCE}))

    def of_voices(self, natural: bool) -> list[Clip]:
        """Held-out clips with natural voices, or those of espeak-ng."""
        return [clip for clip in self.held_out if (clip.voice != ESPEAK) == natural]

    def digest(self) -> str:
        """Hash of names and audio, to which a training run is bound."""
        mark = hashlib.sha256()
        for clip in [*self.train, *self.held_out]:
            mark.update(f"{clip.clip_id} {clip.emotion} {''.join(clip.symbols)}".encode())
            mark.update(clip.wave.tobytes())
        return mark.hexdigest()[:16]


def read_corpus(
    uri: str,
    split: SplitSettings,
    on_clip: Callable[[int], object] = lambda total: None,
    held_voices: Collection[str] = (),
    more: Sequence[str] = (),
) -> Corpus:
    """Read the output of `jobs.research.corpus`, local or s3://. An hour of speech takes about 115 MB of memory.

    `on_clip` gets the number of all clips after each clip; speakers with one of `held_voices` are held out. The
    speakers of `more` corpora are other people than those of the same name in `uri`. Raises CorpusError.
    """
    rows: list[tuple[str, str, dict[str, Any]]] = []  # folder, split, row
    for number, folder in enumerate((uri, *more)):
        tables = sorted(name for name in list_folder(join(folder, TRUTH)) if name.endswith(".parquet"))
        if not tables:
            raise CorpusError(
                f"{folder} contains no speakers ({TRUTH}/*.parquet): give the output of python -m jobs.research.corpus"
            )
        places = [join(folder, TRUTH, name) for name in tables]
        own = [row for _, found in mapped(_rows, places) for row in found]
        splits = assign([row["speaker"] for row in own], split, {})
        prefix = f"{number}/" if number else ""
        rows += [(folder, splits[row["speaker"]], row | {"speaker": prefix + row["speaker"]}) for row in own]
    parts: dict[bool, list[Clip]] = {True: [], False: []}
    for (_, part, _), clip in mapped(lambda item: _clip(item[0], item[2]), rows, threads=4):
        parts[part == "train" and clip.voice not in held_voices].append(clip)
        on_clip(len(rows))
    if not parts[False]:
        raise CorpusError(
            f"none of the {len({row['speaker'] for *_, row in rows})} speakers is held out, so nothing could be "
            "measured: generate more, or raise split.validation"
        )
    return Corpus(parts[True], parts[False])


def _rows(uri: str) -> list[dict[str, Any]]:
    fs, path = filesystem(uri)
    with fs.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        there = [name for name in COLUMNS if name not in LATER or name in table.schema_arrow.names]
        return table.read(columns=there).to_pylist()


def _clip(uri: str, row: dict[str, Any]) -> Clip:
    starts, symbols = spelled(row["phonemes"])
    place = row.get("sound") or f"{VIDEOS}/{row['speaker'].split('/')[-1]}/{row['clip_id']}.mp4"
    return Clip(
        **{name: row[name] for name in ("clip_id", "speaker", "language", "emotion", "intensity")},
        voice=row.get("voice") or ESPEAK,
        wave=_sound(join(uri, place), row["frames"]),
        starts=starts,
        symbols=symbols,
    )


def _sound(uri: str, frames: int) -> np.ndarray:
    """(frames*640,) int16 from the first frame on."""
    data = read_bytes(uri)
    if data is None:
        raise CorpusError(f"{uri} is missing: run the same command of jobs.research.corpus to create it again")
    try:
        if uri.endswith(".ogg"):
            wave = load_audio(data, Limits(allow_silence=True)).wave[: frames * SAMPLES_PER_FRAME]
            return (np.pad(wave, (0, frames * SAMPLES_PER_FRAME - len(wave))).clip(-1, 1) * 32767).astype(np.int16)
        return read_sound(data, Fraction(0), Limits()).part(0, frames)
    except (Dropped, ClipError) as error:
        raise CorpusError(f"{uri} cannot be read as audio ({error.message}): remove it and generate it again") from None


def spelled(phonemes: list[dict[str, Any]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows of `phonemes` (symbol, start, end) -> (start times (n,) in s, n letters).

    A diphthong is two letters, each with its share of the time; a mark without a letter belongs to the previous sound.
    """
    starts, found = [0.0], [SILENCE]
    for phoneme in phonemes:
        symbol, start, end = phoneme["symbol"], phoneme["start"], phoneme["end"]
        parts = letters(symbol) if symbol != PAUSE else [SILENCE]
        for i, letter in enumerate(parts):
            starts.append(start + i * (end - start) / len(parts))
            found.append(letter)
    return np.array(starts), tuple(found)


def letters_said(symbols: tuple[str, ...] | list[str]) -> list[str]:
    """Merge equal neighbours, and then remove pauses: what a frame-wise transcript can tell."""
    one = [symbol for i, symbol in enumerate(symbols) if i == 0 or symbol != symbols[i - 1]]
    return [symbol for symbol in one if symbol != SILENCE]
