"""What is read, by kind: ordinary files to begin with, the reader, and how it may refuse a file."""

import io
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.cli.config import load_config
from models.model_folder import ModelFolder, ModelFolderError
from pipeline.common.errors import ClipError, RefusedError, StorageError
from pipeline.common.limits import Limits
from pipeline.evaluation.pairs import read_pairs
from pipeline.evaluation.watch import frames_of, probe
from pipeline.face.detector import Face
from pipeline.face.pose_input import load_pose
from pipeline.ledger.clip_row import clip_row, rejected_row
from pipeline.ledger.columns import extended
from pipeline.ledger.table import RowSpool, table_rows, write_table
from pipeline.manifest.consent import read_register
from pipeline.manifest.reader import glance, read_manifest
from pipeline.measure.loudness import measure
from pipeline.media.audio import load_audio
from pipeline.media.image import load_image
from pipeline.media.xmp import mark, read_mark
from pipeline.qc.review import read_reviews
from pipeline.run.settings import RenderSettings
from pipeline.storage.untrusted import read_input
from pipeline.storage.uris import absolute, resolve, shown
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.source_video import SourceVideo
from pipeline.training_data.videos import read_source
from tests import media
from tests.fuzzing.mutations import with_ogg_checksums, with_png_checksums
from tests.fuzzing.outputs import read_output, state_files

LIMITS = Limits()

FRAMES = 500
"""Most frames that are read of a film: the rest is read in the same way."""


@dataclass(frozen=True)
class Kind:
    """A reader, and what it reads."""

    seeds: Callable[[], dict[str, bytes]]
    """Ordinary files by name."""
    read: Callable[[str, bytes], object]
    """Reads bytes as the file of this name."""
    refusals: tuple[type[Exception], ...] = (ClipError,)
    repaired: Callable[[str, bytes, random.Random], bytes] = field(default=lambda name, data, rng: data)
    """Gives a mutant the right checksums."""


def in_a_file(read: Callable[[Path], object]) -> Callable[[str, bytes], object]:
    """A reader of a file with this name in a folder of its own."""

    def read_there(name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            read(path)

    return read_there


# --- Sound and images ------------------------------------------------------------------------------------------


def sounds() -> dict[str, bytes]:
    voice, rate = media.speech()
    voice = voice[:, : rate // 2]
    both = np.concatenate([voice, voice[:, ::-1]])
    found = {
        "s16.wav": media.wav(voice, rate),
        "f32.wav": media.wav(both, 44_100, "f32"),
        "s24.wav": media.wav(both, 48_000, "s24", b"artist"),
        "u8.wav": media.wav(voice, 8_000, "u8"),
        "a.mp3": media.mp3(voice, rate),
        "a.m4a": media.m4a(voice, rate),
        "a.opus": media.opus(voice, 48_000),
        "vorbis.ogg": media.vorbis(voice, rate),
        "a.flac": media.flac(voice, rate),
        "both.flac": media.flac(both, 44_100),
        "film.mp4": media.mp4(voice, rate, pictures=5),
    }
    others = (
        ("a.aiff", "pcm_s16be", "aiff"),
        ("a.aac", "aac", "adts"),
        ("opus.mkv", "libopus", "matroska"),
        ("a.webm", "libopus", "webm"),
        ("a.w64", "pcm_s16le", "w64"),
        ("alac.m4a", "alac", "ipod"),
        ("adpcm.wav", "adpcm_ima_wav", "wav"),
        ("ulaw.wav", "pcm_mulaw", "wav"),
        ("flac.mka", "flac", "matroska"),
        ("pcm.mka", "pcm_f32le", "matroska"),
        ("ac3.mp4", "ac3", "mp4"),
        ("mp3.wav", "libmp3lame", "wav"),
        ("pcm.mov", "pcm_s24be", "mov"),
    )
    for name, codec, container in others:
        found[name] = media.encoded(voice, 48_000 if codec in ("libopus", "ac3") else rate, codec, container)
    return found


def _with_ogg(name: str, data: bytes, rng: random.Random) -> bytes:
    return with_ogg_checksums(data) if name.endswith((".opus", ".ogg")) and rng.random() < 0.8 else data


def images() -> dict[str, bytes]:
    colours = media.colours(96, 128)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    profile = media.rgb_profile()
    frames = [Image.fromarray(np.ascontiguousarray(one)) for one in (colours, colours[:, ::-1], colours[::-1])]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 40}
    return {
        "rgb.png": media.picture(colours),
        "palette.png": media.picture(colours, "PNG", "P"),
        "profile.png": media.picture(colours, "PNG", icc_profile=profile, exif=exif),
        "rgba.png": media.picture(colours, "PNG", "RGBA"),
        "bits.png": media.picture(colours, "PNG", "1"),
        "grey16.png": media.png16(np.arange(96 * 128, dtype=np.uint16).reshape(96, 128)),
        "moving.png": media.picture_of(frames[0], "PNG", **moving),
        "rgb.jpg": media.picture(colours, "JPEG", exif=exif, icc_profile=profile),
        "progressive.jpg": media.picture(colours, "JPEG", progressive=True, optimize=True),
        "cmyk.jpg": media.picture(colours, "JPEG", "CMYK"),
        "grey.jpg": media.picture(colours, "JPEG", "L"),
        "rgb.webp": media.picture(colours, "WEBP", quality=70, exif=exif, icc_profile=profile),
        "lossless.webp": media.picture(colours, "WEBP", "RGBA", lossless=True),
        "moving.webp": media.picture_of(frames[0], "WEBP", **moving),
    }


def _with_png(name: str, data: bytes, rng: random.Random) -> bytes:
    return with_png_checksums(data) if name.endswith(".png") and rng.random() < 0.9 else data


# --- Films -----------------------------------------------------------------------------------------------------


def films() -> dict[str, bytes]:
    kinds = (
        ("h264.mp4", "mp4", "libx264", "aac"),
        ("h264.mov", "mov", "libx264", "aac"),
        ("h264.mkv", "matroska", "libx264", "aac"),
        ("vp8.webm", "webm", "libvpx", "libopus"),
        ("vp9.webm", "webm", "libvpx-vp9", "libopus"),
        ("mpeg4.mp4", "mp4", "mpeg4", "aac"),
        ("mpeg4.avi", "avi", "mpeg4", "libmp3lame"),
        ("h264.ts", "mpegts", "libx264", "aac"),
        ("hevc.mp4", "mp4", "libx265", "aac"),
    )
    return {name: _film(*kind) for name, *kind in kinds}


def _film(container: str, pictures: str, sound: str, frames: int = 10, side: int = 64) -> bytes:
    voice, rate = media.speech()
    rate = 48_000 if sound == "libopus" else rate
    buffer = io.BytesIO()
    y, x = np.mgrid[:side, :side]
    with av.open(buffer, "w", format=container) as file:
        video, audio = file.add_stream(pictures, rate=25), file.add_stream(sound, rate=rate, layout="mono")
        video.width = video.height = side
        video.pix_fmt = "yuv420p"
        if pictures == "libx265":
            video.options = {"x265-params": "log-level=none"}
        file.start_encoding()
        for i in range(frames):
            picture = np.stack([(x * 3 + i * 5) % 256, (y * 4) % 256, (x + y + i) % 256], -1).astype(np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(voice[:, : rate * frames // 25]), "fltp", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(audio.format, audio.layout, audio.rate, frame_size=audio.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(audio.encode(piece))
        file.mux(audio.encode(None))
    return buffer.getvalue()


def _prepared(path: Path) -> None:
    source = SourceVideo(path, LIMITS)
    for number, picture in source.pictures():
        assert picture.small.shape == (32, 32, 3)
        if number % 5 == 0:
            assert picture.rgb.ndim == 3
        if number > FRAMES:
            break
    source.sound().part(0, 10)


def _evaluated(path: Path) -> None:
    probe(path, LIMITS)
    for number, frame in enumerate(frames_of(path, LIMITS)):
        assert frame.luma.ndim == 2
        assert frame.rgb.ndim == 3
        if number > FRAMES:
            break
    measure(path)


class _OneFace:
    """A detector that finds the same face in every picture."""

    def detect(self, picture: np.ndarray) -> list[Face]:
        height, width = picture.shape[:2]
        landmarks = np.random.default_rng(1).uniform(0.2, 0.8, (468, 3)) * [width, height, width]
        return [Face((width * 0.2, height * 0.2, width * 0.8, height * 0.8), 0.9, landmarks.astype(np.float32))]

    def follow(self, picture: np.ndarray, face: Face) -> Face:
        return self.detect(picture)[0]


def _poses() -> dict[str, bytes]:
    rows = np.tile([0, 0, 0, 0, 0, 0.4], (60, 1))
    found = {name: data for name, data in films().items() if not name.endswith((".avi", ".ts"))}
    for name, array in (("a.npy", rows), ("halves.npy", np.asfortranarray(rows.astype(np.float16)))):
        buffer = io.BytesIO()
        np.save(buffer, array)
        found[name] = buffer.getvalue()
    lines = [",".join(f"{value:.3f}" for value in row) for row in rows]
    return found | {"a.csv": "\n".join(["yaw,pitch,roll,x,y,size", *lines]).encode()}


def _marked() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        path.write_bytes(_film("mp4", "libx264", "aac"))
        mark(path, clip_id="clip", model="m", model_hash="h")
        return {"a.mp4": path.read_bytes()}


# --- Tables, settings and names --------------------------------------------------------------------------------


def manifests() -> dict[str, bytes]:
    rows = [
        {
            **{"clip_id": f"c{i}", "image": "a.png", "audio": f"{i}.wav", "emotion": "happy" if i % 2 else None},
            **{"seed": i, "a_cfg_scale": 2.0, "speaker": "Anna", "tags": ["x", "y"], "extra": {"k": i}, "pose": None},
        }
        for i in range(12)
    ]
    weights = pa.array([[("happy", 1.0)], None], pa.map_(pa.string(), pa.float64()))
    other = pa.table(
        {
            **{"image": ["a", "b"], "audio": ["c", "d"], "t": pa.array([1, 2], pa.timestamp("ns")), "emotion": weights},
            **{"d": [b"x", b"y"], "m": weights, "n": pa.array([1, 2], pa.decimal128(5, 2)), "v": [[[1.0]], [[], None]]},
        }
    )
    table = pa.Table.from_pylist(rows)
    plain = {"use_dictionary": False, "column_encoding": {"audio": "DELTA_BYTE_ARRAY", "image": "PLAIN"}}
    return {
        "rows.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
        "mixed.jsonl": b'{"image": "a.png", "audio": "b.wav", "emotion": {"happy": 0.7}, "tags": [1, {"b": 2}]}\n'
        b'{"image": "s3://b/k", "audio": "/x/y.wav", "seed": 1e3, "extra": "\\u00e9\\ud83d\\ude00"}\n\n' * 2,
        "rows.json": json.dumps(rows, indent=1).encode(),
        "rows.csv": b"clip_id,image,audio,emotion,seed,speaker,tags\r\n"
        + b"".join(b'c%d,a.png,"b,%d.wav","{""happy"": 0.5}",%d,"A ""n""","[1, 2]"\r\n' % (i, i, i) for i in range(8)),
        "lines.csv": '\ufeffimage;audio;clip_id\na.png;b.wav;é\na.png;c.wav;"x\ny"\n'.encode(),
        "utf16.tsv": "image\taudio\na.png\tb.wav\n".encode("utf-16"),
        "rows.parquet": _parquet(table),
        "plain.parquet": _parquet(table, compression="zstd", **plain),
        "gzip.parquet": _parquet(table, compression="gzip", data_page_version="2.0"),
        "types.parquet": _parquet(other),
    }


def _parquet(table: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def _planned(path: Path) -> None:
    """Read a manifest as a job does, and write the table of an output from it, which is read again."""
    glance(str(path))
    manifest = read_manifest(str(path))
    rows = RowSpool(rejected_row(rejected) for rejected in manifest.rejected)
    for clip in manifest.clips:
        rows.add(extended(clip_row(clip), {"status": "failed", "error_code": "lost", "error_message": "x"}))
    assert len(list(table_rows(write_table(rows, str(path.parent / "out"))))) == len(manifest)


def tables() -> dict[str, bytes]:
    register = (
        b'consent_ref,speaker,expires,revoked\r\nr1,Anna,2027-12-31,false\r\nr2,"B, C",,\r\nr3,D,2026-01-01,true\r\n'
    )
    return {
        "register.csv": register,
        "register.jsonl": b'{"consent_ref": "r1", "speaker": "A", "expires": "2027-01-01", "revoked": false}\n'
        b'{"consent_ref": 2, "speaker": "B"}\n',
        "review.csv": b'clip_id,take,verdict,comment\r\n"a","1","approved","x ""y"""\r\n"b","2","retake",""\r\n',
        "pairs.csv": b"reference,generated,system,language\na.mp4,b.mp4,x,en\nc.mp4,d.mp4,y,\n",
        "pairs.parquet": _parquet(pa.table({"reference": ["a"], "generated": ["b"], "system": ["x"], "n": [[1]]})),
        "videos.csv": b"video,speaker,emotion,curves\na.mp4,A,happy,\nb.mp4,B,,b.npy\n",
        "videos.jsonl": b'{"video": "a.mp4", "speaker": 1}\n{"video": "b.mp4", "language": "pt-BR"}\n',
    }


def _table(path: Path) -> None:
    readers: dict[str, Callable[[str], object]] = {
        "register": read_register,
        "review": read_reviews,
        "pairs": read_pairs,
        "videos": read_source,
    }
    readers[path.stem](str(path))


def _settings() -> dict[str, bytes]:
    lines = (
        *(
            "manifest: m.csv",
            "output: s3://bucket/out",
            "limits:",
            "  max_rows: 10",
            "  input_prefixes: [/data, 's3://b']",
        ),
        *(
            "qc:",
            "  max_takes: 2",
            "render: {device: cpu, num_gpus: 0.5}",
            "video:",
            "  crf: 20",
            "  fps: '30000/1001'",
        ),
        *("consent.speakers: ['*']", "consent:", "  register: r.csv", "only: failed"),
    )
    config = Path(__file__).parents[2] / "models" / "pocket" / "config.json"
    return {"settings.yaml": "\n".join(lines).encode(), "config.json": config.read_bytes()}


def _setting(path: Path) -> None:
    if path.suffix == ".json":
        ModelFolder.open(path.parent)
    else:
        load_config(RenderSettings, [f"config={path}"])


def uris() -> dict[str, bytes]:
    texts = ("/data/a.wav", "s3://bucket/folder/a%20b.wav", "file:///data/a%20b.wav", "~/a.wav", "../b/./c.png")
    texts += ("file://localhost/x", "https://user:secret@host/x?y=z", "memory://x", "s3://b/é.wav", "a\\b:c.wav")
    return {f"{i}": text.encode() for i, text in enumerate(texts)}


def _uri(name: str, data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    shown(text)
    absolute(text)
    limits = Limits(allowed_schemes=["file"])
    read_input(resolve("/dev/shm", text), limits)


KINDS = {
    "audio": Kind(sounds, lambda name, data: load_audio(data, LIMITS), repaired=_with_ogg),
    "sound": Kind(sounds, lambda name, data: measure(data), (ClipError, av.FFmpegError, IndexError), _with_ogg),
    "image": Kind(images, lambda name, data: load_image(data, LIMITS), repaired=_with_png),
    "prepare": Kind(films, in_a_file(_prepared), (ClipError, Dropped)),
    "evaluate": Kind(films, in_a_file(_evaluated), (ClipError, av.FFmpegError, IndexError)),
    "pose": Kind(_poses, lambda name, data: load_pose(data, name, 12, LIMITS, _OneFace())),  # type: ignore[arg-type]
    "mark": Kind(_marked, in_a_file(read_mark), (ValueError,)),
    "manifest": Kind(manifests, in_a_file(_planned), (RefusedError,)),
    "tables": Kind(tables, in_a_file(_table), (RefusedError,)),
    "settings": Kind(_settings, in_a_file(_setting), (RefusedError, ModelFolderError)),
    "uri": Kind(uris, _uri, (ClipError, RefusedError, StorageError)),
    "state": Kind(state_files, read_output, (RefusedError,)),
}
