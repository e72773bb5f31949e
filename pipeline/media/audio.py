"""Audio: any file that FFmpeg's common demuxers can read -> 16 kHz speech for the model, and AAC of the original.

Both are produced in one streaming pass, so that an hour of 48 kHz stereo is never in memory at once.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from models import SAMPLE_RATE
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits

CONTAINERS = "wav,w64,aiff,mp3,mov,mp4,m4a,aac,flac,ogg,matroska,webm"
"""Demuxers that may open an input. Playlists (hls, concat, dash) are not among them, because they would read other
files.
"""


def _sound_decoders() -> str:
    names = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(av.codec.codec.UnknownCodecError):  # only an encoder exists
            if av.Codec(name, "r").type == "audio":
                names.append(name)
    return ",".join(names)


OPTIONS = {
    "format_whitelist": CONTAINERS,
    # Only the bytes that we have: no file and no network, whatever a container refers to.
    "protocol_whitelist": "none",
    # When FFmpeg probes a file, it would decode the first image of a video or cover, whatever its size.
    "codec_whitelist": _sound_decoders(),
}
"""FFmpeg options for an input."""

EXACT_LENGTH = ("wav", "w64", "aiff", "flac", "mov")
"""Containers whose header gives the exact length; for others it is estimated from the bit rate."""

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

SILENCE_PEAK = 1e-4
"""-80 dBFS: below the noise of any recording, so it can only be digital silence."""


@dataclass(frozen=True)
class AudioTrack:
    """The audio of one input."""

    wave: np.ndarray
    """(samples at 16 kHz,) float32 mono: the input of the speech encoders."""
    rate: int
    """Sample rate of the source, Hz."""
    samples: int
    """Number of samples per channel, at `rate`."""
    aac: bytes
    """The original audio as AAC in an MP4 container, to be copied into the delivered file."""

    @property
    def seconds(self) -> float:
        """Exact duration."""
        return self.samples / self.rate

    def frames(self, fps: Fraction) -> int:
        """Number of video frames that cover the audio: ceil(duration * fps), computed in integers."""
        return -(-self.samples * fps.numerator // (self.rate * fps.denominator))


def load_audio(data: bytes, limits: Limits, *, kbps: int = 192) -> AudioTrack:
    """Decode the first audio stream of a file.

    More than two channels are mixed down to stereo for delivery, and the model gets the mix of all channels. Raises
    ClipError: audio_unreadable, audio_no_stream, audio_truncated, audio_empty, audio_too_short, audio_too_long,
    audio_silent, audio_not_finite.
    """
    _check_riff(data)
    try:
        # Metadata in an old encoding does not matter for the audio.
        with av.open(io.BytesIO(data), "r", options=OPTIONS, metadata_errors="replace") as source:
            if not source.streams.audio:
                raise ClipError("audio_no_stream", "the file contains no audio stream: export it with audio")
            return _ingest(source, limits, kbps)
    except (av.FFmpegError, ValueError) as error:
        raise ClipError(
            "audio_unreadable",
            f"the file cannot be read as audio ({error}): use WAV, MP3, M4A, MP4, FLAC, OGG or Opus, and check that "
            "the upload was complete",
        ) from error


def _ingest(source: InputContainer, limits: Limits, kbps: int) -> AudioTrack:
    stream = source.streams.audio[0]
    _check_length(_declared_seconds(source, stream), limits)
    mono = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    delivery: _AacWriter | None = None
    pieces: list[np.ndarray] = []
    samples = rate = 0
    for frame in _frames(source, stream):
        if delivery is None:
            rate = frame.sample_rate
            delivery = _AacWriter(rate, channels=min(2, frame.layout.nb_channels), kbps=kbps)
        if "flt" in frame.format.name or "dbl" in frame.format.name:
            _check_finite(frame, samples / rate)
        samples += frame.samples
        _check_length(samples / rate, limits)
        frame.pts = None  # the samples are used in sequence: gaps between timestamps are not filled
        # The order matters: a resampler with nothing to do sets the channel layout of a frame without one (WAV) in
        # place, and the next resampler would then not recognise the frame.
        delivery.write(frame)
        pieces += [out.to_ndarray()[0] for out in mono.resample(frame)]
    if delivery is None or samples == 0:
        raise ClipError("audio_empty", "the audio stream contains no samples: export it again")
    if samples / rate < limits.min_audio_seconds:
        raise ClipError(
            "audio_too_short",
            f"{samples / rate:.3f} s of audio is less than limits.min_audio_seconds = {limits.min_audio_seconds:g}",
        )
    declared = _declared_seconds(source, stream)
    missing = declared - samples / rate
    if _is_exact(source) and missing > max(0.5, 0.02 * declared):
        raise ClipError(
            "audio_truncated",
            f"the file ends after {samples / rate:.2f} s, but its header declares {declared:.2f} s: upload it again",
        )
    pieces += [out.to_ndarray()[0] for out in mono.resample(None)]
    wave = np.concatenate(pieces)
    if not limits.allow_silence and np.abs(wave).max() < SILENCE_PEAK:
        raise ClipError(
            "audio_silent", "the audio is digital silence: check the export, or set limits.allow_silence=true"
        )
    return AudioTrack(wave, rate, samples, delivery.close())


def _check_riff(data: bytes) -> None:
    """FFmpeg takes the length of a WAV from the size of the file; its header says what the length should be."""
    meant = int.from_bytes(data[4:8], "little") + 8
    # Programs that write to a pipe use about the largest number, signed or unsigned.
    if data[:4] == b"RIFF" and len(data) < 0.98 * meant and meant < 2**31 - 2**20:
        raise ClipError(
            "audio_truncated",
            f"the file has {len(data):,} bytes, but its header declares {meant:,} bytes: upload it again",
        )


def _frames(source: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The decoded frames. Corrupt data inside is an error, because it would be audible; the end may be cut short.

    Encoders fill up their last frame with silence. What exceeds the header's length is cut off if that length is exact.
    """
    seconds, last, broken = Fraction(0), None, None
    for packet in source.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            broken = broken or error
            continue
        for frame in frames:
            if broken is not None and packet.size:
                raise broken
            if frame.samples:
                if last is not None:
                    yield last
                seconds, last = seconds + Fraction(frame.samples, frame.sample_rate), frame
    if last is None:
        if broken is not None:
            raise broken
        return
    excess = 0
    if _is_exact(source) and stream.duration and stream.time_base:
        excess = round((seconds - stream.duration * stream.time_base) * last.sample_rate)
    yield without_end(last, excess) if 0 < excess < last.samples else last


def without_end(frame: av.AudioFrame, samples: int) -> av.AudioFrame:
    """A frame without its last samples."""
    values = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) for interleaved channels
    kept: Any = np.ascontiguousarray(values[:, : -samples * (frame.layout.nb_channels // len(values))])
    short = av.AudioFrame.from_ndarray(kept, format=frame.format.name, layout=frame.layout.name)
    short.sample_rate = frame.sample_rate
    return short


def _is_exact(source: InputContainer) -> bool:
    return source.format.name.split(",")[0] in EXACT_LENGTH


def _declared_seconds(source: InputContainer, stream: av.AudioStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (source.duration or 0) / av.time_base


def _check_length(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_audio_minutes * 60:
        raise ClipError(
            "audio_too_long",
            f"more than {seconds / 60:.1f} min of audio, but limits.max_audio_minutes = {limits.max_audio_minutes:g}",
        )


def _check_finite(frame: av.AudioFrame, second: float) -> None:
    if not np.isfinite(frame.to_ndarray()).all():
        raise ClipError(
            "audio_not_finite", f"the audio contains NaN or infinite samples at about {second:.2f} s: export it again"
        )


class _AacWriter:
    """Encodes frames into an MP4 in memory as they arrive."""

    def __init__(self, rate: int, channels: int, kbps: int) -> None:
        rate = rate if rate in AAC_RATES else 48_000
        layout = "mono" if channels == 1 else "stereo"
        self.buffer = io.BytesIO()
        self.container = av.open(self.buffer, "w", format="mp4")
        self.stream = self.container.add_stream("aac", rate=rate, layout=layout)
        # AAC allows at most 6144 bits per channel and frame of 1024 samples; mono needs half of the stereo rate.
        self.stream.bit_rate = min(kbps * 500 * channels, 5 * rate * channels)
        self.samples = 0
        self.resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)

    def write(self, frame: av.AudioFrame | None) -> None:
        for out in self.resampler.resample(frame):
            # Timestamps tell the muxer about the encoder's delay of 1024 samples, which players then skip.
            out.pts, out.time_base = self.samples, Fraction(1, out.sample_rate)
            self.samples += out.samples
            self.container.mux(self.stream.encode(out))

    def close(self) -> bytes:
        self.write(None)
        self.container.mux(self.stream.encode(None))
        self.container.close()
        return self.buffer.getvalue()
