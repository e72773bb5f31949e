"""The delivered file: BT.709 frames -> H.264 with the original audio in MP4, written in a background thread."""

import errno
import io
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from pipeline.common.errors import ClipError
from pipeline.media.h264 import check_encoder, device_of, set_up_encoder
from pipeline.media.planes import YUV420P, video_frame
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.storage.explained import explained


class VideoWriter:
    """Encodes one clip to a local MP4 in its own thread.

    `write` blocks while `queue_frames` frames wait, so that memory does not grow with the clip. Encoder errors are
    raised by the next `write` or by `close`.
    """

    def __init__(self, path: Path, *, size: int, settings: VideoSettings, aac: bytes, tags: dict[str, str]) -> None:
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=settings.queue_frames)
        self._error: BaseException | None = None
        self._ended = False
        self.taken = 0
        """Number of frames that the encoder has taken."""
        self._arguments = (path, size, settings, aac, tags)
        self._thread = threading.Thread(target=self._run, name=f"encode {path.name}", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Number of frames that wait for the encoder."""
        return self._queue.qsize()

    def write(self, frames: np.ndarray) -> None:
        """Append frames (N, H*3/2, W) uint8 from `rgb_to_yuv420`."""
        for frame in frames:
            if self._error is not None:
                break
            self._queue.put(frame)
        self._raise()

    def close(self) -> None:
        """Wait until the file is complete."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """Stop encoding, whatever has been written; for a clip whose frames failed."""
        self._queue.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise ClipError("encode_failed", _why(self._error)) from self._error

    def _taken(self) -> Iterator[np.ndarray]:
        """Frames up to the end marker, which is taken only once, however often this is called."""
        while not self._ended:
            frame = self._queue.get()
            if frame is None:
                self._ended = True
            else:
                self.taken += 1
                yield frame

    def _run(self) -> None:
        try:
            write_mp4(self._taken(), *self._arguments)
        except BaseException as error:
            self._error = error
            # Keep taking frames, so that a writer that waits for space comes back and sees the error.
            for _ in self._taken():
                pass


def _why(error: BaseException) -> str:
    """What stopped the encoder. Numbers of FFmpeg's own errors are far above those of the system."""
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return f"the video could not be written: {os.strerror(error.errno)}; check the disk of the worker"
    if isinstance(error, av.FFmpegError):
        return "the encoder refused the frames or the audio: please report it with the clip's inputs"
    return f"the encoder stopped: {explained(error)}"


def write_mp4(
    frames: Iterator[np.ndarray],
    path: Path,
    size: int | tuple[int, int],
    settings: VideoSettings,
    aac: bytes,
    tags: dict[str, str],
) -> None:
    """Encode frames (H*3/2, W) uint8 yuv420p and copy the AAC track; both start at 0, and the index comes first.

    `size` is the side of square frames, or (width, height).
    """
    fps = parse_fps(settings.fps)
    # The clock of the whole file counts ms by default, in which a frame of 1001/30000 s has no exact length.
    clock = 1000 if 1000 % fps == 0 else fps.numerator * -(-1000 // fps.numerator)
    options = {"movflags": "+faststart", "movie_timescale": str(clock)}
    with (
        av.open(io.BytesIO(aac), "r") as sound,
        av.open(path, "w", format="mp4", options=options) as file,
    ):
        file.metadata.update(tags)
        encoder = check_encoder(settings)
        video = file.add_stream(encoder, rate=fps, hwaccel=device_of(encoder))
        set_up_encoder(video.codec_context, encoder, settings, size)
        audio_in = sound.streams.audio[0]
        audio_out = file.add_stream_from_template(audio_in)
        tick = audio_in.time_base or Fraction(1, audio_in.rate)
        packets = (packet for packet in sound.demux(audio_in) if packet.dts is not None)
        packet = next(packets, None)
        for number, planes in enumerate(frames):
            frame = video_frame(planes, YUV420P)
            frame.pts, frame.time_base = number, 1 / fps
            file.mux(video.encode(frame))
            # Audio is stored next to its frames, so that players need not seek.
            while packet is not None and (packet.dts or 0) * tick * fps <= number:
                packet.stream = audio_out
                file.mux(packet)
                packet = next(packets, None)
        file.mux(video.encode(None))
        while packet is not None:
            packet.stream = audio_out
            file.mux(packet)
            packet = next(packets, None)


@dataclass(frozen=True)
class Delivered:
    """The contents of a delivered file, found by demuxing it."""

    frames: int
    video_seconds: Fraction
    audio_seconds: Fraction


_AGAIN = "run the same command again, and report it if it stays"


def verify_mp4(path: Path, *, frames: int, fps: Fraction) -> Delivered:
    """Demux a finished file and count its frames.

    Raises ClipError verify_failed if it differs from what was rendered.
    """
    try:
        with av.open(path, "r") as file:
            return _demux(file, frames, fps)
    except av.FFmpegError as error:
        raise ClipError(
            "verify_failed",
            "the encoded file cannot be read back, so it was damaged when it was written: check the worker's disk",
        ) from error


def _demux(file: InputContainer, frames: int, fps: Fraction) -> Delivered:
    if len(file.streams.video) != 1 or len(file.streams.audio) != 1:
        raise ClipError("verify_failed", f"the file does not have one video and one audio stream: {_AGAIN}")
    video, audio = file.streams.video[0], file.streams.audio[0]
    found = {video.index: 0, audio.index: 0}
    for packet in file.demux():
        if packet.size and not packet.is_corrupt:  # the last packet of a truncated file is corrupt
            found[packet.stream.index] += 1
    if found[video.index] != frames or video.average_rate != fps:
        raise ClipError(
            "verify_failed",
            f"the file has {found[video.index]} frames at {video.average_rate} fps, but {frames} frames at {fps} fps "
            f"were rendered: {_AGAIN}",
        )
    if not found[audio.index]:
        raise ClipError("verify_failed", f"the audio stream is empty: {_AGAIN}")
    assert video.time_base is not None
    assert audio.time_base is not None
    return Delivered(frames, (video.duration or 0) * video.time_base, (audio.duration or 0) * audio.time_base)
