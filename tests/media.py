"""Makers of real media files, as bytes: what people upload, and what they upload by mistake."""

import io
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from PIL import Image

from pipeline.media.presets import FileFormat
from pipeline.media.settings import VideoSettings

DEMO = Path(__file__).parents[1] / "jobs" / "demo" / "media"
PORTRAIT = DEMO / "portrait_astronaut.png"
SPEECH = DEMO / "speech_en_arctic_a0007.wav"
"""Real voice, 16 kHz mono, 16 bit."""

TEXT = b"Dear colleague, please find the recording attached.\n" * 40
"""What a file of another kind holds when somebody renames it to .wav or .png."""


# --- Sound -----------------------------------------------------------------------------------------------------


def tone(hz: float = 440.0, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """Sine of amplitude 0.5, the same in all channels: (channels, samples) float32."""
    time = np.arange(round(seconds * rate)) / rate
    return np.tile((0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32), (channels, 1))


def speech() -> tuple[np.ndarray, int]:
    """The demo's English voice: ((1, samples) float32, rate in Hz)."""
    with av.open(str(SPEECH)) as file:
        pieces = [frame.to_ndarray() for frame in file.decode(audio=0)]
        return np.concatenate(pieces, axis=1).astype(np.float32) / 2**15, file.streams.audio[0].rate


def wav(samples: np.ndarray, rate: int = 16_000, kind: str = "s16", info: bytes = b"") -> bytes:
    """(channels, samples) float -> RIFF file of `kind` u8, s16, s24, f32 or f64; `info` is the artist's name."""
    x = samples.T.reshape(-1)
    whole = kind[0] != "f"
    if whole:
        bits = int(kind[1:])
        x = np.round(x * (2 ** (bits - 1) - 1)).astype("<i4")
        if kind == "u8":
            data = (x + 128).astype(np.uint8).tobytes()
        else:
            data = x.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    else:
        bits = int(kind[1:])
        data = x.astype(f"<f{bits // 8}").tobytes()
    block = len(samples) * bits // 8
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1 if whole else 3, len(samples), rate, rate * block, block, bits)
    if info:
        artist = b"IART" + struct.pack("<I", len(info)) + info + b"\0" * (len(info) % 2)
        head += b"LIST" + struct.pack("<I", 4 + len(artist)) + b"INFO" + artist
    body = b"WAVE" + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encoded(samples: np.ndarray, rate: int, codec: str, container: str, **options: str) -> bytes:
    """(channels, samples) float32 through an encoder of FFmpeg."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=_layout(samples))
        stream.codec_context.options = options
        _encode_into(file, stream, samples, rate)
    return buffer.getvalue()


def mp3(samples: np.ndarray, rate: int) -> bytes:
    return encoded(samples, rate, "libmp3lame", "mp3")


def m4a(samples: np.ndarray, rate: int) -> bytes:
    return encoded(samples, rate, "aac", "ipod")


def flac(samples: np.ndarray, rate: int) -> bytes:
    return encoded(samples, rate, "flac", "flac")


def opus(samples: np.ndarray, rate: int, *, quick: bool = False) -> bytes:
    options = {"compression_level": "0", "frame_duration": "60"} if quick else {}
    return encoded(samples, rate, "libopus", "ogg", **options)


def vorbis(samples: np.ndarray, rate: int) -> bytes:
    """FFmpeg's own encoder takes stereo alone."""
    return encoded(np.broadcast_to(samples, (2, samples.shape[1])), rate, "vorbis", "ogg", strict="experimental")


def mp4(samples: np.ndarray | None, rate: int = 48_000, *, pictures: int = 25, faststart: bool = False) -> bytes:
    """Video of grey pictures at 25 fps, with sound unless `samples` is None; the index last, unless `faststart`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"} if faststart else {}) as file:
            video = file.add_stream("libx264", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            sound = None if samples is None else file.add_stream("aac", rate=rate, layout=_layout(samples))
            file.start_encoding()
            for level in np.linspace(0, 255, pictures).astype(np.uint8):
                picture = np.full((64, 64, 3), level, np.uint8)
                file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(video.encode(None))
            if samples is not None and sound is not None:
                _encode_into(file, sound, samples, rate)
        return path.read_bytes()


def cut(data: bytes, share: float) -> bytes:
    """The first part of a file, as an interrupted upload leaves it."""
    return data[: int(len(data) * share)]


def _layout(samples: np.ndarray) -> str:
    return {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]


def _encode_into(file, stream, samples: np.ndarray, rate: int) -> None:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=_layout(samples))
    frame.sample_rate, frame.pts = rate, 0
    stream.codec_context.open(strict=False)
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, frame_size=stream.frame_size or None)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        file.mux(stream.encode(piece))
    file.mux(stream.encode(None))


# --- Pictures --------------------------------------------------------------------------------------------------


def colours(height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth picture without any symmetry, (H,W,3) uint8: red rises to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 64)], axis=-1).astype(np.uint8)


def picture(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    """(H,W,C) or (H,W) uint8 -> a file of `kind`, after conversion to the Pillow mode `mode`."""
    image = Image.fromarray(pixels)
    return picture_of(image.convert(mode) if mode else image, kind, **options)


def picture_of(image: Image.Image, kind: str, **options) -> bytes:
    """Pillow's image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(pixels: np.ndarray, orientation: int, kind: str) -> bytes:
    """The picture as a camera stores it that was held in another way, with the EXIF tag that says so (1 to 8)."""
    transposed = pixels.transpose(1, 0, 2)
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: transposed,
        6: transposed[::-1],
        7: transposed[::-1, ::-1],
        8: transposed[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}[kind]
    return picture(np.ascontiguousarray(stored), kind, exif=exif, **options)


def png16(pixels: np.ndarray) -> bytes:
    """(H,W) grey or (H,W,3) RGB uint16 -> PNG of 16 bits a sample."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())  # filter type 0 in front of every row
    return _png(width, height, 16, 0 if pixels.ndim == 2 else 2, packed)


def huge_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """Only the header says that it is huge, and the pixels are damaged: a reader that decodes it sees that first."""
    return _png(width, height, 8, 2, b"no pixels at all")


def _png(width: int, height: int, bits: int, colour: int, packed: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
"""XYZ of red, green and blue of sRGB, (3,3), adapted to D50 as profiles have them."""


def rgb_profile(gamma: float = 1.0, primaries: np.ndarray = SRGB) -> bytes:
    """ICC profile: a value v of 0 to 1 means v ** gamma in linear light; gamma is a multiple of 1/256."""
    columns = {name: _xyz(*row) for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.tolist(), strict=True)}
    return icc_profile(b"RGB ", b"XYZ ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    """The same for grey."""
    return icc_profile(b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def curve(gamma: float) -> bytes:
    """Value of a tag with a tone curve."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def icc_profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC profile of version 2 for the colour space `space`, with `tags` that lead to `connection`."""
    name = b"made for a test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(body))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    header[36:40] = b"acsp"
    header[68:80] = _xyz(0.9642, 1.0, 0.8249)[8:]
    return bytes(header) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


# --- Delivery --------------------------------------------------------------------------------------------------


class _Lossless(VideoSettings):
    @property
    def format(self) -> FileFormat:
        form = super().format
        return replace(form, preset=replace(form.preset, profiles=(*form.preset.profiles, "High 4:4:4 Predictive")))

    def with_preset(self, name: str | None) -> VideoSettings:
        return self if name in (None, self.preset) else VideoSettings(preset=name)


def lossless() -> VideoSettings:
    """Settings that nobody can give: x264 then loses nothing, and few players play it."""
    settings = _Lossless()
    settings.crf = 0
    return settings


# --- Reading back ----------------------------------------------------------------------------------------------


def pictures(uri: str) -> np.ndarray:
    """All frames of a delivered video, (frames,H,W,3) uint8 RGB."""
    with av.open(uri) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def planes(uri: str) -> np.ndarray:
    """All frames of a delivered video as they were encoded, (frames,H*3/2,W) uint8 yuv420p.

    After `lossless` these are the frames that the engine handed to the encoder.
    """
    with av.open(uri) as file:
        return np.stack([frame.to_ndarray() for frame in file.decode(video=0)])
