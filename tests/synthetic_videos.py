"""Videos of a portrait whose mouth is driven by its sound: right ones, and each kind of wrong one."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from pipeline.common.limits import Limits
from pipeline.face.crop import crop_square
from pipeline.face.detector import FaceDetector
from pipeline.measure.loudness import levels
from pipeline.measure.video_pass import Delivery
from pipeline.media.audio import load_audio
from pipeline.media.image import load_image
from pipeline.media.mp4 import write_video
from pipeline.media.settings import VideoSettings
from tests import media

SIZE = 256
FPS = 25
RATE = 16_000
SHADES = 16
"""Different openings of the mouth."""


@cache
def portrait(size: int = SIZE) -> np.ndarray:
    """The demo's photograph, cropped as for the model, (S,S,3) uint8."""
    image = load_image(media.PORTRAIT.read_bytes(), Limits())
    return crop_square(image, FaceDetector().detect(image)[0].box, size)


@cache
def mouths(size: int = SIZE) -> list[np.ndarray]:
    """The portrait with the mouth open by nothing up to a tenth of the picture: the jaw moves down, and shows dark."""
    face, points = portrait(size), FaceDetector().detect(portrait(size))[0].landmarks
    y, x = np.mgrid[:size, :size].astype(float)
    left, right, line = points[61, 0], points[291, 0], (points[13, 1] + points[14, 1]) / 2
    off = (x - (left + right) / 2) / (0.475 * (right - left))
    lens, jaw = np.clip(1 - off**2, 0, 1) ** 0.5, np.clip(1 - (off / 2.2) ** 2, 0, 1)
    fade = np.clip(1 - 1.2 * (y - line) / (size - line), 0, 1)
    found = []
    for opening in np.linspace(0.015, 0.1, SHADES) * size:
        gap = opening * lens
        hole = (y >= line) & (y < line + gap)
        row = np.where(y >= line, np.maximum(y - np.maximum(gap, opening * jaw) * fade, line), y)
        picture = face[np.clip(row, 0, size - 1).astype(int), x.astype(int)].copy()
        picture[hole] = (50, 15, 15)
        found.append(picture)
    return found


def speech(seconds: float = 6.0, *, pause: tuple[float, float] | None = None, lufs_gain: float = 1.0) -> np.ndarray:
    """Real voices one after the other, (samples,) float32 at 16 kHz; digital silence in `pause`."""
    voices = [media.DEMO / f"speech_en_arctic_a000{n}.wav" for n in (7, 9)]
    wave = np.concatenate([load_audio(voice.read_bytes(), Limits()).wave for voice in voices])
    wave = np.resize(wave, round(seconds * RATE)) * lufs_gain
    if pause:
        wave[round(pause[0] * RATE) : round(pause[1] * RATE)] = 0
    return wave


@dataclass
class SyntheticVideo:
    """A video and what may be wrong with it."""

    wave: np.ndarray = field(default_factory=speech)
    delivered: np.ndarray | None = None
    """Sound of the file, where it is another one than the source."""
    opening: np.ndarray | None = None
    """(frames,) from 0 to 1; None follows the level of `wave`."""
    edit: Callable[[int, np.ndarray], np.ndarray] = lambda number, picture: picture
    """Changes a frame."""
    skip: frozenset[int] = frozenset()
    """Frames that are missing: their time passes."""
    size: int = SIZE

    @property
    def frames(self) -> int:
        return -(-len(self.wave) * FPS // RATE)

    def pictures(self) -> Iterator[np.ndarray]:
        """RGB, with a head that sways a little."""
        opening = self.opening
        if opening is None:
            opening = np.clip((levels((self.wave * 2**15).astype(np.int16), FPS, self.frames) + 50) / 35, 0, 1)
        for number in range(self.frames):
            yield self.edit(number, _swayed(number, int(opening[number] * (SHADES - 1)), self.size))

    def write(self, path: Path, **settings) -> Delivery:
        """The MP4, by the product's own writer, and what it should be."""
        sound = self.wave if self.delivered is None else self.delivered
        aac = load_audio(media.wav(sound[None]), Limits(allow_silence=True)).sound
        if self.skip:
            settings |= {"speed": "ultrafast"}  # without B-frames, packets come in the order of their times
        video = VideoSettings(**settings)
        kept = (picture for number, picture in enumerate(self.pictures()) if number not in self.skip)
        planes = (planes_of(picture) for picture in kept)
        write_video(planes, path, self.size, video, aac, {})
        if self.skip:
            _leave_gaps(path, self.skip)
        return Delivery(
            path=path,
            fps=Fraction(FPS),
            frames=self.frames,
            size=self.size,
            source=media.wav(self.wave[None]),
            portrait=portrait(self.size),
        )


@lru_cache(maxsize=200)
def _swayed(number: int, shade: int, size: int) -> np.ndarray:
    """Frame `number` of a video whose mouth is open by one of SHADES. Not to be changed: other videos have it too."""
    angle, shift = np.radians(2 * np.sin(number / 11)), size / 100 * np.sin(number / 7)
    cos, sin, middle = np.cos(angle), np.sin(angle), size / 2
    turn = (cos, sin, middle - cos * middle - sin * middle + shift, -sin, cos, middle + sin * middle - cos * middle)
    image = Image.fromarray(mouths(size)[shade])
    fill = (200, 195, 200)
    swayed = image.transform((size, size), Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR, fillcolor=fill)
    return np.asarray(swayed)  # read-only


def planes_of(picture: np.ndarray) -> np.ndarray:
    """As `pipeline.media.planes.rgb_to_yuv420` makes them, in a tenth of its time on a CPU."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    return frame.to_ndarray()


def _leave_gaps(path: Path, skip: frozenset[int]) -> None:
    """Move the frames behind a missing one to their own time."""

    data = io.BytesIO(path.read_bytes())
    with av.open(data) as source, av.open(str(path), "w", format="mp4") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        base = source.streams.video[0].time_base
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                tick = round(1 / (FPS * base))
                later = tick * sum(packet.pts // tick >= number - k for k, number in enumerate(sorted(skip)))
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
