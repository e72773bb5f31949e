"""The sounds of a file that is being written: packets are copied one by one, and lossless sound becomes PCM.

Sound is written next to the frames that it belongs to, so that players need not seek.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from pipeline.media.languages import track_language
from pipeline.media.presets import PCM_RATE


@dataclass(frozen=True)
class TrackTags:
    """What a file says about one of its audio tracks."""

    language: str | None = None
    """Tag of BCP 47."""
    title: str | None = None
    default: bool = False
    """Whether players begin with it; if no track says so, it is the first one."""


@dataclass(frozen=True, eq=False)
class SoundTrack:
    """A further audio track for a file."""

    sound: bytes
    """As in `AudioTrack`."""
    tags: TrackTags


_NONE = TrackTags()

UNTITLED = "SoundHandler"
"""What FFmpeg writes as the name of a track's handler if it has no title."""

MISREAD = 4
"""Bytes of the longest name that FFmpeg's reader takes for one in MacRoman."""


class SoundOutput(Protocol):
    """One sound on its way into a file."""

    def up_to(self, seconds: Fraction) -> None:
        """Write what belongs before this time."""

    def close(self, seconds: Fraction) -> None:
        """Write the rest; the pictures end at this time."""


class CopiedSound:
    """Packets as they are."""

    def __init__(self, source: InputContainer, file: OutputContainer) -> None:
        stream = source.streams.audio[0]
        self._file, self.out = file, file.add_stream_from_template(stream)
        self._tick = stream.time_base or Fraction(1, stream.rate)
        self._packets = (packet for packet in source.demux(stream) if packet.dts is not None)
        self._next = next(self._packets, None)

    def up_to(self, seconds: Fraction) -> None:
        """Write the packets that begin by then."""
        while self._next is not None and (self._next.dts or 0) * self._tick <= seconds:
            self._mux()

    def close(self, seconds: Fraction) -> None:
        """Write the rest, which may be a little longer than the pictures: packets are not cut."""
        while self._next is not None:
            self._mux()

    def _mux(self) -> None:
        assert self._next is not None
        self._next.stream = self.out
        self._file.mux(self._next)
        self._next = next(self._packets, None)


class PcmSound:
    """Samples of 24 bits at 48 kHz that are as long as the pictures, with silence at the end."""

    def __init__(self, source: InputContainer, file: OutputContainer) -> None:
        stream = source.streams.audio[0]
        if stream.rate != PCM_RATE:
            raise ValueError(f"the sound has {stream.rate} Hz instead of {PCM_RATE}")
        self._layout, self._channels = stream.layout.name, stream.channels
        self._file = file
        self.out = file.add_stream("pcm_s24le", rate=PCM_RATE, layout=self._layout)
        self._pieces = self._decoded(source)
        self._next = next(self._pieces, None)
        self._written = 0

    def up_to(self, seconds: Fraction) -> None:
        """Write the pieces that end by then; the last ones have to wait for the end of the pictures."""
        while self._next is not None and self._written + len(self._next) <= seconds * PCM_RATE:
            self._write(self._next)
            self._next = next(self._pieces, None)

    def close(self, seconds: Fraction) -> None:
        """Write what is left, cut or extended to the end of the pictures."""
        missing = round(seconds * PCM_RATE) - self._written
        while self._next is not None and missing > 0:
            piece = self._next[:missing]
            self._write(piece)
            missing -= len(piece)
            self._next = next(self._pieces, None)
        while missing > 0:
            silence = np.zeros((min(missing, PCM_RATE), self._channels), np.int32)
            self._write(silence)
            missing -= len(silence)
        self._file.mux(self.out.encode(None))

    def _decoded(self, source: InputContainer) -> Iterator[np.ndarray]:
        for frame in source.decode(source.streams.audio[0]):
            samples = frame.to_ndarray()
            if samples.dtype != np.int32:
                raise ValueError(f"the samples are {samples.dtype} instead of int32")
            yield samples.reshape(-1, self._channels)

    def _write(self, samples: np.ndarray) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s32", self._layout)
        frame.sample_rate, frame.pts, frame.time_base = PCM_RATE, self._written, Fraction(1, PCM_RATE)
        self._written += len(samples)
        self._file.mux(self.out.encode(frame))


def open_sound(
    source: InputContainer, file: OutputContainer, kind: str, tags: TrackTags = _NONE, *, default: bool = True
) -> SoundOutput:
    """The output of a sound, of the `kind` aac, pcm or copy; `source` holds AAC, 24-bit FLAC or any codec accordingly.

    In MP4 and MOV a title is the name of the track's handler, and the track's name as well unless that is so short that
    FFmpeg reads its bytes in another encoding.
    """
    track = PcmSound(source, file) if kind == "pcm" else CopiedSound(source, file)
    track.out.disposition = Disposition.default if default else Disposition(0)
    if (language := track_language(tags.language, file.format.name)) is not None:
        track.out.metadata["language"] = language
    if tags.title is not None:
        track.out.metadata["handler_name"] = tags.title
        if tags.title.isascii() or len(tags.title.encode()) > MISREAD:
            track.out.metadata["title"] = tags.title
    return track


def silence(samples: int, kind: str = "aac") -> bytes:
    """Silence at 48 kHz as the feature stage hands over the sound of a clip."""
    buffer = io.BytesIO()
    lossless = kind == "pcm"
    with av.open(buffer, "w", format="flac" if lossless else "mp4") as file:
        stream = file.add_stream("flac" if lossless else "aac", rate=PCM_RATE, layout="mono")
        stream.format = form = "s32" if lossless else "fltp"
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        for start in range(0, samples, size):
            zeros: np.ndarray = np.zeros((1, min(size, samples - start)), np.int32 if lossless else np.float32)
            frame = av.AudioFrame.from_ndarray(zeros, form, "mono")
            frame.sample_rate, frame.pts, frame.time_base = PCM_RATE, start, Fraction(1, PCM_RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()
