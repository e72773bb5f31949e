"""A video as training sees it: 25 frames per second by their timestamps, and its audio on the same timeline.

It is read in one streaming pass: a few frames are in memory at a time, and the audio as 16 kHz mono (115 MB per hour).
FFmpeg only gets an open file: whatever a container refers to, it opens no other file and no network address.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from models import MOTION_FPS
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.frame_orientation import upright, upright_size
from pipeline.media.sound_reader import OPTIONS
from pipeline.storage.untrusted import input_file
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.sound import Sound

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts")
"""Suffixes of the files that count as videos when a folder is listed."""

CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts"
VIDEO_DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video"),
    *("prores", "dnxhd", "mjpeg", "ffv1"),
)
"""Allowed decoders."""

HDR = (16, 18)
"""Transfer characteristics PQ and HLG (ITU-T H.273)."""


@contextmanager
def local_file(uri: str, limits: Limits) -> Iterator[Path]:
    """The video as a local file: itself, or a copy for as long as the context lasts. Raises Dropped."""
    with ExitStack() as stack:
        try:
            path = stack.enter_context(input_file(uri, limits))
        except ClipError as error:
            raise Dropped.of(error) from error
        yield path


class SourceFrame:
    """A frame of the source. Expensive conversions are made once, when they are first needed."""

    def __init__(self, index: int, frame: av.VideoFrame, shape: tuple[int, int]) -> None:
        self.index, self._frame, self._shape = index, frame, shape

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H,W,3) uint8, upright, with square pixels."""
        return upright(self._frame, self._shape)

    @cached_property
    def small(self) -> np.ndarray:
        """(32,32,3) uint8 of the frame, whatever its aspect ratio: enough to detect a cut."""
        return upright(self._frame, (32, 32), "AREA")


@dataclass
class SourceVideo:
    """A local video. Read it once through `pictures`; after that, `sound` is available."""

    path: Path
    limits: Limits
    with_sound: bool = True
    sound: Sound | None = None
    _last_lasts: Fraction = Fraction(0)

    def pictures(self) -> Iterator[tuple[int, SourceFrame]]:
        """(n, frame shown at n / 25 s) from 0 on: the frame with the nearest time, so a frame may occur twice.

        Raises Dropped: unreadable, too_many_pixels, too_long, hdr, no_audio.
        """
        try:
            with (
                self.path.open("rb") as file,
                av.open(
                    file,
                    "r",
                    options=OPTIONS
                    | {
                        "format_whitelist": CONTAINERS,
                        "codec_whitelist": ",".join((*VIDEO_DECODERS, OPTIONS["codec_whitelist"])),
                        **self._pixel_limit(),
                    },
                    metadata_errors="replace",
                ) as container,
            ):
                self._check(container)
                yield from self._on_the_grid(self._timed(container))
        except (av.FFmpegError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error  # the full text contains the path of a local file
            raise Dropped(
                "unreadable",
                f"the file cannot be read as a video ({problem}): use MP4, MOV, MKV, WebM, AVI or MPEG-TS, and check "
                "that the upload was complete",
            ) from error

    def _check(self, container: InputContainer) -> None:
        if not container.streams.video:
            raise Dropped("unreadable", "the file contains no video stream: export it with video and audio")
        stream = container.streams.video[0]
        self._check_pixels(stream.codec_context.width, stream.codec_context.height)
        self._check_length(container.duration / av.time_base if container.duration else 0.0)
        if self.with_sound and not container.streams.audio:
            raise Dropped("no_audio", "the file contains no audio stream: export it with audio")
        # The options with which the file was opened do not apply to what is decoded later.
        if stream.codec_context.codec.name not in VIDEO_DECODERS:
            raise Dropped(
                "unreadable", f"frames in {stream.codec_context.codec.name} cannot be read: export the video as H.264"
            )
        stream.codec_context.options = self._pixel_limit()
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # the actors share the cores

    def _pixel_limit(self) -> dict[str, str]:
        """FFmpeg's own pixel limit: it then refuses a frame before it allocates the memory for it."""
        return {"max_pixels": str(int(self.limits.max_image_megapixels * 1e6))}

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.limits.max_image_megapixels * 1e6:
            raise Dropped(
                "too_many_pixels",
                f"{width} x {height} pixels exceed limits.max_image_megapixels = "
                f"{self.limits.max_image_megapixels:g}: scale the video down",
            )

    def _check_length(self, seconds: float) -> None:
        if seconds > self.limits.max_audio_minutes * 60:
            raise Dropped(
                "too_long",
                f"the video is longer than {seconds / 60:.1f} min, but limits.max_audio_minutes = "
                f"{self.limits.max_audio_minutes:g}",
            )

    def _timed(self, container: InputContainer) -> Iterator[tuple[Fraction, SourceFrame]]:
        """Frames with their times in seconds since the first one; collects the audio on the way."""
        video = container.streams.video[0]
        wanted = [video, container.streams.audio[0]] if self.with_sound else [video]
        origin: Fraction | None = None
        heard: list[av.AudioFrame] = []  # audio before the first frame
        index = 0
        for packet in container.demux(wanted):
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    if self.sound is None:
                        heard.append(frame)
                    else:
                        self.sound.add(frame)
                elif isinstance(frame, av.VideoFrame):
                    if frame.color_trc in HDR:
                        raise Dropped("hdr", "the video is HDR (PQ or HLG): convert it to SDR in BT.709")
                    if frame.pts is None or frame.time_base is None:
                        raise Dropped("unreadable", "the frames have no timestamps: remux the file, for example to MP4")
                    time = frame.pts * frame.time_base
                    if origin is None:
                        origin = time
                        self.sound = Sound(time, self.limits.max_audio_minutes * 60) if self.with_sound else None
                        for early in heard:
                            assert self.sound is not None
                            self.sound.add(early)
                        heard.clear()
                    self._last_lasts = (frame.duration or 0) * frame.time_base
                    shape = upright_size(frame, video.sample_aspect_ratio)
                    self._check_pixels(*shape)
                    yield time - origin, SourceFrame(index, frame, shape)
                    index += 1
        if origin is None:
            raise Dropped("unreadable", "the video stream contains no frames: export it again")
        if self.sound is not None:
            self.sound.close()

    def _on_the_grid(self, pictures: Iterator[tuple[Fraction, SourceFrame]]) -> Iterator[tuple[int, SourceFrame]]:
        number, step = 0, Fraction(1, MOTION_FPS)
        before: tuple[Fraction, SourceFrame] | None = None
        for time, picture in pictures:
            self._check_length(float(time))
            if before is not None:
                if time <= before[0]:
                    continue
                while number * step <= (before[0] + time) / 2:
                    yield number, before[1]
                    number += 1
            before = (time, picture)
        if before is not None:
            end = before[0] + (self._last_lasts or step)
            while number * step < end - step / 2:
                yield number, before[1]
                number += 1
