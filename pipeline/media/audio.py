"""Audio: any file that FFmpeg's common demuxers can read -> 16 kHz speech for the model, and the original.

The original is kept for delivery as AAC, or as FLAC where the delivered file has PCM.

Both are produced in one streaming pass, so that an hour of 48 kHz stereo is never in memory at once.
"""

import io
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.media.mono import MonoMixer, as_frame, mixing
from pipeline.media.presets import PCM_RATE
from pipeline.media.slot import Reading, Slot
from pipeline.media.sound_reader import SILENCE_PEAK, SoundReader

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True)
class AudioTrack:
    """The audio of one input."""

    wave: np.ndarray
    """(samples at 16 kHz,) float32 mono: the input of the speech encoders."""
    rate: int
    """Sample rate of the source, Hz."""
    samples: int
    """Number of samples per channel, at `rate`."""
    sound: bytes
    """The original audio for the delivered file: AAC in MP4, or FLAC (24 bit, 48 kHz), which becomes PCM there."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the file."""
    stream: str | None = None
    """Which of several audio streams it is, and why; None for a file with one."""
    source_samples: int | None = None
    """Number of samples that the file has, if a slot gave the track another length."""

    @property
    def seconds(self) -> float:
        """Exact duration."""
        return self.samples / self.rate

    @property
    def source(self) -> "AudioTrack":
        """The same track with the length of the file, for its `seconds` and `frames`."""
        return self if self.source_samples is None else replace(self, samples=self.source_samples, source_samples=None)

    def frames(self, fps: Fraction) -> int:
        """Number of video frames that cover the audio: ceil(duration * fps), computed in integers."""
        return -(-self.samples * fps.numerator // (self.rate * fps.denominator))


def load_audio(
    data: bytes,
    limits: Limits,
    *,
    kbps: int = 192,
    language: str | None = None,
    wanted: str | None = None,
    sound: str = "aac",
    slot: Slot | None = None,
) -> AudioTrack:
    """Decode a file's audio. Of several streams `wanted` and `language` choose one, as for `SoundReader`.

    `sound` is how it is kept for delivery, aac, pcm or none; more than two channels are mixed down to stereo. With a
    `slot` the track is exactly as long as that. Raises ClipError: audio_unreadable, audio_no_stream,
    audio_stream_not_there, audio_truncated, audio_empty, audio_too_short, audio_too_long, audio_silent,
    audio_not_finite, audio_too_loud, length_differs.
    """
    reader = SoundReader(data, language=language, wanted=wanted, max_seconds=limits.max_audio_minutes * 60)
    return track_of(reader, limits, kbps=kbps, sound=sound, slot=slot)


def track_of(
    reader: Reading, limits: Limits, *, kbps: int = 192, sound: str = "aac", slot: Slot | None = None
) -> AudioTrack:
    """`load_audio` for what a reader reads, which may be a mix of several files."""
    if slot is not None:
        slot.check(limits)
    delivery: _SoundWriter | None = None
    mono: MonoMixer | None = None
    heard: list[np.ndarray] = []
    samples = 0
    for piece in reader.pieces() if slot is None else slot.fitted(reader):
        if mono is None:
            mono = MonoMixer(reader.rate, reader.layout, reader.channels)
            delivery = None if sound == "none" else _SoundWriter(reader, None if sound == "pcm" else kbps)
        heard.append(mono.add(piece))
        if delivery is not None:
            delivery.write(piece)
        samples += piece.shape[1]
    assert mono is not None
    heard.append(mono.close())
    seconds = reader.samples / reader.rate
    if seconds < limits.min_audio_seconds:
        raise ClipError(
            "audio_too_short",
            f"{seconds:.3f} s of audio is less than limits.min_audio_seconds = {limits.min_audio_seconds:g}: give a "
            "longer file, or lower the limit",
        )
    wave = np.concatenate(heard)
    silent = np.abs(wave).max() < SILENCE_PEAK and (slot is None or reader.peak < SILENCE_PEAK)  # its part may be
    if silent and not limits.allow_silence:
        raise ClipError(
            "audio_silent", "the audio is digital silence: check the export, or set limits.allow_silence=true"
        )
    notes = (*reader.notes, *mono.notes(), *(() if slot is None else slot.notes(reader)))
    given = None if slot is None else reader.samples
    kept = b"" if delivery is None else delivery.close()
    return AudioTrack(wave, reader.rate, samples, kept, notes, reader.stream, given)


class _SoundWriter:
    """Encodes pieces into a file in memory as they arrive."""

    def __init__(self, reader: Reading, kbps: int | None) -> None:
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
        frame = None
        if piece is not None:
            frame = as_frame(piece if self.mix is None else self.mix @ piece, self.source_rate, self.layout)
        for out in self.resampler.resample(frame):
            # Timestamps tell the muxer about the encoder's delay of 1024 samples, which players then skip.
            out.pts, out.time_base = self.samples, self.time_base
            self.samples += out.samples
            self.container.mux(self.stream.encode(out))

    def close(self) -> bytes:
        self.write(None)
        self.container.mux(self.stream.encode(None))
        self.container.close()
        return self.buffer.getvalue()
