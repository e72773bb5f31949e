"""Videos as people upload them: any size, any frame rate, with cuts, several faces, and sound of its own time."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

from tests import synthetic_videos

SMALL: dict[str, Any] = {"size": 64, "min_face": 100, "min_seconds": 1.0, "max_seconds": 15.0}
"""Settings of samples that take little time."""

TICK = Fraction(1, 90_000)


def write(
    path: Path,
    pictures: Iterable[np.ndarray],
    wave: np.ndarray | None = None,
    *,
    times: Iterable[Fraction] | None = None,
    fps: int = 25,
    sound_at: float = 0.0,
    hole: tuple[float, float] = (0.0, 0.0),
    aside: np.ndarray | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    **properties,
) -> Path:
    """Encode RGB pictures (H,W,3), and sound at 16 kHz (samples,) or (channels, samples), to MP4, or MKV by its name.

    `times` in seconds, one per picture, default is `fps`; `sound_at`: of its first sample; `hole`: seconds of the sound
    that are left out, though their time passes; `aside`: mono sound of a first stream that is flagged as a comment;
    `rotation`: degrees counter-clockwise that a player turns it; `properties` of the codec context, as color_trc.
    """
    times = iter(times or (Fraction(n, fps) for n in range(10**9)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska" if path.suffix == ".mkv" else "mp4") as file:
        video = file.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "8"})
        sounds = [one if one.ndim == 2 else one[None] for one in (aside, wave) if one is not None]
        streams = [file.add_stream("aac", rate=16_000, layout="mono" if len(one) == 1 else "stereo") for one in sounds]
        for stream in streams:
            stream.disposition = Disposition.default if stream is streams[-1] else Disposition.comment
        started = False
        for picture, time in zip(pictures, times, strict=False):
            if not started:
                video.height, video.width = picture.shape[:2]
                video.pix_fmt, video.codec_context.time_base = "yuv420p", TICK
                if aspect:
                    video.codec_context.sample_aspect_ratio = aspect
                for name, value in properties.items():
                    setattr(video.codec_context, name, value)
                if rotation:
                    video.set_display_rotation(rotation)
                file.start_encoding()
                started = True
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time / TICK), TICK
            for name, value in properties.items():
                setattr(frame, name, value)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for sound, one in zip(streams, sounds, strict=True):
            samples = av.AudioFrame.from_ndarray(one.astype(np.float32), format="fltp", layout=sound.layout.name)
            samples.sample_rate, samples.pts = 16_000, 0
            resampler = av.AudioResampler("fltp", sound.layout.name, 16_000, frame_size=1024)
            for piece in [*resampler.resample(samples), *resampler.resample(None)]:
                if not hole[0] <= piece.pts / 16_000 < hole[1]:
                    piece.pts += round(sound_at * 16_000)
                    file.mux(sound.encode(piece))
            file.mux(sound.encode(None))
    return path


def speaker(wave: np.ndarray, size: int = 256) -> Iterator[np.ndarray]:
    """Pictures of a portrait that speaks `wave`, for as long."""
    return synthetic_videos.SyntheticVideo(wave=wave, size=size).pictures()


def canvas(height: int = 288, width: int = 384) -> np.ndarray:
    """A grey wall, a little lighter to the right."""
    shade = np.linspace(150, 180, width).astype(np.uint8)
    return np.repeat(np.repeat(shade[None, :, None], height, axis=0), 3, axis=2)


def placed(picture: np.ndarray, left: int, top: int, side: int, on: np.ndarray) -> np.ndarray:
    """A copy of `on` with the picture in it, `side` px wide; what is beyond the border is left out."""
    scaled = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
    made = on.copy()
    height, width, _ = on.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    made[y0:y1, x0:x1] = scaled[y0 - top : y1 - top, x0 - left : x1 - left]
    return made


def shades(levels: Iterable[int], side: int = 32) -> Iterator[np.ndarray]:
    """Plain grey pictures."""
    return (np.full((side, side, 3), level, np.uint8) for level in levels)


def decoded(video: bytes) -> np.ndarray:
    """(frames,H,W,3) uint8."""
    with av.open(io.BytesIO(video)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
