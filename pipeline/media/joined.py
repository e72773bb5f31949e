"""Delivered files one after another in one file: pictures are copied packet by packet, and the sound is written anew.

The sound of each piece begins with its first frame and ends with its last one, to the sample. PCM stays bit for bit
what it was. Other codecs cannot be cut to the sample without encoding them, so they are decoded and become AAC; so does
PCM beside them. Sounds of several rates become the highest one, and mono beside stereo becomes stereo.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from pipeline.common.errors import RefusedError
from pipeline.media.file_faults import frame_rate
from pipeline.media.mono import as_frame
from pipeline.media.mp4 import muxer_options
from pipeline.media.presets import CONTAINERS, MP4, PRESETS, FileFormat
from pipeline.media.sound_output import TrackTags, open_sound
from pipeline.media.sound_reader import CONTAINERS as READABLE
from pipeline.media.sound_reader import SoundReader
from pipeline.media.sound_writer import SoundWriter

CHANNELS = 2
"""The most that the sound of a joined file has."""


@dataclass(frozen=True)
class Piece:
    """A delivered file, and where it is in the joined one."""

    name: str
    """What it is called in messages."""
    path: Path
    frame: int
    """Number of its first frame in the joined file."""
    frames: int
    """Number of its frames."""


def format_of(pieces: Sequence[Piece], preset: str) -> FileFormat:
    """The format of the file that delivered ones of a preset are joined to: with PCM if all of them have that.

    Raises RefusedError for what no preset delivers, and for more channels than a joined file has.
    """
    container = next((one for one in CONTAINERS.values() if one.suffix == pieces[0].path.suffix), None)
    if container is None or preset not in PRESETS:
        raise RefusedError(f"{pieces[0].name} is not a delivered file: its preset is {preset}")
    codecs = set()
    for piece in pieces:
        with av.open(piece.path, "r") as file:
            sound = file.streams.audio[0].codec_context
            codecs.add(sound.codec.canonical_name)
            if sound.channels > CHANNELS:
                raise RefusedError(
                    f"{piece.name} has sound of {sound.channels} channels, and a joined file has {CHANNELS} at most: "
                    "render with video.audio=pcm or aac, or join the files in your own editor"
                )
    lossless = container != MP4 and all(codec.startswith("pcm_") for codec in codecs)
    return FileFormat(PRESETS[preset], container, "pcm" if lossless else "aac")


def check_alike(pieces: Sequence[Piece]) -> None:
    """Raise RefusedError if the files differ in what all of a file has in common, with the first one that does."""
    first: dict[str, Any] = {}
    for piece in pieces:
        found = _traits(piece.path)
        for name, value in found.items():
            if value != (wanted := first.setdefault(name, value)):
                told = ": render them with the same settings" if isinstance(value, bytes) else f" ({value}, {wanted})"
                raise RefusedError(
                    f"{piece.name} cannot be joined to {pieces[0].name} without encoding the pictures again, because "
                    f"their {name} differs{told}"
                )


def _traits(path: Path) -> dict[str, Any]:
    with av.open(path, "r") as file:
        if len(file.streams.audio) != 1:
            raise RefusedError(
                f"{path.name} has {len(file.streams.audio)} audio tracks: only files with one can be joined, so join "
                "the further tracks in your own editor"
            )
        video = file.streams.video[0]
        context = video.codec_context
        return {
            "container": path.suffix,
            "video codec": f"{context.name} {video.profile}",
            "size": f"{context.width} x {context.height}",
            "frame rate": str(frame_rate(video)),
            "pixel format": str(context.pix_fmt),
            "coding of the pictures": bytes(context.extradata or b""),
        }


def join_videos(
    pieces: Sequence[Piece],
    path: Path,
    *,
    form: FileFormat,
    fps: Fraction,
    tags: dict[str, str],
    language: str | None,
    kbps: int,
) -> None:
    """Write one file of all pieces, which follow one another without a gap and are alike (`check_alike`).

    `tags`, `language` and `kbps` are as for a single clip. Raises RefusedError for a piece that is cut off.
    """
    sound = io.BytesIO(_joined_sound(pieces, fps, None if form.sound == "pcm" else kbps))
    with (
        av.open(sound, "r") as source,
        av.open(path, "w", format=form.container.muxer, options=muxer_options(form, fps)) as file,
    ):
        file.metadata.update(tags)
        with av.open(pieces[0].path, "r") as template:
            video = template.streams.video[0]
            out = file.add_stream_from_template(video, opaque=True)  # there need not be an encoder
            out.time_base = video.time_base
            out.codec_context.framerate = fps  # the time code and MXF need it
            out.codec_context.codec_tag = video.codec_context.codec_tag
        track = open_sound(source, file, form.sound, TrackTags(language))
        delay = _delay(pieces, fps)
        for piece in pieces:
            _copy(piece, file, out, fps, delay)
            track.up_to((piece.frame + piece.frames) / fps)
        last = pieces[-1]
        track.close((last.frame + last.frames) / fps)


def _delay(pieces: Sequence[Piece], fps: Fraction) -> int:
    """The number of frames by which decoding runs ahead: the most that any piece needs for its order of frames."""
    found = 0
    for piece in pieces:
        with av.open(piece.path, "r") as source:
            packet = next(source.demux(source.streams.video[0]))
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                found = max(found, round((packet.pts - packet.dts) * packet.time_base * fps))
    return found


def _copy(piece: Piece, file: OutputContainer, out: Any, fps: Fraction, delay: int) -> None:
    """Copy the pictures of a piece to their place.

    Their decoding times are new ones, a frame apart: those of pieces whose frames are reordered differently overlap.
    """
    with av.open(piece.path, "r") as source:
        stream, count = source.streams.video[0], 0
        tick = stream.time_base
        assert tick is not None
        step = 1 / fps / tick
        if step.denominator != 1:
            raise RefusedError(f"{piece.name} has a clock of {tick} s, in which a frame of {1 / fps} s has no place")
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or not packet.size:
                continue
            packet.pts += int(step) * piece.frame
            packet.dts = int(step) * (piece.frame + count - delay)
            packet.stream = out
            file.mux(packet)
            count += 1
    if count != piece.frames:
        raise RefusedError(f"{piece.name} has {count} frames instead of {piece.frames}: render it again")


class _Joined:
    """The sound of all pieces, as a reader of a single one has it."""

    def __init__(self, pieces: Sequence[Piece], fps: Fraction) -> None:
        self._pieces, self._fps = pieces, fps
        self.rate, self.channels = 0, 0
        for piece in pieces:
            with av.open(piece.path, "r") as file:
                stream = file.streams.audio[0]
                self.rate, self.channels = max(self.rate, stream.rate), max(self.channels, stream.channels)
        self.layout = "mono" if self.channels == 1 else "stereo"

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels,samples) float32."""
        for piece in self._pieces:
            start, end = (round(frame / self._fps * self.rate) for frame in (piece.frame, piece.frame + piece.frames))
            missing = end - start
            with piece.path.open("rb") as file:
                for part in self._alike(SoundReader(file, containers=f"{READABLE},mxf")):
                    part = part[:, :missing]
                    missing -= part.shape[1]
                    if part.shape[1]:
                        yield part
            if missing:
                yield np.zeros((self.channels, missing), np.float32)

    def _alike(self, reader: SoundReader) -> Iterator[np.ndarray]:
        """The pieces of a reader at the rate and with the channels of all."""
        resampler: av.AudioResampler | None = None
        for part in reader.pieces():
            part = np.repeat(part, self.channels, axis=0) if reader.channels < self.channels else part
            if reader.rate == self.rate:
                yield part
                continue
            resampler = resampler or av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
            yield from (out.to_ndarray() for out in resampler.resample(as_frame(part, reader.rate, self.layout)))
        if resampler is not None:
            yield from (out.to_ndarray() for out in resampler.resample(None))


def _joined_sound(pieces: Sequence[Piece], fps: Fraction, kbps: int | None) -> bytes:
    """The sound of all pieces, as `load_audio` returns that of one."""
    joined = _Joined(pieces, fps)
    writer = SoundWriter(joined, kbps)
    for part in joined.pieces():
        writer.write(part)
    return writer.close()
