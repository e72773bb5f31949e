"""How the sound of an input is kept for delivery: AAC in MP4, or FLAC (24 bit, 48 kHz) where the file has PCM.

More than two channels are mixed down to stereo.
"""

import io
from fractions import Fraction
from typing import Protocol

import av
import numpy as np

from pipeline.media.mono import as_frame, mixing
from pipeline.media.presets import PCM_RATE

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class Sound(Protocol):
    """What is to be known of pieces of sound, as `SoundReader` knows it."""

    @property
    def rate(self) -> int:
        """Samples per second."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channels' positions."""


class SoundWriter:
    """Encodes pieces into a file in memory as they arrive."""

    def __init__(self, reader: Sound, kbps: int | None) -> None:
        """`kbps` is the bit rate of AAC; None stands for FLAC."""
        self.source_rate, channels = reader.rate, min(2, reader.channels)
        rate = reader.rate if kbps is not None and reader.rate in AAC_RATES else PCM_RATE
        self.layout = "mono" if channels == 1 else "stereo"
        self.mix = None if reader.channels == channels else mixing(reader.layout, reader.channels, channels)
        self.buffer = io.BytesIO()
        self.container = av.open(self.buffer, "w", format="flac" if kbps is None else "mp4")
        self.stream = self.container.add_stream("flac" if kbps is None else "aac", rate=rate, layout=self.layout)
        if kbps is None:
            self.stream.format = "s32"  # of which FLAC keeps 24 bits
        else:
            # AAC allows at most 6144 bits per channel and frame of 1024 samples; mono needs half of the stereo rate.
            self.stream.bit_rate = min(kbps * 500 * channels, 5 * rate * channels)
        self.stream.codec_context.open()
        self.samples = 0
        self.time_base = Fraction(1, rate)
        self.resampler = av.AudioResampler(
            format=self.stream.format.name,
            layout=self.layout,
            rate=rate,
            frame_size=self.stream.codec_context.frame_size,
        )

    def write(self, piece: np.ndarray | None) -> None:
        """Append (channels,samples) float32; None flushes the encoder."""
        frame = None
        if piece is not None:
            frame = as_frame(piece if self.mix is None else self.mix @ piece, self.source_rate, self.layout)
        for out in self.resampler.resample(frame):
            # Timestamps tell the muxer about the encoder's delay of 1024 samples, which players then skip.
            out.pts, out.time_base = self.samples, self.time_base
            self.samples += out.samples
            self.container.mux(self.stream.encode(out))

    def close(self) -> bytes:
        """The file."""
        self.write(None)
        self.container.mux(self.stream.encode(None))
        self.container.close()
        return self.buffer.getvalue()
