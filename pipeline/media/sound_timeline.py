"""Decoded frames -> float samples of one rate and one set of channels, at the times that the frames have."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.notes import Note
from pipeline.media.mono import as_frame, mixing

TOLERANCE = Fraction(1, 25)
"""Seconds, one frame at 25 fps. Time stamps are rounded, and clocks of recorders jitter; what is nearer than this to
its place stays where it is.
"""
OVERLAP = Fraction(1)
"""Seconds. Audio that comes twice for longer than this does not overlap: the time stamps start again."""
NEAR, LATEST = 0.039, 1e9
"""Seconds: a frame that is so near to its place, by floats, is within `TOLERANCE`; for time stamps up to `LATEST`,
where floats are exact enough. Fractions for every frame would take half the time of decoding.
"""
PIECE_SECONDS = Fraction(1, 4)
RATES = (1_000, 768_000)
"""Sample rates that sound can have, Hz."""
MOST_CHANNELS = 64
"""An ambisonic recording of order 7."""
MOST_VALUES = 192_000 * 8
"""Samples of all channels for each second of the longest allowed sound: a short file can claim a terabyte."""


def floats(frame: av.AudioFrame) -> np.ndarray:
    """A frame in any format -> (channels, samples) float32, full scale 1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "f":
        if values.dtype == np.float32:
            return values
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused
            return values.astype(np.float32)
    wave = values.astype(np.float32, order="C")  # in place from here on: copies take as long as decoding
    if values.dtype.kind == "u":
        wave -= 128
        wave *= np.float32(1 / 128)
    else:
        wave *= np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))
    return wave


class Timeline:
    """Takes frames, gives pieces (channels, samples) of `PIECE_SECONDS`, the last one shorter.

    Rate and channels are those of the first frame. Whatever changes later is converted.
    """

    def __init__(self, most: float) -> None:
        """`most` is the largest number of seconds that may come together."""
        self.rate = 0
        self.layout = ""
        self.channels = 0
        self._piece = 1
        """Samples of a piece."""
        self.samples = 0
        """Number of samples per channel up to now, with silence in gaps."""
        self._most = most
        self._until = self._start = Fraction(0)
        self._until_float = 0.0
        self._values = self._run = 0
        """Samples after `_until`, at the rate of the frames; adding fractions for every frame takes long."""
        self._clock: Fraction | None = None
        """Time stamp minus length."""
        self._buffer: list[np.ndarray] = []
        self._held = self._last = 0
        self._format: tuple[int, int, str] | None = None
        self._converter: av.AudioResampler | None = None
        self._mixing: np.ndarray | None = None
        self._gaps: list[tuple[Fraction, Fraction]] = []
        self._twice = Fraction(0)
        self._formats: list[tuple[Fraction, int, int]] = []

    @property
    def seconds(self) -> Fraction:
        """Exact length up to now."""
        return self._until + Fraction(self._run, self._format[0]) if self._format else self._until

    @property
    def spans(self) -> list[tuple[Fraction, Fraction]]:
        """From when to when there is audio, not silence that was inserted; seconds after time 0."""
        bounds = [self._start]
        for at, length in self._gaps:
            bounds += [at, at + length]
        bounds.append(self.seconds)
        return [(begin, end) for begin, end in zip(bounds[::2], bounds[1::2], strict=True) if end > begin]

    def begin_part(self) -> None:
        """What comes next has its own clock, and follows without a gap."""
        self._clock = None

    def add(self, frame: av.AudioFrame, start: Fraction = Fraction(0), *, timed: bool) -> None:
        """Take a frame, at its time stamp if it is `timed` and has one.

        The first frame begins at `start` seconds, after silence. Raises ClipError audio_too_long and audio_unreadable.
        """
        rate, layout = frame.sample_rate, frame.layout
        found = (rate, layout.nb_channels, layout.name)
        if found != self._format:
            self._change(found)
        values = floats(frame)
        if not self.samples and start > 0:
            self._silence(start)
            self._start = start
        if timed and frame.pts is not None and frame.time_base is not None and not self._is_near(frame):
            time = frame.pts * frame.time_base
            if self._clock is None:
                self._clock = time - self.seconds
            late = time - self._clock - self.seconds
            if late > TOLERANCE:
                self._gaps.append((self.seconds, late))
                self._silence(late)
            elif late < -OVERLAP:
                self._clock = time - self.seconds
            elif late < -TOLERANCE:
                values = values[:, round(-late * rate) :]
                self._twice += min(-late, Fraction(frame.samples, rate))
        self._run += values.shape[1]
        self._values += values.size
        if self._values > max(MOST_VALUES * self._most, MOST_VALUES):
            raise ClipError(
                "audio_too_long",
                f"the sound has more than {self._values / 1e9:,.0f} billion samples in {layout.nb_channels} channels "
                f"of {rate:,} Hz: export it in stereo with 48,000 Hz",
            )
        self._put(values)
        self._last = 1 + frame.samples * self.rate // rate
        if self._until_float + self._run / rate > self._most:
            raise ClipError(
                "audio_too_long",
                f"at least {float(self.seconds) / 60:.3g} min of audio is more than limits.max_audio_minutes = "
                f"{self._most / 60:g}: split the file, or raise the limit",
            )

    def _is_near(self, frame: av.AudioFrame) -> bool:
        """Whether a frame with a time stamp is certainly where it belongs."""
        if self._clock is None or self._format is None or frame.pts is None or frame.time_base is None:
            return False
        time = frame.pts * frame.time_base.numerator / frame.time_base.denominator
        late = time - float(self._clock) - self._until_float - self._run / self._format[0]
        return abs(late) < NEAR and abs(time) < LATEST

    def pieces(self) -> Iterable[np.ndarray]:
        """What is complete. The last frame is kept back, because its end may have to be cut off."""
        reserve = self._last + self.rate // 100
        return self._cut(reserve) if self._held >= self._piece + reserve else ()

    def shorten(self, excess: Fraction) -> None:
        """Take away the last `excess` seconds, which are shorter than the last frame."""
        self._add_time(-excess)
        self._settle()

    def close(self) -> Iterator[np.ndarray]:
        """The rest."""
        if not self.rate:
            return
        self._settle()
        yield from self._cut(0)
        if self._held:
            yield np.concatenate(self._buffer, axis=1)
            self._buffer, self._held = [], 0

    def notes(self) -> list[Note]:
        """What was noticed."""
        notes = []
        if self._gaps or self._twice:
            texts = []
            if self._gaps:
                total = sum(length for _, length in self._gaps)
                texts.append(
                    f"the time stamps leave {float(total):.2f} s without audio, first at "
                    f"{float(self._gaps[0][0]):.2f} s, which became silence"
                )
            if self._twice:
                texts.append(
                    f"the time stamps give {float(self._twice):.2f} s of audio a second time, which were left out"
                )
            notes.append(Note("audio_gaps", "; ".join(texts)))
        if len(self._formats) > 1:
            at, rate, channels = self._formats[1]
            first = self._formats[0]
            notes.append(
                Note(
                    "audio_changes",
                    f"the audio changes from {first[1]:,} Hz and {_channels(first[2])} to {rate:,} Hz and "
                    f"{_channels(channels)} at {float(at):.2f} s, and all of it was delivered with {first[1]:,} Hz "
                    f"and {_channels(min(2, first[2]))}",
                )
            )
        return notes

    def _change(self, found: tuple[int, int, str]) -> None:
        rate, channels, layout = found
        if not RATES[0] <= rate <= RATES[1]:
            raise ClipError(
                "audio_unreadable",
                f"the file declares {rate:,} samples per second, but sound has between {RATES[0]:,} and "
                f"{RATES[1]:,}: export it again",
            )
        if channels > MOST_CHANNELS:
            raise ClipError(
                "audio_unreadable",
                f"the file declares {channels:,} channels, but sound has at most {MOST_CHANNELS}: export it in stereo",
            )
        if not self.rate:
            self.rate, self.channels, self.layout = found
            self._piece = max(1, int(self.rate * PIECE_SECONDS))
        self._settle()
        self._add_time(Fraction(0))
        if not self._formats or self._formats[-1][1:] != (rate, channels):
            self._formats.append((self.seconds, rate, channels))
        self._format = found
        self._mixing = None
        if channels != self.channels:
            down = mixing(layout, channels, min(2, self.channels))
            self._mixing = down if len(down) == self.channels else np.repeat(down[:1], self.channels, axis=0)
        if rate != self.rate:
            self._converter = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)

    def _put(self, values: np.ndarray) -> None:
        if self._mixing is not None:
            values = self._mixing @ values
        if self._converter is None or self._format is None:
            self._append(values)
            return
        for out in self._converter.resample(as_frame(values, self._format[0], self.layout)):
            self._append(out.to_ndarray())

    def _settle(self) -> None:
        """End a converter, such that there are exactly as many samples as the length says."""
        if self._converter is not None:
            for out in self._converter.resample(None):
                self._append(out.to_ndarray())
            self._converter = None
        missing = round(self.seconds * self.rate) - self.samples
        if missing > 0:
            self._append(np.zeros((self.channels, missing), np.float32))
        elif missing < 0:
            self._shorten(-missing)

    def _silence(self, seconds: Fraction) -> None:
        if self.seconds + seconds > self._most:
            raise ClipError(
                "audio_too_long",
                f"the time stamps jump by {float(seconds):,.1f} s at {float(self.seconds):.2f} s, so the audio would "
                f"be longer than {self._most / 60:g} min: export the file again",
            )
        converting = self._converter is not None
        self._settle()
        self._add_time(seconds)
        left = round(self.seconds * self.rate) - self.samples
        step = self._piece
        silence = np.zeros((self.channels, step), np.float32)
        while left > 0:
            self._append(silence[:, : min(step, left)])
            left -= step
        if converting and self._format is not None:
            self._converter = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)

    def _add_time(self, seconds: Fraction) -> None:
        self._until, self._run = self.seconds + seconds, 0
        self._until_float = float(self._until)

    def _append(self, values: np.ndarray) -> None:
        if values.shape[1]:
            self._buffer.append(values)
            self._held += values.shape[1]
            self.samples += values.shape[1]

    def _shorten(self, extra: int) -> None:
        extra = min(extra, self._held)
        self._held -= extra
        self.samples -= extra
        while extra:
            last = self._buffer.pop()
            if last.shape[1] > extra:
                self._buffer.append(last[:, : last.shape[1] - extra])
            extra -= min(extra, last.shape[1])

    def _cut(self, reserve: int) -> Iterator[np.ndarray]:
        if self._held < self._piece + reserve:
            return
        values = np.concatenate(self._buffer, axis=1)
        at = 0
        while values.shape[1] - at >= self._piece + reserve:
            yield values[:, at : at + self._piece]
            at += self._piece
        self._buffer, self._held = [values[:, at:]], values.shape[1] - at


def _channels(number: int) -> str:
    return {1: "mono", 2: "stereo"}.get(number, f"{number} channels")
