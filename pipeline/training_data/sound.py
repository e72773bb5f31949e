"""The audio of a video on the timeline of its frames."""

from fractions import Fraction

import av
import numpy as np

from models import MOTION_FPS, SAMPLE_RATE

GAP_SECONDS = 0.02
"""Audio whose timestamps differ by more than this from its expected position is moved to its timestamps."""


class Sound:
    """The first audio stream as mono at 16 kHz, starting at the time of the first frame."""

    def __init__(self, origin: Fraction, most: float) -> None:
        """`origin` is the time of the first frame, `most` the number of seconds that are needed after it."""
        self._origin, self._most = origin, most
        self._parts: list[np.ndarray] = []
        self._resampler = self._new_resampler()
        self._begin: Fraction | None = None
        self._given = Fraction(0)
        """Seconds of audio since `_begin`, including silence in gaps."""
        self.wave = np.zeros(0, np.int16)
        """(samples,) int16, after `close`; zeros where there is no audio."""
        self.start = self.end = 0.0
        """There is audio between these times, in seconds."""

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
            self._begin = time
        late = time - self._begin - self._given
        if late < -GAP_SECONDS:
            return
        if late > GAP_SECONDS:
            self._flush()
            self._parts.append(np.zeros(round(late * SAMPLE_RATE), np.int16))
            self._given += late
        self._given += length
        frame.pts = None
        self._parts += [out.to_ndarray()[0] for out in self._resampler.resample(frame)]

    def _flush(self) -> None:
        self._parts += [out.to_ndarray()[0] for out in self._resampler.resample(None)]
        self._resampler = self._new_resampler()

    def close(self) -> None:
        """Finish after the last frame."""
        if self._begin is None:
            return
        self._flush()
        wave = np.concatenate(self._parts)
        self._parts.clear()
        first = round(self._begin * SAMPLE_RATE)
        self.wave = np.pad(wave, (first, 0)) if first > 0 else wave[-first:]
        self.start, self.end = max(0.0, float(self._begin)), len(self.wave) / SAMPLE_RATE

    def part(self, first: int, last: int) -> np.ndarray:
        """((last - first) * 640,) int16: the audio of frames `first` to `last`, with silence where there is none."""
        per_frame = SAMPLE_RATE // MOTION_FPS
        wave = self.wave[first * per_frame : last * per_frame]
        return np.pad(wave, (0, (last - first) * per_frame - len(wave)))
