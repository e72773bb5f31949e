"""Audio: any file that FFmpeg's common demuxers can read -> 16 kHz speech for the model, and the original.

The original is kept for delivery (`SoundWriter`, `copied`). Both are produced in one streaming pass, so that an hour of
48 kHz stereo is never in memory at once.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.media.mono import MonoMixer
from pipeline.media.presets import COPY, MP4, Container
from pipeline.media.slot import ClipLength, Reading, Slot
from pipeline.media.sound_copy import copied, not_copied
from pipeline.media.sound_reader import SILENCE_PEAK, SoundReader
from pipeline.media.sound_writer import SoundWriter

NONE = "none"
"""How a sound is kept that is not delivered by itself."""


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
    """The original audio for the delivered file: AAC in MP4, FLAC (24 bit, 48 kHz), which becomes PCM there, or its own
    packets.
    """
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
    container: Container = MP4,
) -> AudioTrack:
    """Decode a file's audio. Of several streams `wanted` and `language` choose one, as for `SoundReader`.

    `sound` is how it is kept for delivery: aac, pcm, none, or copy, for which the `container` decides. With a `slot`
    the track is exactly as long as that. Raises ClipError: audio_unreadable, audio_no_stream, audio_stream_not_there,
    audio_truncated, audio_empty, audio_too_short, audio_too_long, audio_silent, audio_not_finite, audio_too_loud,
    length_differs, audio_not_copied.
    """
    reader = SoundReader(data, language=language, wanted=wanted, max_seconds=limits.max_audio_minutes * 60)
    track = track_of(reader, limits, kbps=kbps, sound=sound, slot=slot)
    return replace(track, sound=_passed_through(data, reader, slot, container)) if sound == COPY else track


def track_of(
    reader: Reading, limits: Limits, *, kbps: int = 192, sound: str = "aac", slot: Slot | None = None
) -> AudioTrack:
    """`load_audio` for what a reader reads, which may be a mix of several files. Nothing is kept of it for `copy`."""
    if slot is not None:
        slot.check(limits)
    delivery: SoundWriter | None = None
    mono: MonoMixer | None = None
    heard: list[np.ndarray] = []
    samples = 0
    for piece in reader.pieces() if slot is None else slot.fitted(reader):
        if mono is None:
            mono = MonoMixer(reader.rate, reader.layout, reader.channels)
            encodes = sound not in (COPY, NONE)
            delivery = SoundWriter(reader, None if sound == "pcm" else kbps) if encodes else None
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


def load_track(
    data: bytes,
    limits: Limits,
    length: ClipLength,
    *,
    kbps: int = 192,
    language: str | None = None,
    wanted: str | None = None,
    sound: str = "aac",
    container: Container = MP4,
) -> tuple[bytes, tuple[Note, ...]]:
    """A further audio track of a clip of this `length`, kept as for `load_audio`, and what was noticed about its file.

    It may be silent. Raises ClipError: track_length_differs, and what `load_audio` raises for a file.
    """
    reader = SoundReader(data, language=language, wanted=wanted, max_seconds=limits.max_audio_minutes * 60)
    delivery: SoundWriter | None = None
    for piece in length.fitted(reader):
        if sound != COPY:
            delivery = delivery or SoundWriter(reader, None if sound == "pcm" else kbps)
            delivery.write(piece)
    kept = _passed_through(data, reader, length, container) if delivery is None else delivery.close()
    return kept, (*reader.notes, *length.notes(reader))


def _passed_through(data: bytes, reader: SoundReader, slot: Slot | None, container: Container) -> bytes:
    if slot is not None and not slot.fits(reader):
        raise not_copied(f"on_length is {slot.on_length}, and the audio does not have the length of the clip's frames")
    return copied(data, reader, container)
