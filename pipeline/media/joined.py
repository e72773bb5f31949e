"""Delivered files one after another in one file: pictures are copied packet by packet, and the sound is written anew.

The sound of each piece begins with its first frame and ends with its last one, to the sample. PCM stays bit for bit
what it was. AAC cannot be cut to the sample without encoding it, so it is decoded and encoded once more.
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
from pipeline.media.mp4 import muxer_options
from pipeline.media.presets import CONTAINERS, PRESETS, FileFormat
from pipeline.media.sound_output import TrackTags, open_sound
from pipeline.media.sound_reader import SoundReader
from pipeline.media.sound_writer import SoundWriter


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


def format_of(path: Path, preset: str) -> FileFormat:
    """The format of a delivered file. Raises RefusedError for one that is none."""
    container = next((one for one in CONTAINERS.values() if one.suffix == path.suffix), None)
    with av.open(path, "r") as file:
        sound = file.streams.audio[0].codec_context.name if file.streams.audio else ""
    kind = {"aac": "aac", "pcm_s24le": "pcm"}.get(sound)
    if container is None or kind is None or preset not in PRESETS:
        raise RefusedError(
            f"{path.name} is not a delivered file: its preset is {preset}, its sound {sound or 'missing'}"
        )
    return FileFormat(PRESETS[preset], container, kind)


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
        video, sound = file.streams.video[0], file.streams.audio[0]
        context = video.codec_context
        return {
            "container": path.suffix,
            "video codec": f"{context.name} {video.profile}",
            "size": f"{context.width} x {context.height}",
            "frame rate": str(frame_rate(video)),
            "pixel format": str(context.pix_fmt),
            "sound": f"{sound.codec_context.name}, {sound.rate} Hz, {sound.layout.name}",
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
            out = file.add_stream_from_template(video)
            out.time_base = video.time_base
        track = open_sound(source, file, form.sound, TrackTags(language))
        for piece in pieces:
            _copy(piece, file, out, fps)
            track.up_to((piece.frame + piece.frames) / fps)
        last = pieces[-1]
        track.close((last.frame + last.frames) / fps)


def _copy(piece: Piece, file: OutputContainer, out: Any, fps: Fraction) -> None:
    """Copy the pictures of a piece to their place."""
    with av.open(piece.path, "r") as source:
        stream, count = source.streams.video[0], 0
        tick = stream.time_base
        assert tick is not None
        shift = piece.frame / fps / tick
        if shift.denominator != 1:
            raise RefusedError(f"{piece.name} has a clock of {tick} s, in which a frame of {1 / fps} s has no place")
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or not packet.size:
                continue
            packet.pts, packet.dts = packet.pts + int(shift), packet.dts + int(shift)
            packet.stream = out
            file.mux(packet)
            count += 1
    if count != piece.frames:
        raise RefusedError(f"{piece.name} has {count} frames instead of {piece.frames}: render it again")


class _Joined:
    """The sound of all pieces, as a reader of a single one has it."""

    def __init__(self, pieces: Sequence[Piece], fps: Fraction) -> None:
        self._pieces, self._fps = pieces, fps
        with av.open(pieces[0].path, "r") as file:
            stream = file.streams.audio[0]
            self.rate, self.channels, self.layout = stream.rate, stream.channels, stream.layout.name

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels,samples) float32."""
        for piece in self._pieces:
            start, end = (round(frame / self._fps * self.rate) for frame in (piece.frame, piece.frame + piece.frames))
            missing = end - start
            with piece.path.open("rb") as file:
                for part in SoundReader(file).pieces():
                    part = part[:, :missing]
                    missing -= part.shape[1]
                    if part.shape[1]:
                        yield part
            if missing:
                yield np.zeros((self.channels, missing), np.float32)


def _joined_sound(pieces: Sequence[Piece], fps: Fraction, kbps: int | None) -> bytes:
    """The sound of all pieces, as `load_audio` returns that of one."""
    joined = _Joined(pieces, fps)
    writer = SoundWriter(joined, kbps)
    for part in joined.pieces():
        writer.write(part)
    return writer.close()
