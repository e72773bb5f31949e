"""Which audio stream of a file is used, and when the file begins."""

import re
from collections.abc import Sequence
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from pipeline.common.errors import ClipError
from pipeline.common.notes import Note
from pipeline.media.languages import UNKNOWN, same_language

FLAGS = {
    Disposition.default: "default",
    Disposition.comment: "commentary",
    Disposition.hearing_impaired: "for hearing impaired",
    Disposition.visual_impaired: "for visually impaired",
    Disposition.karaoke: "karaoke",
}
ASIDE = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.karaoke
"""Flags of streams that are not the film's own audio."""
TAG = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
"""The form of a language tag of BCP 47."""
FIRST_PACKETS = 32
"""Packets among which the first picture is: frames are stored at most 16 places away from their order."""


def file_zero(container: InputContainer) -> Fraction:
    """Time 0 of a film or an audio file, in seconds of its own clock: the earliest start of its video and audio
    streams, without covers.

    Where the container has no index, FFmpeg only knows the start of streams that it may decode.
    """
    return min(_starts([*pictures(container), *container.streams.audio]), default=Fraction(0))


def file_zero_by_packets(container: InputContainer) -> Fraction:
    """The same where no video may be decoded, from the first packets. The container is of no use afterwards."""
    times, films = _starts(list(container.streams.audio)), pictures(container)
    for number, packet in enumerate(container.demux(films) if films else []):
        if packet.pts is not None and packet.time_base is not None and not packet.is_discard:
            times.append(packet.pts * packet.time_base)
        if number == FIRST_PACKETS:
            break
    return min(times, default=Fraction(0))


def pictures(container: InputContainer) -> list[av.VideoStream]:
    """Video streams that are no covers."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _starts(streams: Sequence[Stream]) -> list[Fraction]:
    return [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base is not None]


def named_streams(container: InputContainer, wanted: str | None) -> list[av.AudioStream]:
    """The audio streams that a row's `audio_stream` names: a number from 1, or a tag of BCP 47; all for None.

    A language names all streams of it, and `und` those without one. Raises ClipError audio_stream_not_there, which
    lists the streams that there are.
    """
    streams = list(container.streams.audio)
    if wanted is None:
        return streams
    if wanted.isdecimal():
        found = streams[int(wanted) - 1 : int(wanted)]
        missing = f"no audio stream number {wanted}"
    else:
        found = [stream for stream in streams if same_language(wanted, stream.language or UNKNOWN)]
        missing = f"no audio stream of the language {wanted}"
    if found:
        return found
    listed = ", ".join(described(number, stream, full=True) for number, stream in enumerate(streams, 1))
    raise ClipError(
        "audio_stream_not_there",
        f"the file has {missing}, but {listed}: name one of these in the column audio_stream, or leave it empty",
    )


def stream_order(streams: Sequence[av.AudioStream], language: str | None = None) -> list[av.AudioStream]:
    """Audio streams, the one to use first: not a commentary, the language, the default flag, the first."""

    def rank(stream: av.AudioStream) -> tuple[bool, bool, bool, int]:
        flags = stream.disposition
        return bool(flags & ASIDE), not _speaks(stream, language), not flags & Disposition.default, stream.index

    return sorted(streams, key=rank)


def described(number: int, stream: av.AudioStream, *, full: bool = False) -> str:
    """How a message names a stream: its number among the audio streams from 1, its language and its flags.

    With `full` it also has the channels, and says that there is no language.
    """
    flags = stream.disposition
    words = [stream.language] if stream.language and stream.language != UNKNOWN else ["no language"] if full else []
    words += [_channels(stream)] if full else []
    words += [name for flag, name in FLAGS.items() if flags & flag]
    return f"number {number}" + (f" ({', '.join(words)})" if words else "")


def taken(
    container: InputContainer, used: av.AudioStream, wanted: str | None, language: str | None
) -> tuple[str, Note]:
    """What is said about the stream `used` of a file with several: which it is and why, and a note.

    The reason is given if it is another one than would be used without `wanted`, `language` and silence. A person is
    asked to look if neither `wanted` nor `language` leaves a single stream.
    """
    place = {stream.index: number for number, stream in enumerate(container.streams.audio, 1)}
    named = named_streams(container, wanted)
    best, usual = stream_order(named, language)[0], stream_order(container.streams.audio)[0]
    reasons = [] if wanted is None else [f"because of audio_stream={wanted}"]
    if used.index != best.index:
        reasons.append(f"because {described(place[best.index], best)} is silent")
    elif wanted is None and used.index != usual.index:
        reasons.append(f"because of language={language}")
    which, why = described(place[used.index], used), "".join(f", {reason}" for reason in reasons)
    others = ", ".join(described(place[s.index], s) for s in container.streams.audio if s.index != used.index)
    text = f"the file has {len(place)} audio streams: {which} was used{why}; not used: {others}"
    spoken = [stream.index for stream in named if _speaks(stream, language) and not stream.disposition & ASIDE]
    if len(named) == 1 or spoken == [used.index]:
        return which + why, Note("audio_streams", text)
    advice = "; if another one is meant, name it in the column audio_stream"
    return which + why, Note("audio_streams_unchosen", text + advice)


def _speaks(stream: av.AudioStream, language: str | None) -> bool:
    return language is not None and same_language(language, stream.language or "")


def _channels(stream: av.AudioStream) -> str:
    """mono, stereo, 5.1 and so on, or how many channels there are where the file does not name them."""
    name, count = stream.layout.name, stream.channels
    return name if name and "channels" not in name else {1: "mono", 2: "stereo"}.get(count, f"{count} channels")
