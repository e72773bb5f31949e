"""Sound that is passed through unchanged: the packets of a file's audio stream in a container that can have them."""

import hashlib
import io
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer

from pipeline.common.errors import ClipError
from pipeline.media.presets import MP4, MXF, PCM_RATE, Container
from pipeline.media.sound_reader import CODECS, CONTAINERS, TIMED, SoundReader
from pipeline.media.untrusted import open_untrusted

REMEDY = "set video.audio to aac or pcm, which writes the sound anew"

LONGEST_FRAME = 4096
"""Samples of the longest packet of the codecs that are copied (ALAC and FLAC). So much may be heard after the source's
end: what its container cuts off the last packet."""

CHANGED = ("audio_gaps", "audio_changes")
"""Notes of a source that is not heard as its packets say."""


def copied(data: bytes, heard: SoundReader, container: Container) -> bytes:
    """The stream that `heard` has read to its end, with the same packets, as an MP4, or a MOV for MOV and MXF.

    The result is decoded and compared with the source, sample by sample. Raises ClipError audio_not_copied if the
    container cannot have the stream, or if it would not be heard there as it is in the source.
    """
    if heard.start:
        raise not_copied(f"it begins {float(heard.start):.3f} s after the pictures of its file")
    if any(note.code in CHANGED for note in heard.notes):
        raise not_copied("its time stamps have gaps, or its sample rate or channels change")
    buffer = io.BytesIO()
    try:
        with open_untrusted(io.BytesIO(data), CONTAINERS, CODECS, {}) as source:
            stream = source.streams.audio[heard.number - 1]
            _check(stream, container)
            _remux(source, stream, heard.zero, buffer, MP4.muxer if container == MP4 else "mov")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise not_copied(f"FFmpeg cannot write it into {container.muxer}") from error
    made = buffer.getvalue()
    if not _same(SoundReader(data, wanted=str(heard.number)), SoundReader(made)):
        raise not_copied(f"it would be heard otherwise in {container.muxer} than in its file, by its time stamps")
    return made


def payload_of(sound: bytes) -> bytes:
    """SHA-256 of what the packets of a file's only stream contain, in whatever sizes they are."""
    digest = hashlib.sha256()
    with av.open(io.BytesIO(sound), "r") as file:
        for packet in file.demux(file.streams.audio[0]):
            digest.update(packet)
    return digest.digest()


def _check(stream: av.AudioStream, container: Container) -> None:
    codec = stream.codec_context.codec.canonical_name
    if codec not in container.copies:
        raise not_copied(f"it is {codec}, and {container.muxer} can have {', '.join(container.copies)}")
    if container == MXF and stream.rate != PCM_RATE:
        raise not_copied(f"it has {stream.rate} Hz, and mxf has {PCM_RATE}")


def _remux(source: InputContainer, stream: av.AudioStream, zero: Fraction, target: BinaryIO, muxer: str) -> None:
    """Write the packets so that time 0 of the source is that of the target.

    In a container without time stamps of its own, what the decoder skips at the start lies before that.
    """
    with av.open(target, "w", format=muxer) as file:
        out = file.add_stream_from_template(stream)
        assert stream.time_base is not None
        timed = source.format.name.split(",")[0] in TIMED
        shift = round(zero / stream.time_base) if timed else stream.start_time or 0
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = out
            file.mux(packet)


def _same(source: SoundReader, made: SoundReader) -> bool:
    """Whether two files are heard alike, sample by sample, but for the rest of the last packet of the second one."""
    ours, theirs = source.pieces(), made.pieces()
    one = other = np.zeros((0, 0), np.float32)
    left = LONGEST_FRAME
    while True:
        one = one if one.shape[1] else next(ours, one)
        other = other if other.shape[1] else next(theirs, other)
        both = min(one.shape[1], other.shape[1])
        if not both:
            left -= other.shape[1]
            if one.shape[1] or left < 0 or not other.shape[1]:
                return not one.shape[1] and left >= 0 and source.rate == made.rate
            other = other[:, :0]
            continue
        if not np.array_equal(one[:, :both], other[:, :both]):
            return False
        one, other = one[:, both:], other[:, both:]


def not_copied(why: str) -> ClipError:
    """The error of a sound that cannot be copied, for this reason."""
    return ClipError(
        "audio_not_copied", f"the audio cannot be passed through unchanged (video.audio=copy): {why}: {REMEDY}"
    )
