"""The one way in which files of other people are opened as sound or video.

FFmpeg gets bytes or an open file, a list of containers and decoders, and no protocol, so that whatever a container
refers to, no other file and no network address is opened. Text in an old encoding does not matter for sound and
pictures. What a file claims to have is bounded here; what it has is bounded by the readers while they decode.
"""

import contextlib
from collections.abc import Iterator, Mapping
from io import RawIOBase
from typing import BinaryIO

import av
from av.container import InputContainer

MOST_STREAMS = 64
MOST_METADATA = 1_000_000
"""Characters of all titles, comments and so on together."""
MOST_PACKETS_WITHOUT_FRAME = 600
"""An encoder's delay is below 100 frames."""


class UnusableError(Exception):
    """A file that is not even looked at; the message says what was found and what to do."""


def decoders(kind: str) -> str:
    """FFmpeg's list of all decoders of `audio` or `video`."""
    names = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(av.codec.codec.UnknownCodecError):  # only an encoder exists
            if av.Codec(name, "r").type == kind:
                names.append(name)
    return ",".join(names)


@contextlib.contextmanager
def open_untrusted(
    file: BinaryIO | RawIOBase,
    containers: str,
    codecs: str,
    options: Mapping[str, str] | None = None,
    form: str | None = None,
) -> Iterator[InputContainer]:
    """Open a file as one of the `containers`, of which only the `codecs` may be decoded (FFmpeg's lists).

    `options` are those of a demuxer, and `form` is the name of a container where it is known. Raises UnusableError, and
    av.FFmpegError or ValueError for what FFmpeg does not open.
    """
    bounds = {"format_whitelist": containers, "protocol_whitelist": "none", "codec_whitelist": codecs}
    with av.open(file, "r", form, options={**(options or {}), **bounds}, metadata_errors="replace") as source:
        if len(source.streams) > MOST_STREAMS:
            raise UnusableError(f"the file has {len(source.streams)} streams: export it with one video or one sound")
        texts = [source.metadata, *(stream.metadata for stream in source.streams)]
        length = sum(len(name) + len(value) for one in texts for name, value in one.items())
        if length > MOST_METADATA:
            raise UnusableError(f"the file has {length:,} characters of titles and comments: export it without them")
        yield source
