"""Training shards: what `jobs.prepare` writes and `jobs.train` reads. Parquet, one sample per row and row group.

    clips/<shard>.parquet      phase 1: a talking head of 3 to 15 s, cropped, with its audio, pose and boxes
    latents/<shard>.parquet    phase 2: the same samples as motion latents and content features; no video is read

A row can be read alone, by one range request, so any sample is available at any time. Training reads the samples in an
order of its own, which is a function of the seed and the step (`pipeline.training`).
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.objects import filesystem, list_folder, put_file
from pipeline.storage.uris import join

CLIPS, LATENTS = "clips", "latents"

SPLITS = ("train", "validation", "test")
"""Splits by speaker: nobody is in two of them."""

OPENED = 16
"""Shards whose footers are read at the same time: there is one for each video, and each is some requests."""

COMPONENTS = ("right eye", "left eye", "mouth")
"""Boxes of a frame; right and left are the person's own."""

_SAMPLE: list[tuple[str, Any]] = [
    ("clip_id", pa.string()),
    ("split", pa.string()),
    ("speaker", pa.string()),
    ("language", pa.string()),
    ("emotion", pa.string()),  # a name of models.EMOTIONS, as the source's table has it; null if it is unknown
    ("source", pa.string()),  # URI of the video
    ("start", pa.float64()),  # s in it
    ("end", pa.float64()),
    ("fps", pa.float64()),
    ("frames", pa.int64()),  # T
]

CLIP_SCHEMA = pa.schema(
    [
        *_SAMPLE,
        ("size", pa.int64()),  # side of the cropped frame, px
        ("crop_box", pa.list_(pa.float64(), 4)),  # left, top, right, bottom in the source, px; one for the whole clip
        ("pose", pa.binary()),  # (T,6) float32, pipeline.face.head_pose.head_pose in the cropped frame
        ("components", pa.binary()),  # (T,3,4) float32: COMPONENTS x (left, top, right, bottom), shares of `size`
        ("av_offset_ms", pa.float64()),  # null where it could not be measured
        ("av_confidence", pa.float64()),
        ("video", pa.binary()),  # MP4, H.264, T cropped frames, no audio
        ("wave", pa.binary()),  # (T*640,) int16: mono, 16 kHz
        ("curves", pa.binary()),  # (T,K) float32: known values of each frame, see jobs.prepare; or null
    ]
)

LATENT_SCHEMA = pa.schema(
    [
        *_SAMPLE,
        ("pose", pa.binary()),  # as above
        ("motion", pa.binary()),  # (T,D) float32: r of each frame, by the model's auto-encoder
        ("content", pa.binary()),  # (T,content_dim) float16: what the speech projection gets
        ("speech_emotion", pa.binary()),  # (7,) float32: w_e predicted from the audio
        (
            "image_emotion",
            pa.binary(),
        ),  # (7,) float32: predicted from the first frame; null without such a network
    ]
)
"""The schema's metadata name the model: `model_hash`, `encoders_hash`, `latent_dim`, `content_dim`."""

_ARRAYS: dict[str, tuple[type, tuple[int, ...]]] = {
    "pose": (np.float32, (-1, 6)),
    "components": (np.float32, (-1, len(COMPONENTS), 4)),
    "wave": (np.int16, (-1,)),
    "speech_emotion": (np.float32, (-1,)),
    "image_emotion": (np.float32, (-1,)),
}


def write_shard(rows: Iterable[dict[str, Any]], uri: str, schema: pa.Schema, scratch: Path) -> int:
    """Write samples (columns of `schema`; arrays as NumPy) to `uri` as a whole, through a file in `scratch`.

    Returns the number of samples.
    """
    local = scratch / "shard.parquet"
    count = write_local(rows, local, schema)
    put_file(local, uri)
    local.unlink()
    return count


def write_local(rows: Iterable[dict[str, Any]], local: Path, schema: pa.Schema) -> int:
    """The same, into the file `local`."""
    count = 0
    with pq.ParquetWriter(local, schema, compression="zstd") as writer:
        for row in rows:
            values = {name: _bytes(row.get(name)) for name in schema.names}
            writer.write_table(pa.Table.from_pylist([values], schema=schema))
            count += 1
    return count


def _bytes(value: Any) -> Any:
    return value.tobytes() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class _Place:
    file: str
    group: int


class Shards:
    """Samples of a folder `clips/` or `latents/`, in the order of their clip ids; any of them can be read alone.

    Threads may read at the same time.
    """

    def __init__(self, folder: str, splits: Sequence[str] = SPLITS) -> None:
        """`folder` contains the shards. Raises FileNotFoundError if it has none of these splits."""
        self.folder = folder
        names = sorted(name for name in list_folder(folder) if name.endswith(".parquet"))
        found: list[tuple[dict[str, Any], _Place]] = []
        self.metadata: dict[str, str] = {}
        self._footers: dict[str, pq.FileMetaData] = {}
        with ThreadPoolExecutor(OPENED) as threads:
            for name, (footer, metadata, rows) in zip(names, threads.map(self._look, names), strict=True):
                self._footers[name] = footer
                self.metadata |= metadata
                found += [(row, _Place(name, group)) for group, row in enumerate(rows) if row["split"] in splits]
        if not found:
            raise FileNotFoundError(f"{folder} has no shards with samples of the split {' or '.join(splits)}")
        found.sort(key=lambda one: one[0]["clip_id"])
        self.rows = [row for row, _ in found]
        """Of each sample: what it is and how long, without its arrays."""
        self._places = [place for _, place in found]

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, split: str) -> "Shards | None":
        """The samples of one split, without reading the files again; None if there are none."""
        kept = [index for index, row in enumerate(self.rows) if row["split"] == split]
        if not kept:
            return None
        part = copy.copy(self)
        part.__dict__.pop("frames", None)  # cached for all samples, if it was used
        part.rows, part._places = [self.rows[i] for i in kept], [self._places[i] for i in kept]
        return part

    @cached_property
    def frames(self) -> np.ndarray:
        """(samples,) int64: length of each sample."""
        return np.array([row["frames"] for row in self.rows], dtype=np.int64)

    def read(self, index: int, *columns: str) -> dict[str, Any]:
        """Read these columns of one sample; arrays get their shapes."""
        place = self._places[index]
        with self._open(place.file, self._footers[place.file]) as file:
            table = file.read_row_group(place.group, columns=list(columns))
        return {name: self._value(name, table.column(name)[0].as_py(), index) for name in columns}

    def _value(self, name: str, value: Any, index: int) -> Any:
        if value is None:
            return None
        if name in _ARRAYS:
            dtype, shape = _ARRAYS[name]
            return np.frombuffer(value, dtype).reshape(shape)
        if name in ("motion", "content", "curves"):
            dtype = np.float16 if name == "content" else np.float32
            return np.frombuffer(value, dtype).reshape(self.rows[index]["frames"], -1)
        return value

    def _look(self, name: str) -> tuple[pq.FileMetaData, dict[str, str], list[dict[str, Any]]]:
        """The footer, metadata and light columns of a shard."""
        with self._open(name) as file:
            metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
            return file.metadata, metadata, file.read(columns=[column for column, _ in _SAMPLE]).to_pylist()

    @contextmanager
    def _open(self, name: str, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
        """Open the file for each sample: threads read at the same time, and there may be more shards than open
        files.
        """
        fs, path = filesystem(join(self.folder, name))
        with fs.open(path, "rb") as file:
            yield pq.ParquetFile(file, metadata=footer, pre_buffer=False)
