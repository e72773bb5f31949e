"""Files of an evaluation: the measurements, stored with the results.

    done/video-<key>.json            metrics of one video
    done/video-<key>.<kind>.npy      its features, one row per frame, clip or face
    done/pair-<key>.json             metrics of one pair

A key changes with the contents of the videos, the networks and the version of the measurements; the JSON is written
last.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ledger.done_store import DONE
from pipeline.storage.objects import filesystem, put_file, retried
from pipeline.storage.uris import is_local, join


def key_of(*parts: Any) -> str:
    """16 hexadecimal digits that change with the contents of `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def put_features(output: str, name: str, kind: str, file: Path) -> None:
    """Store an .npy file."""
    put_file(file, _features(output, name, kind))


@contextmanager
def features(output: str, name: str, kind: str) -> Iterator[np.ndarray]:
    """Stored features, float32; they stay on disk and are read when they are accessed."""
    uri = _features(output, name, kind)
    fs, path = filesystem(uri)
    with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
        local = Path(path) if is_local(uri) else Path(folder) / "features.npy"
        if not is_local(uri):
            retried(lambda: fs.get_file(path, str(local)))
        yield np.load(local, mmap_mode="r", allow_pickle=False)


def _features(output: str, name: str, kind: str) -> str:
    return join(output, DONE, f"{name}.{kind}.npy")


class RowFile:
    """Rows of float32 that are written to disk as they arrive, so that an hour of video needs no memory."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self._raw, self._target = folder / f"{kind}.raw", folder / f"{kind}.npy"
        self._file = self._raw.open("wb")
        self._shape: tuple[int, ...] = ()
        self.count = 0

    def add(self, rows: np.ndarray) -> None:
        """Append (N,...)."""
        self._shape, self.count = rows.shape[1:], self.count + len(rows)
        np.ascontiguousarray(rows, dtype=np.float32).tofile(self._file)

    def save(self) -> Path | None:
        """Store the rows as an .npy file; None if there are none."""
        self._file.close()
        if not self.count:
            return None
        np.save(self._target, np.memmap(self._raw, np.float32, "r", shape=(self.count, *self._shape)))
        self._raw.unlink()
        return self._target
