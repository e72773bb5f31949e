"""The delivered file: BT.709 frames and the original audio in the codecs and container of its preset.

It is written in a background thread.
"""

import errno
import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted
from pipeline.media.encoders import check_encoder, colour_tagged, set_up_encoder
from pipeline.media.file_faults import edit_faults, format_faults, frame_rate, timecode_of, track_faults
from pipeline.media.h264 import device_of
from pipeline.media.pixel_layout import video_frame
from pipeline.media.presets import MXF, WEB, FileFormat, size_problem
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.sound_copy import payload_of
from pipeline.media.sound_output import SoundTrack, TrackTags, open_sound
from pipeline.storage.explained import explained


class VideoWriter:
    """Encodes one clip to a local file in its own thread.

    `write` blocks while `queue_frames` frames, or `queue_megabytes` of them, wait, so that memory grows neither with
    the clip nor with its frames. Encoder errors are raised by the next `write` or by `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int | tuple[int, int],
        settings: VideoSettings,
        sound: bytes,
        tags: dict[str, str],
        language: str | None = None,
        tracks: Sequence[SoundTrack] = (),
        whole: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """The arguments are those of `write_video`. `whole` makes a frame of what was written, in the encoder's thread:
        frames that wait may be parts.
        """
        self._whole = whole
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=settings.queue_frames)
        self._most_bytes = round(1e6 * settings.queue_megabytes)
        self._error: BaseException | None = None
        self._ended = False
        self.taken = 0
        """Number of frames that the encoder has taken."""
        self._arguments = (path, size, settings, sound, tags, language, tracks)
        self._thread = threading.Thread(target=self._run, name=f"encode {path.name}", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Number of frames that wait for the encoder."""
        return self._queue.qsize()

    def write(self, frames: np.ndarray) -> None:
        """Append frames (N,rows,W) from `to_planes`, in the layout of the preset; all of a clip have one size."""
        if self._most_bytes and len(frames):  # the first ones: only now is their size known
            self._queue.maxsize = max(1, min(self._queue.maxsize, self._most_bytes // frames[0].nbytes))
            self._most_bytes = 0
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
            if isinstance(self._error, ClipError):
                raise self._error
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
            frames = self._taken()
            write_video(frames if self._whole is None else map(self._whole, frames), *self._arguments)
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


def write_video(
    frames: Iterable[np.ndarray],
    path: Path,
    size: int | tuple[int, int],
    settings: VideoSettings,
    sound: bytes,
    tags: dict[str, str],
    language: str | None = None,
    tracks: Sequence[SoundTrack] = (),
) -> None:
    """Encode frames (rows,W) of the preset's layout with their sound; both start at 0.

    `size` is the side of square frames, or (width, height). `sound` is AAC in MP4, FLAC for PCM, or what is copied, as
    `load_audio` returns it. `tags` are the container's; `timecode` among them becomes a track (tmcd) or, in MXF, the
    time code of the material, and `title` the name of that. `language` (BCP 47) is that of the sound, as far as the
    container has it (`track_language`). Further `tracks` follow in their order.
    """
    fps, form = parse_fps(settings.fps), settings.format
    width, height = (size, size) if isinstance(size, int) else size
    if problem := size_problem(form, width, height):
        raise ClipError("encode_failed", problem)
    sounds = (SoundTrack(sound, TrackTags(language)), *tracks)
    default = next((number for number, one in enumerate(sounds) if one.tags.default), 0)
    with ExitStack() as stack:
        sources = [stack.enter_context(av.open(io.BytesIO(one.sound), "r")) for one in sounds]
        options = muxer_options(form, fps)
        file = stack.enter_context(av.open(path, "w", format=form.container.muxer, options=options))
        file.metadata.update(tags | ({"material_package_name": tags["title"]} if _names_material(form, tags) else {}))
        encoder = check_encoder(settings)
        video = file.add_stream(encoder, rate=fps, hwaccel=device_of(encoder))
        assert isinstance(video, av.VideoStream)
        set_up_encoder(video.codec_context, encoder, settings, size)
        outputs = [
            open_sound(source, file, form.sound, one.tags, default=number == default)
            for number, (source, one) in enumerate(zip(sources, sounds, strict=True))
        ]
        number = -1
        for number, planes in enumerate(frames):
            frame = video_frame(planes, form.layout)
            if (frame.width, frame.height) != (width, height):
                raise ValueError(f"a frame has {frame.width} x {frame.height} px instead of {width} x {height}")
            if form.preset.name != "web":
                frame = colour_tagged(frame)
            frame.pts, frame.time_base = number, 1 / fps
            file.mux(video.encode(frame))
            for output in outputs:
                output.up_to(number / fps)
        file.mux(video.encode(None))
        for output in outputs:
            output.close((number + 1) / fps)


def _names_material(form: FileFormat, tags: dict[str, str]) -> bool:
    """Whether the title is that of an MXF: its material package has a name."""
    return form.container == MXF and "title" in tags


def muxer_options(form: FileFormat, fps: Fraction) -> dict[str, str]:
    """What FFmpeg's muxer is told for a delivered file."""
    if form.container == MXF:
        return {"store_user_comments": "1"}
    # The clock of the whole file counts ms by default, in which a frame of 1001/30000 s has no exact length.
    clock = 1000 if 1000 % fps == 0 else fps.numerator * -(-1000 // fps.numerator)
    return {"movflags": "+faststart", "movie_timescale": str(clock)}


@dataclass(frozen=True)
class Delivered:
    """The contents of a delivered file, found by demuxing it."""

    frames: int
    video_seconds: Fraction
    audio_seconds: Fraction


_AGAIN = "run the same command again, and report it if it stays"


def verify_video(
    path: Path,
    *,
    frames: int,
    fps: Fraction,
    form: FileFormat = WEB,
    timecode: str | None = None,
    language: str | None = None,
    tracks: Sequence[SoundTrack] = (),
    copied: bytes | None = None,
    title: str | None = None,
) -> Delivered:
    """Demux a finished file, count its frames and compare it with its preset, time code, title and audio tracks.

    `language` is that of the first track, and `copied` the sound whose packets it has to have, as the `tracks` have
    theirs; without it packets are not compared. Raises ClipError verify_failed if it differs from what was rendered.
    """
    try:
        with av.open(path, "r") as file:
            delivered = _demux(file, frames, fps, [] if copied is None else [copied, *(one.sound for one in tracks)])
        with av.open(path, "r") as file:
            faults = [*format_faults(file, form), *edit_faults(path, form, frames / fps)]
            wanted = "00:00:00:00" if timecode is None and form.container == MXF else timecode
            if (found := timecode_of(file)) != wanted:
                faults.append(f"time code is {found or 'missing'} instead of {wanted or 'none'}")
            faults += track_faults(file, form, [TrackTags(language), *(track.tags for track in tracks)])
            named = "material_package_name" if form.container == MXF else "title"
            if title is not None and (found := file.metadata.get(named)) != title:
                faults.append(f"title is {quoted(found) if found else 'missing'} instead of {quoted(title)}")
    except av.FFmpegError as error:
        raise ClipError(
            "verify_failed",
            "the encoded file cannot be read back, so it was damaged when it was written: check the worker's disk",
        ) from error
    if faults:
        raise ClipError("verify_failed", f"the file is not as {form.preset.name} has it: {'; '.join(faults)}: {_AGAIN}")
    return delivered


def _demux(file: InputContainer, frames: int, fps: Fraction, copied: Sequence[bytes]) -> Delivered:
    if len(file.streams.video) != 1 or not file.streams.audio:
        raise ClipError("verify_failed", f"the file does not have one video and an audio stream: {_AGAIN}")
    video, audio = file.streams.video[0], file.streams.audio[0]
    found = {stream.index: 0 for stream in file.streams}
    digests = {stream.index: hashlib.sha256() for stream in (file.streams.audio if copied else ())}
    for packet in file.demux():
        if packet.size and not packet.is_corrupt:  # the last packet of a truncated file is corrupt
            found[packet.stream.index] += 1
            if packet.stream.index in digests:
                digests[packet.stream.index].update(packet)
    rate = frame_rate(video)
    if found[video.index] != frames or rate != fps:
        raise ClipError(
            "verify_failed",
            f"the file has {found[video.index]} frames at {rate} fps, but {frames} frames at {fps} fps "
            f"were rendered: {_AGAIN}",
        )
    if not all(found[sound.index] for sound in file.streams.audio):
        raise ClipError("verify_failed", f"an audio stream is empty: {_AGAIN}")
    if [digest.digest() for digest in digests.values()] != [payload_of(sound) for sound in copied]:
        raise ClipError("verify_failed", f"the audio differs from the source, whose packets it should have: {_AGAIN}")
    assert video.time_base is not None
    assert audio.time_base is not None
    return Delivered(frames, (video.duration or 0) * video.time_base, (audio.duration or 0) * audio.time_base)
