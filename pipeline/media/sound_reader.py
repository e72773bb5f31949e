"""The decoder of all audio: for rendering, for training data and for quality control.

One stream of a file becomes pieces of float samples on one timeline:

- Time 0 of a file is the earliest start of its video and audio streams (`sound_streams.file_zero`). Audio
  that begins later is preceded by silence, gaps between time stamps become silence, and what comes twice is used once,
  so that sound and pictures of a film stay together.
- Whatever changes inside, a sample rate or the channels, is converted to what the stream begins with.
- Of several audio streams one is chosen (`sound_streams.stream_order`). Of several files that were written one after
  the other into one, all are read.
- A length that the file states must be there (`declared_length`). Damage inside is an error; an end that is cut within
  a frame is not.
- Samples that no recording has are an error before anything encodes them.
"""

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer

from pipeline.common.child_main import tell_decoded
from pipeline.common.errors import ClipError
from pipeline.common.notes import Note
from pipeline.media.declared_length import layout_of
from pipeline.media.sound_parts import Bytes, FileBytes, Layout, Part, Window
from pipeline.media.sound_streams import file_zero, file_zero_by_packets, named_streams, pictures, stream_order, taken
from pipeline.media.sound_timeline import Timeline, floats
from pipeline.media.untrusted import MOST_PACKETS_WITHOUT_FRAME, UnusableError, decoders, open_untrusted

CONTAINERS = "wav,w64,aiff,mp3,mov,mp4,m4a,aac,flac,ogg,matroska,webm"
"""Demuxers that may open an input. Playlists (hls, concat, dash) are not among them, because they would read other
files.
"""


CODECS = decoders("audio")
"""When FFmpeg probes a file, it would decode the first image of a video or cover, whatever its size."""

TIMED = ("mov", "matroska", "ogg", "avi", "mpegts")
"""Containers whose time stamps are their own; in the others FFmpeg counts the samples."""

LOUDEST = 10 ** (18 / 20)
"""18 dB above full scale. Floating-point samples of a recording may exceed full scale a little; what is this loud was
written in another scale, such as that of 16-bit integers.
"""
SILENCE_PEAK = 1e-4
"""-80 dBFS: below the noise of any recording, so it can only be digital silence."""

UNREADABLE = "use WAV, MP3, M4A, MP4, FLAC, OGG or Opus, and check that the upload was complete"


class SoundReader:
    """Reads the audio of one file, once, through `pieces`."""

    def __init__(
        self,
        file: bytes | BinaryIO,
        *,
        language: str | None = None,
        wanted: str | None = None,
        max_seconds: float = float("inf"),
        containers: str = CONTAINERS,
    ) -> None:
        """`file` holds the bytes or is an open file that can seek. `wanted` names the stream, as for `named_streams`;
        without it, or if it names several, `language` (BCP 47) is preferred.
        """
        self._data: Bytes = file if isinstance(file, bytes) else FileBytes(file)
        self._language, self._wanted, self._containers = language, wanted, containers
        self._line = Timeline(max_seconds)
        self._max_seconds = max_seconds
        self._notes: list[Note] = []
        self.zero = Fraction(0)
        """Time 0 of the pieces on the file's own clock, in seconds; see `file_zero`. Known from the first piece on."""
        self.start = Fraction(0)
        """When the stream begins, in seconds after time 0; before that there is silence."""
        self.number = 1
        """Which of the file's audio streams is used, from 1. Known from the first piece on."""
        self.peak = 0.0
        """Largest absolute sample so far; full scale is 1."""
        self.stream: str | None = None
        """Which of several streams is used, and why; None if there is one. Known from the first piece on."""

    @property
    def rate(self) -> int:
        """Samples per second. Known from the first piece on, like the other properties of the samples."""
        return self._line.rate

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channels' positions."""
        return self._line.layout

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._line.channels

    @property
    def samples(self) -> int:
        """Number of samples per channel, after the last piece."""
        return self._line.samples

    @property
    def spans(self) -> list[tuple[Fraction, Fraction]]:
        """From when to when there is audio, in seconds after time 0, after the last piece; between them is silence."""
        return self._line.spans

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was noticed, after the last piece."""
        return (*self._notes, *self._line.notes())

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels, samples) float32, a quarter of a second each but for the last; full scale is 1.

        Raises ClipError: audio_unreadable, audio_no_stream, audio_stream_not_there, audio_truncated, audio_empty,
        audio_too_long, audio_not_finite, audio_too_loud.
        """
        at = 0
        for piece in self._pieces():
            self._check(piece, at)
            at += piece.shape[1]
            yield piece
        if not at:
            raise ClipError("audio_empty", "the audio stream contains no samples: export it again")

    def _pieces(self) -> Iterator[np.ndarray]:
        if self._data[:4] == b"RIFX":
            raise ClipError(
                "audio_unreadable",
                "the file is a RIFX, a WAV whose numbers have their bytes in reverse order: export it as an ordinary "
                "WAV",
            )
        everything = Part(((0, len(self._data)),))
        with self._opened(everything) as source:
            if not source.streams.audio:
                raise ClipError("audio_no_stream", "the file contains no audio stream: export it with audio")
            layout = layout_of(self._data, source)
            if layout.unsure:
                text = f"the file does not say how long it is, and {layout.unsure}: check that its end is not missing"
                self._notes.append(Note("audio_end_unsure", text))
            self._check_declared(_declared(source, number := self._choose(source)) or layout.seconds, layout)
            if layout.parts == (everything,):
                yield from self._part(source, number, layout)
        if layout.parts != (everything,):
            for place, part in enumerate(layout.parts):
                with self._opened(part) as source:
                    yield from self._part(source, number if place == 0 else self._best(source), layout)
        if layout.seconds is not None and self._line.rate:
            self._check_end(layout.seconds, self._line.seconds - self.start, layout)
        yield from self._line.close()

    @contextlib.contextmanager
    def _opened(self, part: Part) -> Iterator[InputContainer]:
        complete = isinstance(self._data, bytes) and part.ranges == ((0, len(self._data)),)
        file = io.BytesIO(self._data) if complete else Window(self._data, part.ranges)  # type: ignore[arg-type]
        try:
            with open_untrusted(file, self._containers, CODECS, part.options, part.form) as source:
                yield source
        except UnusableError as error:
            raise ClipError("audio_unreadable", str(error)) from error
        except (av.FFmpegError, ValueError) as error:
            raise ClipError("audio_unreadable", f"the file cannot be read as audio: {UNREADABLE}") from error

    def _best(self, source: InputContainer) -> int:
        if not source.streams.audio:
            raise ClipError("audio_unreadable", "a later part of the file has no audio stream: export it as one file")
        return stream_order(named_streams(source, self._wanted), self._language)[0].index

    def _choose(self, source: InputContainer) -> int:
        """Number of the stream to use among all streams. A stream of digital silence is used if there is no other."""
        order = stream_order(named_streams(source, self._wanted), self._language)
        if len(source.streams.audio) == 1:
            return order[0].index
        used = order[0]
        if len(order) > 1:
            used = next((stream for stream in order if not self._is_silent(stream.index)), used)
        self.number = [stream.index for stream in source.streams.audio].index(used.index) + 1
        self.stream, note = taken(source, used, self._wanted, self._language)
        self._notes.append(note)
        return used.index

    def _is_silent(self, number: int) -> bool:
        with self._opened(Part(((0, len(self._data)),))) as source:
            for frame in _frames(source, source.streams[number]):  # type: ignore[arg-type]
                if not np.abs(floats(frame)).max() < SILENCE_PEAK:
                    return False
        return True

    def _part(self, source: InputContainer, number: int, layout: Layout) -> Iterator[np.ndarray]:
        line, stream = self._line, source.streams[number]
        assert isinstance(stream, av.AudioStream)
        timed = source.format.name.split(",")[0] in TIMED
        line.begin_part()
        begun, last = line.seconds, 0.0
        for frame in _frames(source, stream):
            if not line.rate and timed and frame.pts is not None and frame.time_base is not None:
                time = frame.pts * frame.time_base
                self.zero = min(time, self._zero(source, layout))
                self.start = begun = time - self.zero
            line.add(frame, self.start, timed=timed)
            last = frame.samples / frame.sample_rate
            yield from line.pieces()
        declared = _declared(source, number)
        if declared is None or not last:
            return
        self._check_end(declared, line.seconds - begun, layout)
        excess = line.seconds - begun - declared
        if 0 < excess < last:  # encoders fill up their last frame with silence
            line.shorten(excess)

    def _zero(self, source: InputContainer, layout: Layout) -> Fraction:
        if not pictures(source) or source.format.name.startswith("mov"):
            return file_zero(source)
        with self._opened(layout.parts[0]) as again:
            return file_zero_by_packets(again)

    def _check_end(self, declared: Fraction, length: Fraction, layout: Layout) -> None:
        if declared - length > max(layout.allowed, layout.share * declared):
            raise ClipError(
                "audio_truncated",
                f"the file ends after {float(length):.2f} s, but its header declares {float(declared):.2f} s: upload "
                "it again",
            )

    def _check_declared(self, declared: Fraction | None, layout: Layout) -> None:
        if declared is not None and declared > self._max_seconds:
            raise ClipError(
                "audio_too_long",
                f"{float(declared) / 60:.3g} min of audio is more than limits.max_audio_minutes = "
                f"{self._max_seconds / 60:g}: split the file, or raise the limit",
            )
        if layout.problem:
            raise ClipError("audio_truncated", f"{layout.problem}: upload it again")

    def _check(self, piece: np.ndarray, at: int) -> None:
        most = max(float(piece.max()), -float(piece.min()))
        self.peak = max(self.peak, most)
        if most <= LOUDEST:
            return
        peaks = np.abs(piece).max(axis=0)
        if not np.isfinite(most):
            first = np.flatnonzero(~np.isfinite(peaks))[0]
            raise ClipError(
                "audio_not_finite",
                f"the audio contains NaN or infinite samples at about {(at + first) / self.rate:.2f} s: export it "
                "again",
            )
        first = np.flatnonzero(peaks > LOUDEST)[0]
        raise ClipError(
            "audio_too_loud",
            f"a sample at about {(at + first) / self.rate:.2f} s is {20 * np.log10(most):.0f} dB above full scale, and "
            "no recording is more than 18 dB above it: the samples were probably written in the scale of integers; "
            "export the audio with 16 or 24 bits",
        )


def _declared(source: InputContainer, number: int) -> Fraction | None:
    """Length of a stream according to an index of all its samples, which MP4 and MOV have."""
    stream = source.streams[number]
    if source.format.name.split(",")[0] != "mov" or stream.duration is None or stream.time_base is None:
        return None
    return stream.duration * stream.time_base


def _frames(source: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The decoded frames. Corrupt data inside is an error, because it would be audible; the end may be cut short."""
    seconds, broken, waiting = 0.0, False, 0
    for packet in source.demux(stream):
        waiting += 1
        if waiting > MOST_PACKETS_WITHOUT_FRAME:
            raise ClipError(
                "audio_unreadable",
                f"{waiting} packets after {seconds:.2f} s contain no sound, which is not what a recording looks like: "
                "export it again",
            )
        try:
            frames = packet.decode()
        except av.FFmpegError:
            broken = True
            continue
        for frame in frames:
            waiting = 0
            if broken and packet.size:
                raise ClipError(
                    "audio_unreadable",
                    f"the audio is damaged at about {seconds:.2f} s: export the file again, or upload it again",
                )
            if frame.samples:
                seconds += frame.samples / frame.sample_rate
                tell_decoded(frame.samples / frame.sample_rate)
                yield frame
    if broken and not seconds:
        raise ClipError("audio_unreadable", f"the file cannot be read as audio: {UNREADABLE}")
