"""Model folders: the bundled one, local ones, and those in object storage, which are cached on this node."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

import models
from models import ModelFolder
from models.model_folder import CONFIG_FILE, ModelFolderError
from pipeline.common.errors import RefusedError
from pipeline.storage.objects import (
    absolute,
    filesystem,
    is_local,
    join,
    read_bytes,
    retried,
)
from pipeline.storage.trouble import MISNAMED, raise_if_trouble, reason
from pipeline.storage.uris import shown

POCKET = "pocket"
"""Name of the bundled model as a value of `model=`; its folder is models/pocket."""


def cache_folder() -> Path:
    """Cache folder for models from object storage on this node: $FLOATCAST_CACHE, or ~/.cache/floatcast."""
    return Path(os.environ.get("FLOATCAST_CACHE") or Path.home() / ".cache" / "floatcast")


def local_model(source: str) -> ModelFolder:
    """Model folder of `source`: `pocket`, a local folder, or the URI of a folder in object storage.

    `pocket` is the bundled model. Local folders are used in place. A remote folder is fetched once per node, under a
    lock, and checked against the SHA-256 of its files. Raises RefusedError if it is not a model folder or is damaged,
    and StorageError.
    """
    with _explained(source):
        if source == POCKET:
            return ModelFolder.open(Path(models.__file__).parent / POCKET)
        return ModelFolder.open(absolute(source) if is_local(source) else _fetched(source))


def checked_model(source: str) -> ModelFolder:
    """`local_model`, after checking the SHA-256 of every file.

    It is better to do this once per job than in each worker.
    """
    folder = local_model(source)
    with _explained(source):
        folder.verify()
    return folder


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except ModelFolderError as error:
        raise RefusedError(f"model: {error}") from error
    except MISNAMED as error:
        raise RefusedError(f"model: {shown(source)} could not be read: {reason(error)}") from error
    except Exception as error:
        raise_if_trouble(error, f"model: {shown(source)} could not be read")
        raise


def _fetched(source: str) -> Path:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    fs, path = filesystem(source)
    # The config contains the hash of every weight file, so other weights have another folder.
    config = read_bytes(join(source, CONFIG_FILE))
    if config is None:
        raise ModelFolderError(
            f"{shown(source)} is not a model folder: there is no {CONFIG_FILE} in it; check its name"
        )
    key = hashlib.sha256(config).hexdigest()[:24]
    folder = cache / key
    with FileLock(cache / f"{key}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                fresh = Path(scratch) / "model"
                retried(lambda: fs.get(path.rstrip("/") + "/", f"{fresh}/", recursive=True))
                ModelFolder.open(fresh).verify()
                fresh.rename(folder)
    return folder
