"""Model folders: the bundled one, local ones, and those in object storage, which are cached on this node."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

import models
from models import ModelFolder
from models.fast.private_cache import CacheError, CacheFullError, full, is_full, private_folder
from models.model_folder import CONFIG_FILE, ModelFolderError
from pipeline.common.errors import RefusedError, StorageError
from pipeline.storage.objects import filesystem, read_bytes, retried
from pipeline.storage.trouble import MISNAMED, raise_if_trouble, reason
from pipeline.storage.uris import absolute, is_local, join, shown

logger = logging.getLogger(__name__)

POCKET = "pocket"
"""Name of the bundled model as a value of `model=`; its folder is models/pocket."""


def cache_folder() -> Path:
    """What this node keeps for later runs, in a folder for each kind: $FLOATCAST_CACHE, or ~/.cache/floatcast."""
    return Path(os.environ.get("FLOATCAST_CACHE") or Path.home() / ".cache" / "floatcast")


def local_model(source: str) -> ModelFolder:
    """Model folder of `source`: `pocket`, a local folder, or the URI of a folder in object storage.

    `pocket` is the bundled model. Local folders are used in place. Of a remote folder, the files of its list are
    fetched once per node, under a lock. The SHA-256 of the files of both is checked once per copy on each node: the
    cache records the size, dates and place on the disk of every file that was checked, and a copy without such a record
    is read. A fetched copy that is damaged is fetched again. Raises RefusedError if it is not a model folder, is
    damaged, or the cache can be written by others; and StorageError.
    """
    with _explained(source):
        if source == POCKET:
            return ModelFolder.open(Path(models.__file__).parent / POCKET)
        return _checked(Path(absolute(source))) if is_local(source) else _fetched(source)


def checked_model(source: str) -> ModelFolder:
    """`local_model`, after reading every file and checking its SHA-256, whatever the records say: once per job."""
    folder = local_model(source)
    with _explained(source):
        folder.verify()
    return folder


@contextmanager
def cache_explained() -> Iterator[None]:
    """Raise what is wrong with a private folder as RefusedError, or as StorageError if its disk is full."""
    try:
        yield
    except CacheFullError as error:
        raise StorageError(str(error)) from error
    except CacheError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        with cache_explained():
            yield
    except ModelFolderError as error:
        raise RefusedError(f"model: {error}") from error
    except MISNAMED as error:
        raise RefusedError(f"model: {shown(source)} could not be read: {reason(error)}") from error
    except Exception as error:
        raise_if_trouble(error, f"model: {shown(source)} could not be read")
        raise


def _fetched(source: str) -> ModelFolder:
    cache = private_folder(cache_folder() / "models")
    # The config contains the hash of every weight file, so other weights have another folder.
    config = read_bytes(join(source, CONFIG_FILE))
    if config is None:
        raise ModelFolderError(
            f"{shown(source)} is not a model folder: there is no {CONFIG_FILE} in it; check its name"
        )
    key = hashlib.sha256(config).hexdigest()[:24]
    folder = cache / key
    with FileLock(cache / f"{key}.lock"):
        if folder.is_dir():
            try:
                return _checked(folder)
            except ModelFolderError as error:
                logger.warning("%s; it is fetched again from %s", error, source)
                shutil.rmtree(folder)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fresh = Path(scratch) / "model"
            try:
                _fetch(source, config, fresh)
                ModelFolder.open(fresh).verify()
            except ModelFolderError as error:
                raise ModelFolderError(str(error).replace(str(fresh), source)) from None
            except OSError as error:
                raise (full(cache) if is_full(error) else error) from error
            fresh.rename(folder)
        made = ModelFolder.open(folder)
        _record(made)
        return made


def _fetch(source: str, config: bytes, folder: Path) -> None:
    """Fetch what the config lists, and nothing else that may lie there."""
    fs, path = filesystem(source)
    names = list(ModelFolder.parse(Path(source), config).files)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_bytes(config)
    there, here = [join(path, name) for name in names], [str(folder / name) for name in names]
    try:
        if names:
            retried(lambda: fs.get(there, here))
    except FileNotFoundError:
        missing = [name for name, place in zip(names, there, strict=True) if not fs.exists(place)]
        raise ModelFolderError(
            f"{source} is incomplete; these files are missing: {', '.join(missing)}; copy or convert the model again"
        ) from None


# --- Records of copies whose hashes were checked -------------------------------------------------------------------


RECORDED_BYTES = 64 << 20
"""A smaller model is read each time, which takes less than a second."""


def _checked(path: Path) -> ModelFolder:
    """The model in a folder, whose files are compared with their SHA-256 unless that was done before."""
    folder = ModelFolder.open(path)
    if not _is_checked(folder):
        folder.verify()
        _record(folder)
    return folder


def _is_checked(folder: ModelFolder) -> bool:
    """Whether the files are those whose SHA-256 was checked on this node, going by their sizes, dates and inodes."""
    with suppress(OSError, ValueError, CacheError):
        recorded = json.loads(_record_of(folder).read_bytes())
        return bool(recorded == _seen(folder))
    return False


def _record(folder: ModelFolder) -> None:
    """Record that the files were checked. Where that is impossible, the next worker checks them again."""
    with suppress(OSError, CacheError):
        if sum((folder.path / name).stat().st_size for name in folder.files) < RECORDED_BYTES:
            return
        record = _record_of(folder)
        with tempfile.NamedTemporaryFile("w", dir=record.parent, delete=False) as file:
            file.write(json.dumps(_seen(folder)))
        Path(file.name).replace(record)


def _record_of(folder: ModelFolder) -> Path:
    """Its name holds the place and the hash of the model, and thus of all files. Others cannot write the folder."""
    name = hashlib.sha256(f"{folder.path.resolve()}\0{folder.hash}".encode()).hexdigest()[:32]
    return private_folder(cache_folder() / "checked") / f"{name}.json"


def _seen(folder: ModelFolder) -> dict[str, list[int]]:
    found = {name: (folder.path / name).stat() for name in folder.files}
    return {name: [s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in found.items()}
