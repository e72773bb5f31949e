"""Channels -> mono for the model, and -> stereo for delivery.

A mono mix loses what is in opposite phase in two channels. Where the mix is more than 6 dB quieter than one channel
alone would be in it, that channel is used instead. This is decided for every piece of a quarter of a second, so that
nothing has to be in memory; between pieces the weights move within 10 ms.
"""

import av
import numpy as np

from models import SAMPLE_RATE
from pipeline.common.notes import Note

AUDIBLE = 1e-3
"""RMS of a channel, -60 dBFS, below which it does not matter what the mix loses."""
FADE_SECONDS = 0.01
NAMES = {2: ("left", "right")}


def mixing(layout: str, channels: int, wanted: int) -> np.ndarray:
    """(wanted, channels) float32: the weights with which FFmpeg mixes a layout to mono or stereo.

    The mean of all channels where FFmpeg does not know the positions of that many channels.
    """
    if channels == wanted:
        return np.eye(channels, dtype=np.float32)
    if channels <= 2:
        return np.full((wanted, channels), 1 / channels, np.float32)
    try:
        impulses = as_frame(np.eye(channels, dtype=np.float32), 48_000, layout)
        mixer = av.AudioResampler(format="fltp", layout="mono" if wanted == 1 else "stereo", rate=48_000)
        found = np.concatenate([out.to_ndarray() for out in (*mixer.resample(impulses), *mixer.resample(None))], axis=1)
        assert found.shape == (wanted, channels)
    except (av.FFmpegError, ValueError, AssertionError):
        return np.full((wanted, channels), 1 / channels, np.float32)
    return found


def as_frame(piece: np.ndarray, rate: int, layout: str) -> av.AudioFrame:
    """(channels, samples) float32 -> a frame without a time."""
    if len(piece) <= 2:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
    else:  # PyAV makes no frames of more than eight planes
        packed = np.ascontiguousarray(piece.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate
    return frame


class MonoMixer:
    """Pieces (channels, samples) float32 at any rate -> mono at 16 kHz."""

    def __init__(self, rate: int, layout: str, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._mix = mixing(layout, channels, 1)[0]
        self._weights = self._mix
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._samples = self._given = self._replaced = 0
        self._first: int | None = None
        self._used: list[int] = []

    def add(self, piece: np.ndarray) -> np.ndarray:
        """-> (samples at 16 kHz,) float32, with the delay of a resampler."""
        before, self._weights, mono = self._weights, *self._chosen(piece)
        if before is not self._weights and self._samples:
            fade = min(piece.shape[1], round(self._rate * FADE_SECONDS))
            ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
            mono[:fade] = ramp * mono[:fade] + (1 - ramp) * (before @ piece[:, :fade])
        self._samples += piece.shape[1]
        if self._rate == SAMPLE_RATE:
            self._given += len(mono)
            return mono
        return self._taken(self._resampler.resample(as_frame(mono[None], self._rate, "mono")))

    def close(self) -> np.ndarray:
        """The rest. All together there are exactly ceil(samples * 16000 / rate) samples."""
        rest = self._taken([] if self._rate == SAMPLE_RATE else self._resampler.resample(None))
        missing = -(-self._samples * SAMPLE_RATE // self._rate) - self._given
        return np.pad(rest, (0, missing)) if missing >= 0 else rest[:missing]

    def notes(self) -> list[Note]:
        """What happened, after the last piece."""
        if self._first is None:
            return []
        names = NAMES.get(self._channels)
        used = " or ".join(names[i] if names else str(i + 1) for i in sorted(set(self._used)))
        return [
            Note(
                "audio_channels_cancel",
                f"the channels cancel each other when they are added (for {self._replaced / self._rate:.2f} s, first "
                f"at {self._first / self._rate:.2f} s), so the model hears the {used} channel there; the delivery has "
                "all of the source's audio",
            )
        ]

    def _chosen(self, piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(weights of the channels, the mono mix with them)."""
        if self._channels == 1:
            return self._mix, piece[0]
        energies = np.array([channel @ channel for channel in piece])
        mix = self._mix @ piece
        heard = self._mix**2 * energies  # how loud each channel alone would be in the mix
        best = int(heard.argmax())
        if float(mix @ mix) * 4 >= heard[best] or energies[best] < AUDIBLE**2 * piece.shape[1]:
            return self._mix, mix
        if self._used and heard[self._used[-1]] * 2 > heard[best]:  # the sign would change at each piece
            best = self._used[-1]
        if self._first is None:
            self._first = self._samples
        self._replaced += piece.shape[1]
        if not self._used or self._used[-1] != best:
            self._used.append(best)
            self._alone = np.eye(self._channels, dtype=np.float32)[best]
        return self._alone, piece[best].copy()  # it may be faded

    def _taken(self, frames: list[av.AudioFrame]) -> np.ndarray:
        pieces = [frame.to_ndarray()[0] for frame in frames]
        self._given += sum(map(len, pieces))
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def as_int16(wave: np.ndarray) -> np.ndarray:
    """Float samples in [-1,1] -> int16."""
    return np.rint(wave * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
