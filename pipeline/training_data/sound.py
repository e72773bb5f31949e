"""The audio of a video on the timeline of its frames."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from models import MOTION_FPS, SAMPLE_RATE
from pipeline.common.limits import Limits
from pipeline.media.sound_reader import OPTIONS
from pipeline.media.video_reader import CONTAINERS
from pipeline.training_data.reasons import Dropped

GAP_SECONDS = 0.02
"""Audio whose timestamps differ by more than this from its expected position is moved to its timestamps."""
HOLE_FRAMES = 2
"""A hole in the audio, or its missing start or end, counts as silence up to this many frames."""


class Sound:
    """One audio stream as mono at 16 kHz, starting at the time of the first frame."""

    def __init__(self, wave: np.ndarray, spans: list[tuple[float, float]]) -> None:
        """`wave` (samples,) int16, with zeros where there is no audio; `spans` are the times with audio, in seconds."""
        self.wave, self.spans = wave, spans

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


def read_sound(place: Path | bytes, origin: Fraction, limits: Limits) -> Sound:
    """The audio of a film; `origin` is the time stamp of its first frame, in seconds. Raises Dropped."""
    most = limits.max_audio_minutes * 60
    options = OPTIONS | {"format_whitelist": CONTAINERS}
    collected = _Collected(origin, most)
    with io.BytesIO(place) if isinstance(place, bytes) else place.open("rb") as file:
        try:
            with av.open(file, "r", options=options, metadata_errors="replace") as container:
                if not container.streams.audio:
                    raise Dropped("no_audio", "the file contains no audio stream: export it with audio")
                for frame in container.decode(container.streams.audio[0]):
                    collected.add(frame)
        except (av.FFmpegError, ValueError) as error:
            raise Dropped("unreadable", "the audio cannot be decoded: export or upload the file again") from error
    return collected.close()


class _Collected:
    def __init__(self, origin: Fraction, most: float) -> None:
        self._origin, self._most = origin, most
        self._parts: list[np.ndarray] = []
        self._resampler = self._new_resampler()
        self._begin: Fraction | None = None
        self._given = Fraction(0)
        self._spans: list[tuple[float, float]] = []
        self._from = Fraction(0)

    @staticmethod
    def _new_resampler() -> av.AudioResampler:
        return av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def add(self, frame: av.AudioFrame) -> None:
        """Take the next frame. Gaps between timestamps become silence, and audio that comes twice is used once."""
        length = Fraction(frame.samples, frame.sample_rate)
        time = self._given + (self._begin or 0)
        if frame.pts is not None and frame.time_base is not None:
            time = frame.pts * frame.time_base - self._origin
        if time > self._most:  # a timestamp that is wrong by years must not become years of silence
            return
        if self._begin is None:
            self._begin = self._from = time
        late = time - self._begin - self._given
        if late < -GAP_SECONDS:
            return
        if late > GAP_SECONDS:
            self._end_span()
            self._flush()
            self._parts.append(np.zeros(round(late * SAMPLE_RATE), np.int16))
            self._given += late
            self._from = self._begin + self._given
        self._given += length
        frame.pts = None
        self._parts += [out.to_ndarray()[0] for out in self._resampler.resample(frame)]

    def _end_span(self) -> None:
        end = (self._begin or Fraction(0)) + self._given
        if end > 0 and end > self._from:
            self._spans.append((max(0.0, float(self._from)), float(end)))

    def _flush(self) -> None:
        self._parts += [out.to_ndarray()[0] for out in self._resampler.resample(None)]
        self._resampler = self._new_resampler()

    def close(self) -> Sound:
        """Finish after the last frame."""
        if self._begin is None:
            return Sound(np.zeros(0, np.int16), [])
        self._end_span()
        self._flush()
        wave = np.concatenate(self._parts)
        first = round(self._begin * SAMPLE_RATE)
        return Sound(np.pad(wave, (first, 0)) if first > 0 else wave[-first:], self._spans)
