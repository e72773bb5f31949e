"""The audio of a video on the timeline of its frames."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np

from models import MOTION_FPS, SAMPLE_RATE
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.media.mono import MonoMixer, as_int16
from pipeline.media.sound_reader import SoundReader
from pipeline.media.video_reader import CONTAINERS
from pipeline.training_data.reasons import Dropped

_REASONS = {"audio_no_stream": "no_audio", "audio_empty": "no_audio", "audio_too_long": "too_long"}
HOLE_FRAMES = 2
"""A hole in the audio, or its missing start or end, counts as silence up to this many frames."""


class Sound:
    """One audio stream as mono at 16 kHz, starting at the time of the first frame."""

    def __init__(self, wave: np.ndarray, spans: list[tuple[float, float]], notes: tuple[Note, ...] = ()) -> None:
        """`wave` (samples,) int16, with zeros where there is no audio; `spans` are the times with audio, in seconds.

        `notes` say what was noticed when it was decoded.
        """
        self.wave, self.spans, self.notes = wave, spans, notes

    def part(self, first: int, last: int) -> np.ndarray:
        """((last - first) * 640,) int16: the audio of frames `first` to `last`, with silence where there is none."""
        per_frame = SAMPLE_RATE // MOTION_FPS
        wave = self.wave[first * per_frame : last * per_frame]
        return np.pad(wave, (0, (last - first) * per_frame - len(wave)))

    def heard(self, first: int, last: int) -> np.ndarray:
        """(last - first,) bool: which of the frames `first` to `last` have audio. Short holes count as audio."""
        middles = (np.arange(first, last) + 0.5) / MOTION_FPS
        there = np.zeros(last - first, bool)
        for start, end in self.spans:
            there |= (start <= middles) & (middles < end)
        edges = np.flatnonzero(np.diff(np.pad(~there, 1).astype(int)))
        for start, end in edges.reshape(-1, 2).tolist():
            if end - start <= HOLE_FRAMES:
                there[start:end] = True
        return there

    def describe(self) -> str:
        """Where the audio is, in words."""
        shown = [f"from {start:.2f} to {end:.2f} s" for start, end in self.spans[:3]]
        more = f", and in {len(self.spans) - 3} more parts" if len(self.spans) > 3 else ""
        return f"the audio lasts {' and '.join(shown)}{more}" if shown else "the audio ends before the first frame"


def read_sound(place: Path | bytes, origin: Fraction, limits: Limits, language: str | None = None) -> Sound:
    """The audio of a film, decoded as for rendering; `origin` is the time stamp of its first frame, in seconds.

    Of several streams that of the `language` (BCP 47) is preferred. Raises Dropped: no_audio, too_long, unreadable.
    """
    mono: MonoMixer | None = None
    parts: list[np.ndarray] = []
    with io.BytesIO(place) if isinstance(place, bytes) else place.open("rb") as file:
        reader = SoundReader(file, language=language, max_seconds=limits.max_audio_minutes * 60, containers=CONTAINERS)
        try:
            for piece in reader.pieces():
                mono = mono or MonoMixer(reader.rate, reader.layout, reader.channels)
                parts.append(as_int16(mono.add(piece)))
        except ClipError as error:
            raise Dropped(_REASONS.get(error.code, "unreadable"), error.message) from error
    assert mono is not None
    wave = np.concatenate([*parts, as_int16(mono.close())])
    late = origin - reader.zero
    first = round(late * SAMPLE_RATE)
    wave = wave[first:] if first >= 0 else np.pad(wave, (-first, 0))
    spans = [(max(0.0, float(start - late)), float(end - late)) for start, end in reader.spans if end > late]
    return Sound(wave, spans, (*reader.notes, *mono.notes()))
