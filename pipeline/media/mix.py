"""The sounds of a dialogue as one: what several people in one picture say, added up.

All sounds start at time 0, and the mix is as long as the longest; the others end in silence. Each keeps its own level,
because how loud one speaker is beside the other is the editor's decision. Mono goes to both channels where another
sound is stereo, and what differs in sample rate is converted to 48 kHz.

Headroom: where speakers talk at once, the sum may exceed full scale, and a file would clip. Only then, if the highest
sample of the sum is above -1 dBFS and above that of every sound alone, the whole mix is made quieter by one factor, so
that its highest sample is at -1 dBFS. Nothing is ever made louder, and the balance does not change over time. To know
the factor, the sounds are decoded once more before.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np

from pipeline.common.notes import Note
from pipeline.media.mono import as_frame, mixing
from pipeline.media.presets import PCM_RATE
from pipeline.media.sound_reader import CONTAINERS, SoundReader

HEADROOM_DB = 1.0
"""Distance of a mix that had to be lowered from full scale (EBU R128 allows -1 dBTP)."""


@dataclass(frozen=True)
class Voice:
    """One sound of a mix."""

    data: bytes
    """The contents of its file."""
    language: str | None = None
    """BCP 47; it decides among several streams of the file, like the next."""
    stream: str | None = None
    """Number or language of the stream, as for `SoundReader`."""


class MixReader:
    """Reads a mix, once, through `pieces`, as a `SoundReader` reads one sound."""

    stream = None
    """Of which stream it is: each of its sounds has one of its own."""

    def __init__(
        self, voices: Sequence[Voice], *, max_seconds: float = float("inf"), containers: str = CONTAINERS
    ) -> None:
        """One or more voices."""
        self._voices, self._limits = voices, (max_seconds, containers)
        self.rate, self.channels, self.samples = 0, 0, 0
        """Samples per second and channels, known from the first piece on, and samples per channel after the last."""
        self.peak = 0.0
        """Largest absolute sample so far; full scale is 1."""
        self.gain = 1.0
        """Factor of the mix; below 1 if it was lowered."""
        self.notes: tuple[Note, ...] = ()
        """What was done to the mix; of the sounds, their own readers say it."""

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channels' positions."""
        return "mono" if self.channels == 1 else "stereo"

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels, samples) float32. Raises ClipError, as `SoundReader.pieces` does for one of the sounds."""
        opened = [_Opened(voice, *self._limits) for voice in self._voices]
        rates = {one.reader.rate for one in opened}
        self.rate = rates.pop() if len(rates) == 1 else PCM_RATE
        self.channels = max(min(2, one.reader.channels) for one in opened)
        highest = max((float(np.abs(piece).max()) for piece in self._sum(opened)), default=0.0)
        alone, most = max(one.peak for one in opened), 10 ** (-HEADROOM_DB / 20)
        if highest > max(most, alone):
            self.gain = most / highest
            self.notes = (Note("mix_lowered", _lowered(highest, self.gain)),)
        for piece in self._sum([_Opened(voice, *self._limits) for voice in self._voices]):
            piece *= np.float32(self.gain)
            self.samples += piece.shape[1]
            self.peak = max(self.peak, float(np.abs(piece).max()))
            yield piece

    def _sum(self, opened: "Sequence[_Opened]") -> Iterator[np.ndarray]:
        """Pieces of the sum; each sound is silent after its end."""
        sources = [one.converted(self.rate, self.channels) for one in opened]
        held = [np.zeros((self.channels, 0), np.float32) for _ in sources]
        lasting = set(range(len(sources)))
        while lasting:
            for i in sorted(lasting):
                while i in lasting and not held[i].shape[1]:
                    piece = next(sources[i], None)
                    if piece is None:
                        lasting.discard(i)
                    else:
                        held[i] = piece
            if not lasting:
                return
            count = min(held[i].shape[1] for i in lasting)
            total = np.zeros((self.channels, count), np.float32)
            for i in lasting:
                total += held[i][:, :count]
                held[i] = held[i][:, count:]
            yield total


class _Opened:
    """One sound, opened as far as its first piece, which says its rate and channels."""

    def __init__(self, voice: Voice, max_seconds: float, containers: str) -> None:
        self.reader = SoundReader(
            voice.data, language=voice.language, wanted=voice.stream, max_seconds=max_seconds, containers=containers
        )
        self._pieces = self.reader.pieces()
        self._first = next(self._pieces)
        self.peak = 0.0
        """Largest absolute sample of what was converted so far."""

    def converted(self, rate: int, channels: int) -> Iterator[np.ndarray]:
        """All pieces at this rate and with these channels (1 or 2); ceil(samples * rate / own rate) samples in all."""
        for piece in self._resampled(rate, channels):
            if piece.shape[1]:
                self.peak = max(self.peak, float(np.abs(piece).max()))
                yield piece

    def _resampled(self, rate: int, channels: int) -> Iterator[np.ndarray]:
        own, layout = self.reader.rate, "mono" if channels == 1 else "stereo"
        if own == rate:
            yield from self._mixed(channels)
            return
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        given = read = 0
        for piece in self._mixed(channels):
            read += piece.shape[1]
            for frame in resampler.resample(as_frame(piece, own, layout)):
                given += frame.samples
                yield frame.to_ndarray()
        whole = -(-read * rate // own)  # a resampler can be a few samples off
        rest = [frame.to_ndarray() for frame in resampler.resample(None)]
        end = np.concatenate([np.zeros((channels, 0), np.float32), *rest], axis=1)[:, : max(0, whole - given)]
        yield np.pad(end, ((0, 0), (0, max(0, whole - given - end.shape[1]))))

    def _mixed(self, channels: int) -> Iterator[np.ndarray]:
        """The reader's pieces with these channels. Mono is the same in both of two, as players play it."""
        own = self.reader.channels
        if own <= channels:
            weights = np.ones((channels, own), np.float32) if own == 1 else np.eye(own, dtype=np.float32)
        else:
            weights = mixing(self.reader.layout, own, channels)
        yield weights @ self._first
        for piece in self._pieces:
            yield weights @ piece


def _lowered(highest: float, gain: float) -> str:
    return (
        f"where several speak at once, the sum of the sounds reaches {_db(highest):+.1f} dBFS, so the whole mix was "
        f"lowered by {-_db(gain):.1f} dB"
    )


def _db(factor: float) -> float:
    return 20 * math.log10(factor)
