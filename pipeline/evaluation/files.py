"""Files of an evaluation: the measurements, stored with the results.

    done/video-<key>.json            metrics of one video
    done/video-<key>.<kind>.npy      its features, one row per frame, clip or face
    done/pair-<key>.json             metrics of one pair

A key changes with the contents of the videos, the networks and the version of the measurements; the JSON is written
last.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.storage.objects import fetched, filesystem, put_file
from pipeline.storage.records import Damaged, DamagedError, reading
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import is_local, join

logger = logging.getLogger(__name__)


def key_of(*parts: Any) -> str:
    """16 hexadecimal digits that change with the contents of `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def read_record(output: str, name: str) -> dict[str, Any] | None:
    """The measurements of a video or pair with their features; None if they are to be made. Damaged ones count as none,
    and the log names them.
    """
    found = DoneStore(output, needs=(("figures", dict), ("notes", list))).read(name)
    for kind in () if found is None else found.get("features", ()):
        if (damaged := _damaged(_features(output, name, kind))) is not None:
            logger.warning("%s: the video is measured again", damaged)
            clear_way(damaged.uri, output)
            return None
    return found


def _damaged(uri: str) -> Damaged | None:
    """A file of features on a local disk that is not whole, by its header and size."""
    if not is_local(uri):
        return None  # a file is whole there, or is not there
    try:
        with reading(uri, "a file of features"):
            np.load(filesystem(uri)[1], mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return Damaged(uri, "it is missing")
    except DamagedError as error:
        return error.found
    return None


def put_features(output: str, name: str, kind: str, file: Path) -> None:
    """Store an .npy file."""
    clear_way(_features(output, name, kind), output)
    put_file(file, _features(output, name, kind))


@contextmanager
def features(output: str, name: str, kind: str) -> Iterator[np.ndarray]:
    """Stored features, float32; they stay on disk and are read when they are accessed."""
    with local_features(output, name, [kind]) as files, opened(files, kind) as rows:
        yield rows


@contextmanager
def local_features(output: str, name: str, kinds: Iterable[str]) -> Iterator[dict[str, str]]:
    """Kind -> local path of stored features: their own, or that of a copy."""
    with ExitStack() as stack:
        yield {kind: str(stack.enter_context(fetched(_features(output, name, kind)))) for kind in kinds}


@contextmanager
def opened(files: Mapping[str, str], kind: str) -> Iterator[np.ndarray]:
    """One kind of `local_features`."""
    yield np.load(files[kind], mmap_mode="r", allow_pickle=False)


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
