"""Which audio stream of a file is used, and when the file begins."""

from collections.abc import Sequence
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

FLAGS = {
    Disposition.default: "default",
    Disposition.comment: "commentary",
    Disposition.hearing_impaired: "for hearing impaired",
    Disposition.visual_impaired: "for visually impaired",
    Disposition.karaoke: "karaoke",
}
ASIDE = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.karaoke
"""Flags of streams that are not the film's own audio."""
LANGUAGES = {
    **{"ar": "ara", "cs": "ces cze", "da": "dan", "de": "deu ger", "el": "ell gre", "en": "eng", "es": "spa"},
    **{"fi": "fin", "fr": "fra fre", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn"},
    **{"ko": "kor", "nb": "nob nor", "nl": "nld dut", "no": "nor", "pl": "pol", "pt": "por", "ro": "ron rum"},
    **{"ru": "rus", "sv": "swe", "th": "tha", "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "zho chi"},
}
"""Codes of two letters -> those of three letters that containers use (ISO 639-1 and 639-2)."""
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


def stream_order(container: InputContainer, language: str | None = None) -> list[av.AudioStream]:
    """The audio streams, the one to use first: not a commentary, the language, the default flag, the first."""

    def rank(stream: av.AudioStream) -> tuple[bool, bool, bool, int]:
        flags = stream.disposition
        spoken = language is not None and _same_language(language, stream.language or "")
        return bool(flags & ASIDE), not spoken, not flags & Disposition.default, stream.index

    return sorted(container.streams.audio, key=rank)


def described(number: int, stream: av.AudioStream) -> str:
    """How a note names a stream: its number among the audio streams from 1, its language and its flags."""
    flags = stream.disposition
    words = [stream.language] if stream.language and stream.language != "und" else []
    words += [name for flag, name in FLAGS.items() if flags & flag]
    return f"number {number}" + (f" ({', '.join(words)})" if words else "")


def choice(container: InputContainer, used: av.AudioStream, language: str | None) -> tuple[str, str]:
    """(`described` for the stream that is used, why not the one that would be without a `language` and silence)."""
    place = {stream.index: number for number, stream in enumerate(container.streams.audio, 1)}
    best, usual = stream_order(container, language)[0], stream_order(container)[0]
    why = ""
    if used.index != best.index:
        why = f", because {described(place[best.index], best)} is silent"
    elif used.index != usual.index:
        why = f", because of language={language}"
    return described(place[used.index], used), why


def _same_language(wanted: str, found: str) -> bool:
    """Whether a stream's language (ISO 639, two or three letters) is that of a tag such as pt-BR."""
    short = wanted.lower().partition("-")[0]
    return found.lower().partition("-")[0] in (short, *LANGUAGES.get(short, "").split())
