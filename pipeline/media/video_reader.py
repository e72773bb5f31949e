"""Videos of other people, opened and decoded in one way: as training data, as driving videos, and to be measured.

Files are opened as all of other people's (`untrusted`). Pixels, minutes and frames are bounded, by the header and again
while decoding. Its own error texts are not passed on, because they tell a user nothing.
"""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

import av
from av.container import InputContainer
from av.stream import Disposition

from pipeline.common.child_main import tell_decoded
from pipeline.common.limits import Limits
from pipeline.common.redaction import redacted
from pipeline.media.frame_orientation import upright_size
from pipeline.media.image_format import found_format
from pipeline.media.sound_reader import CODECS
from pipeline.media.sound_streams import file_zero
from pipeline.media.untrusted import MOST_PACKETS_WITHOUT_FRAME, UnusableError, open_untrusted
from pipeline.media.whole_file import is_cut_short

CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,ogg"
DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video"),
    *("prores", "dnxhd", "mjpeg", "ffv1", "huffyuv", "ffvhuff", "rawvideo", "dvvideo", "theora", "h263"),
)
"""Allowed decoders of pictures."""
FORMATS = "MP4, MOV, MKV, WebM, AVI, MPEG-TS or Ogg with H.264, HEVC, VP8, VP9, AV1, MPEG-4 or ProRes"

PICTURES = {rb"\x89PNG": "PNG", rb"\xff\xd8\xff": "JPEG", rb"RIFF.{4}WEBP": "WebP"}
"""First bytes of what is a picture."""

HDR = (16, 18)
"""Transfer characteristics PQ and HLG (ITU-T H.273)."""

MOST_FRAMES_PER_SECOND = 240
"""On average over the longest allowed video."""
SHORTFALL = Fraction(1, 10)
"""Seconds that a file which is shorter than its header declares may lack at its end."""

Problem = Literal["unreadable", "cut_short", "too_many_pixels", "too_long"]


class VideoError(Exception):
    """A video that cannot be used. The message says what was found and what to do; readers give it a code of theirs."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(redacted(message))
        self.problem = problem


@dataclass(frozen=True, eq=False)
class VideoFile:
    """An open video, of which one stream of pictures is decoded."""

    container: InputContainer
    stream: av.VideoStream
    limits: Limits
    cut_short: bool
    """Whether the file has fewer bytes than its header declares."""

    @property
    def zero(self) -> Fraction:
        """Time stamp at which the film begins, in seconds: that of the first of its streams, as for its audio."""
        return file_zero(self.container)

    @property
    def seconds(self) -> Fraction:
        """Declared length of the pictures; 0 if it is unknown."""
        if self.stream.duration is not None and self.stream.time_base is not None:
            return self.stream.duration * self.stream.time_base
        return Fraction(self.container.duration or 0, av.time_base)

    def frames(self) -> Iterator[tuple[Fraction | None, av.VideoFrame]]:
        """(time stamp in seconds, frame) in the order in which they are shown; one frame is in memory at a time.

        Raises VideoError for damage, frames of too many pixels, and a film that lasts too long or ends too early.
        """
        first = end = None
        number = waiting = 0
        most = int(self.limits.max_audio_minutes * 60 * MOST_FRAMES_PER_SECOND) + MOST_FRAMES_PER_SECOND
        packets = self.container.demux(self.stream)
        while (found := self._next(packets, end)) is not None:
            waiting += 1
            for frame in found:
                waiting = 0
                number += 1
                time = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
                tell_decoded(float(time - end) if time is not None and end is not None else 0.0)
                if time is not None:
                    first = time if first is None else first
                    end = time + (frame.duration or 0) * (frame.time_base or 0)
                    check_seconds(float(time - first), self.limits)
                check_pixels(*upright_size(frame, self.stream.sample_aspect_ratio), self.limits)
                yield time, frame
            if waiting > MOST_PACKETS_WITHOUT_FRAME or number > most:
                raise VideoError(
                    "unreadable",
                    f"{number} frames were found in the first {number + waiting} packets, which is not what a video "
                    "looks like: export it again",
                )
        if not number:
            raise VideoError("unreadable", "the video stream contains no frames: export it again")
        if self.cut_short and end is not None and first is not None and self.seconds - (end - first) > SHORTFALL:
            raise VideoError(
                "cut_short",
                f"the file has fewer bytes than its header declares, and ends after {float(end - first):.2f} s: "
                "upload it again, because only a part of it is there",
            )

    def timed(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """The same, for who needs the times: a frame without a time stamp is an error."""
        for time, frame in self.frames():
            if time is None:
                raise VideoError("unreadable", "the frames have no time stamps: remux the file, for example to MP4")
            yield time, frame

    def _next(self, packets: Iterator[av.Packet], end: Fraction | None) -> list[av.VideoFrame] | None:
        """The frames of the next packet; None after the last one. `end` is that of the last frame."""
        try:
            packet = next(packets, None)
            return None if packet is None else packet.decode()
        except (av.FFmpegError, ValueError) as error:
            where = "at its start" if end is None else f"after {float(end - self.zero):.2f} s"
            what = "it is damaged"
            if self.cut_short:
                what = "the upload was interrupted"
            elif not isinstance(error, av.InvalidDataError):
                what += " or its frames become larger than limits.max_image_megapixels allows"
            raise VideoError(
                "unreadable", f"the video cannot be decoded {where}, because {what}: export or upload it again"
            ) from error


@contextmanager
def open_video(place: Path | bytes, limits: Limits) -> Iterator[VideoFile]:
    """Open the pictures of a local file, or of the contents of one. Raises VideoError, also for errors of reading."""
    with ExitStack() as stack:
        file: BinaryIO = io.BytesIO(place) if isinstance(place, bytes) else stack.enter_context(place.open("rb"))
        cut_short = is_cut_short(file)
        codecs = ",".join((*DECODERS, CODECS))  # when FFmpeg probes a file, it decodes the first frame
        try:
            container = stack.enter_context(open_untrusted(file, CONTAINERS, codecs, _pixel_limit(limits)))
        except UnusableError as error:
            raise VideoError("unreadable", str(error)) from error
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("unreadable", _unopened(file, cut_short)) from error
        yield VideoFile(container, _pictures(container, limits), limits, cut_short)


def _unopened(file: BinaryIO, cut_short: bool) -> str:
    """What a file is that FFmpeg does not open."""
    if cut_short:
        return "the file has fewer bytes than its header declares, and cannot be opened: upload it again"
    file.seek(0)
    start = file.read(4096)
    picture = next((kind for mark, kind in PICTURES.items() if re.match(mark, start, re.DOTALL)), "")
    what = f"a picture ({picture})" if picture else found_format(start)[0]
    if what.startswith("a film ("):
        return f"the file is {what}, but it is damaged at its start: export or upload it again"
    if what == "a film":
        return f"the file is a film in another container, such as WMV, FLV or MPEG: use {FORMATS}"
    if what.startswith("in no format"):
        return f"the file cannot be read as a video: use {FORMATS}, and check that the upload was complete"
    return f"the file is {what}, and not a video: use {FORMATS}"


def _pictures(container: InputContainer, limits: Limits) -> av.VideoStream:
    """The stream of pictures, ready to be decoded."""
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        raise VideoError("unreadable", "the file contains no video stream: export it with one")
    stream = next((s for s in films if s.disposition & Disposition.default), films[0])
    context = stream.codec_context
    # The options with which the file was opened do not apply to what is decoded later.
    if context is None or context.codec.name not in DECODERS:
        name = "an unknown codec" if context is None else context.codec.name
        raise VideoError("unreadable", f"frames in {name} cannot be read: export the video as H.264")
    check_pixels(context.width, context.height, limits)
    if "mpegts" not in container.format.name:  # there the length is a guess
        check_seconds((container.duration or 0) / av.time_base, limits)
    context.options = _pixel_limit(limits)
    stream.thread_type, context.thread_count = "NONE", 1  # the actors share the cores
    return stream


def _pixel_limit(limits: Limits) -> dict[str, str]:
    """FFmpeg's own pixel limit: it then refuses a frame before it allocates the memory for it."""
    return {"max_pixels": str(int(limits.max_image_megapixels * 1e6))}


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise VideoError for a frame that is too large."""
    if width * height > limits.max_image_megapixels * 1e6:
        raise VideoError(
            "too_many_pixels",
            f"{width} x {height} pixels exceed limits.max_image_megapixels = {limits.max_image_megapixels:g}: scale "
            "the video down",
        )


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raise VideoError for a film that lasts too long."""
    if seconds > limits.max_audio_minutes * 60:
        raise VideoError(
            "too_long",
            f"the video lasts {seconds / 60:.1f} min, more than limits.max_audio_minutes = "
            f"{limits.max_audio_minutes:g}: cut the file",
        )
