"""What each container says of its length, and whether its bytes are all there.

| container | length | how missing bytes are found |
|---|---|---|
| WAV, RF64, Wave64 | `wav_parts` | sizes in the header |
| MP3, ADTS AAC | `mpeg_frames` | number of frames in an Info, Xing or VBRI frame, if there is one |
| AIFF | frames in COMM | sizes in the header |
| FLAC | samples in STREAMINFO | that number, unless it is 0 (written into a pipe) |
| MP4, MOV | the index | the index, and the sizes of the boxes |
| Matroska, WebM | Duration of a file with audio only | size of the Segment; Duration if the size is unknown (live) |
| Ogg | - | the last page is complete; whether it is marked as the last one |

FFmpeg's own estimate from a bit rate is never used: it is wrong by any factor where the bit rate varies.
"""

import struct
from fractions import Fraction

from av.container import InputContainer

from pipeline.common.errors import ClipError
from pipeline.media.mpeg_frames import frames_layout
from pipeline.media.sound_parts import Bytes, Layout, Part, whole
from pipeline.media.wav_parts import is_wav, wav_layout, wave64_layout
from pipeline.media.whole_file import Segment, boxes, segments

STEPS = 1_000_000
"""Most pages or chunks that are followed."""


def layout_of(data: Bytes, source: InputContainer) -> Layout:
    """Look at the bytes of a file that FFmpeg has opened, without decoding.

    Raises ClipError: audio_truncated, audio_unreadable.
    """
    name = source.format.name.split(",")[0]
    layout: Layout | None = None
    if isinstance(data, bytes):  # files that are read from a disk are films
        if name == "wav" and is_wav(data):
            layout = wav_layout(data)
        elif name == "w64":
            layout = wave64_layout(data)
        elif name in ("mp3", "aac"):
            layout = frames_layout(data, name)
        elif name == "ogg":
            layout = _ogg(data)
        elif name == "aiff":
            layout = _aiff(data)
        elif name == "flac":
            layout = _flac(data)
    if name == "mov":
        layout = _mov(data)
    elif name == "matroska":
        layout = _matroska(data, not source.streams.video)
    return layout or Layout(whole(data))


def _mov(data: Bytes) -> Layout:
    stop, fragments, indexed, starts = 0, False, False, [0]
    for box in boxes(data):
        if box.name == b"ftyp" and indexed and stop == box.at:  # another file behind the first one
            starts.append(box.at)
            indexed = False
        indexed = indexed or box.name == b"moov"
        fragments = fragments or box.name == b"moof"  # there is no index of all samples then
        stop = box.stop
    parts = tuple(Part((span,)) for span in zip(starts, [*starts[1:], len(data)], strict=True))
    if stop <= len(data):  # an index may be a little longer than the samples that it refers to
        return Layout(parts, allowed=Fraction(1, 2), share=Fraction(1, 50))
    text = f"the file has {len(data):,} bytes, but its header declares {stop:,} bytes"
    return Layout(parts, problem=text if fragments else "")


def _matroska(data: Bytes, only_sound: bool) -> Layout:
    found = list(segments(data)) or [Segment(0, 0, True)]
    last = found[-1]
    stops = [*(segment.stop for segment in found[:-1]), len(data)]
    parts = tuple(Part(((segment.at, stop),)) for segment, stop in zip(found, stops, strict=True))
    if last.known and last.stop <= len(data):
        return Layout(parts)
    seconds = _duration(data) if len(parts) == 1 and only_sound else None
    if seconds is not None or not last.known:
        return Layout(parts, seconds)
    text = f"the file has {len(data):,} bytes, but its header declares {last.stop:,} bytes"
    return Layout(parts, problem=text)


def _duration(data: Bytes) -> Fraction | None:
    """Duration in the element Info, near the start of the file."""
    head = data[:8192]
    scale, unit = head.find(b"\x2a\xd7\xb1"), 1_000_000
    if 0 <= scale < len(head) - 12:
        width = head[scale + 3] & 0x0F
        unit = int.from_bytes(head[scale + 4 : scale + 4 + width], "big")
    for mark, form in ((b"\x44\x89\x84", ">f"), (b"\x44\x89\x88", ">d")):
        at = head.find(mark)
        if 0 <= at < len(head) - 11:
            value = struct.unpack_from(form, head, at + 3)[0]
            if 0 < value < 1e15:
                return Fraction(value) * unit / 10**9
    return None


def _ogg(data: bytes) -> Layout:
    """Pages: OggS, flags (2 for the first page of a stream, 4 for the last), and a table of the sizes."""
    at, start, parts, begun, flags = 0, 0, [], False, 0
    for _ in range(STEPS):
        found = data.find(b"OggS", at)
        if found < 0 or found + 27 > len(data):
            break
        at, count = found, data[found + 26]
        size = 27 + count + sum(data[at + 27 : at + 27 + count])
        flags = data[at + 5]
        if flags & 2 and begun:  # another stream behind the first ones
            parts.append(Part(((start, at),)))
            start = at
        begun = not flags & 2
        at += size
        if at > len(data):
            return Layout(whole(data), None, "the file ends inside a page")
    parts.append(Part(((start, len(data)),)))
    unsure = "" if flags & 4 else "no page is marked as its last one"
    return Layout(tuple(parts), None, "", unsure)


def _aiff(data: bytes) -> Layout:
    """Chunks as in RIFF, but big-endian."""
    stop = 8 + int.from_bytes(data[4:8], "big")
    at, seconds = 12, None
    for _ in range(STEPS):
        if at + 8 > len(data):
            break
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if name == b"COMM" and size >= 18:
            frames = int.from_bytes(data[at + 10 : at + 14], "big")
            exponent, mantissa = struct.unpack_from(">HQ", data, at + 16)  # an 80-bit float
            rate = Fraction(mantissa) * Fraction(2) ** ((exponent & 0x7FFF) - 16383 - 63)
            seconds = frames / rate if frames and rate >= 1 else None
        at += 8 + size + size % 2
    if stop < len(data) and data[stop : stop + 4] == b"FORM" and data[stop + 8 : stop + 11] == b"AIF":
        text = "several AIFF files were written one after the other: export them as one file"
        raise ClipError("audio_unreadable", text)
    if seconds is not None and at > len(data) + 64:
        problem = f"the file has {len(data):,} bytes, but its header declares {at:,} bytes"
        return Layout(whole(data), seconds, problem)
    return Layout(whole(data), seconds)


def _flac(data: bytes) -> Layout:
    """STREAMINFO is the first block of 34 bytes: the rate has 20 bits, and 36 bits are the number of samples."""
    starts, at = [], -1
    while (at := data.find(b"fLaC\0\0\0\x22", at + 1)) >= 0:
        starts.append(at)
    starts = starts or [0]  # an older file may have other blocks first
    total, known = Fraction(0), True
    for at in starts:
        packed = int.from_bytes(data[at + 18 : at + 26], "big")
        rate, samples = packed >> 44, packed & ((1 << 36) - 1)
        known = known and rate > 0 and samples > 0
        total += Fraction(samples, rate) if known else 0
    stops = [*starts[1:], len(data)]
    parts = [Part(((start, stop),)) for start, stop in zip([0, *starts[1:]], stops, strict=True)]
    return Layout(tuple(parts), total if known else None)
