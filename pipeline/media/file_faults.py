"""What a finished file has that its preset has not: codec, profile, pixels, colours, sound, container, edit lists."""

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.media.h264 import LEVEL
from pipeline.media.languages import track_language
from pipeline.media.presets import BT709, LIMITED_RANGE, MXF, PCM_RATE, FileFormat
from pipeline.media.sound_output import UNTITLED, TrackTags


def frame_rate(video: VideoStream) -> Fraction | None:
    """The exact frame rate. Of some codecs in MXF, FFmpeg only tells the length of a frame."""
    if video.average_rate is None and video.time_base is not None:
        return 1 / video.time_base
    return video.average_rate


def timecode_of(file: InputContainer) -> str | None:
    """Time code of the first frame; None if the file has none. An MXF always has one."""
    return file.metadata.get("timecode") or file.streams.video[0].metadata.get("timecode")


def format_faults(file: InputContainer, form: FileFormat, size: tuple[int, int] | None = None) -> list[str]:
    """What differs from a format, in words; `size` is the expected width and height. It decodes the first frame."""
    faults: list[str] = []

    def expect(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            faults.append(f"{what} is {found} instead of {wanted}")

    preset = form.preset
    names = file.format.name.split(",")
    if form.container.muxer not in names:
        faults.append(f"container is {names[0]} instead of {form.container.muxer}")
    brand = file.metadata.get("major_brand", "").strip()
    if form.container != MXF and "mp4" in names and (brand == "qt") != (form.container.muxer == "mov"):
        faults.append(f"container is {'mov' if brand == 'qt' else 'mp4'} instead of {form.container.muxer}")
    stream = file.streams.video[0]
    video = stream.codec_context
    codec = video.codec.canonical_name
    expect("video codec", codec, preset.codec)
    if codec == preset.codec and preset.profiles and stream.profile not in preset.profiles:
        faults.append(f"profile is {stream.profile} instead of {_listed(preset.profiles)}")
    if codec == "h264" and preset.codec == "h264" and not 0 < video.level <= LEVEL:
        faults.append(f"level is {video.level / 10} instead of at most {LEVEL / 10}")
    if preset.tag and form.container != MXF and codec == preset.codec:
        expect("codec tag", video.codec_tag, preset.tag)
    frame = next(iter(file.decode(stream)), None)
    if frame is not None:
        expect("pixel format", frame.format.name, preset.decoded_format)
        if frame.interlaced_frame:
            faults.append("pictures are interlaced instead of progressive")
        if size is not None:
            expect("size", (frame.width, frame.height), size)
        expect("colour matrix", int(frame.colorspace), BT709)
        expect("colour range", int(frame.color_range), LIMITED_RANGE)
        if preset.name != "web":
            expect("colour primaries", int(frame.color_primaries), BT709)
            expect("transfer function", int(frame.color_trc), BT709)
    for sound in file.streams.audio:
        if (found := sound.codec_context.codec.canonical_name) not in form.sound_codecs:
            faults.append(f"audio codec is {found} instead of {_listed(form.sound_codecs)}")
        if form.sound == "pcm" or form.container == MXF:
            expect("sample rate", sound.rate, PCM_RATE)
    return faults


def track_faults(file: InputContainer, form: FileFormat, tracks: Sequence[TrackTags | None]) -> list[str]:
    """What differs from the wanted audio tracks, in words: number, languages, titles, and which one is the default.

    None stands for a track of which only the default flag is known: that of no other track is the default.
    """
    found = file.streams.audio
    if len(found) != len(tracks):
        return [f"number of audio tracks is {len(found)} instead of {len(tracks)}"]
    if form.container == MXF:  # FFmpeg writes none of this there
        return []
    faults = []
    first = next((number for number, tags in enumerate(tracks) if tags is not None and tags.default), 0)
    for number, (stream, tags) in enumerate(zip(found, tracks, strict=True)):
        facts: list[tuple[str, object, object]] = [
            ("default flag", bool(stream.disposition & Disposition.default), number == first)
        ]
        if tags is not None:
            facts.append(("language", stream.language, track_language(tags.language, form.container.muxer)))
            facts.append(("title", stream.metadata.get("handler_name"), tags.title or UNTITLED))
        faults += [
            f"{what} of audio track {number + 1} is {now or 'missing'} instead of {wanted or 'none'}"
            for what, now, wanted in facts
            if now != wanted
        ]
    return faults


def edit_faults(path: Path, form: FileFormat, seconds: Fraction) -> list[str]:
    """What is wrong with the edit lists of an MP4 or MOV, in words; `seconds` is the length of the pictures.

    Each track may have one edit, which shows all of it at its own speed: editors read others in different ways.
    """
    if form.container == MXF:
        return []
    faults = []
    with path.open("rb") as file:
        for number, (kind, clock, edits) in enumerate(_tracks(file), 1):
            where = f"edit list of track {number}"
            if len(edits) > 1:
                faults.append(f"{where} has {len(edits)} edits instead of 1")
            for length, start, rate in edits[:1]:
                if start < 0:
                    faults.append(f"{where} begins with an empty edit")
                if rate != 1:
                    faults.append(f"{where} changes the speed to {float(rate):g}")
                if kind == b"vide" and abs(length - seconds * clock) > 1:
                    faults.append(f"{where} shows {length / clock:.3f} s instead of {float(seconds):.3f} s")
    return faults


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


# --- Boxes of ISO/IEC 14496-12 ---------------------------------------------------------------------------------

Edit = tuple[int, int, Fraction]
"""Length in ticks of the file's clock, first time of the track (-1: nothing is shown), and speed."""


def _tracks(file: BinaryIO) -> Iterator[tuple[bytes, int, list[Edit]]]:
    """The kind (`vide`, `soun` ...) of each track, ticks per second of the file's clock, and the track's edits."""
    movie = next((body for name, body in _boxes(file) if name == b"moov"), b"")
    inside = list(_boxes(io.BytesIO(movie)))
    header = next((body for name, body in inside if name == b"mvhd"), b"")
    if not header:
        return
    clock = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0]
    for track in (body for name, body in inside if name == b"trak"):
        parts = dict(_boxes(io.BytesIO(track)))
        media = dict(_boxes(io.BytesIO(parts.get(b"mdia", b""))))
        lists = dict(_boxes(io.BytesIO(parts.get(b"edts", b""))))
        yield media.get(b"hdlr", bytes(12))[8:12], clock, _edits(lists.get(b"elst", b""))


def _edits(body: bytes) -> list[Edit]:
    if len(body) < 8:
        return []
    form = ">QqI" if body[0] == 1 else ">IiI"
    count = struct.unpack_from(">I", body, 4)[0]
    step = struct.calcsize(form)
    found = (struct.unpack_from(form, body, 8 + i * step) for i in range(min(count, (len(body) - 8) // step)))
    return [(length, start, Fraction(rate, 65536)) for length, start, rate in found]


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each box on one level. The body of `mdat`, which holds the media, is left out."""
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        rest = size - 8
        if size == 1:
            rest = struct.unpack(">Q", file.read(8))[0] - 16
        if size == 0 or rest < 0:  # up to the end of the file, or damaged
            return
        if name == b"mdat":
            file.seek(rest, io.SEEK_CUR)
            yield name, b""
        else:
            yield name, file.read(rest)
