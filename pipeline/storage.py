"""Files on local disk and in object storage, through fsspec. Credentials come from the environment, never from URIs."""

import hashlib
import os
import posixpath
import shutil
import tempfile
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from models import ModelFolder
from models.checkpoint import CONFIG_FILE, save_untrained_pocket
from pipeline.errors import ClipError
from pipeline.settings import Limits

POCKET = "pocket"
"""Name of the bundled preset, as a value of `model=`."""


def scheme(uri: str) -> str:
    """`s3` of s3://bucket/key, `file` of a plain path."""
    head, separator, _ = uri.partition("://")
    return head if separator else "file"


def is_local(uri: str) -> bool:
    """Whether `uri` is a plain path or a file:// URI."""
    return scheme(uri) == "file"


def absolute(uri: str) -> str:
    """A plain path made absolute (workers have another working directory); other URIs without a closing slash."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))
    return uri.rstrip("/")


def join(folder: str, *names: str) -> str:
    """`folder`/a/b, for paths and URIs."""
    return posixpath.join(folder, *names)


def parent(uri: str) -> str:
    """Folder that holds `uri`."""
    return posixpath.dirname(uri)


def resolve(base: str, value: str) -> str:
    """A manifest's path or URI; relative ones start at the folder `base` that holds the manifest."""
    if "://" in value or os.path.isabs(value):
        return value
    head, separator, path = join(base, value).rpartition("://")
    # Storage takes the names of objects literally: "a/../b" would be another one than "b".
    return f"{head}{separator}{posixpath.normpath(path)}" if separator else path


def filesystem(uri: str) -> tuple[Any, str]:
    """(fsspec filesystem, path on it)."""
    return fsspec.core.url_to_fs(uri)


def check_allowed(uri: str, allowed_schemes: list[str]) -> None:
    """Raise ClipError unless the scheme is on the allow-list. Chained URIs (zip://a::s3://b) never are."""
    if "::" in uri or scheme(uri) not in allowed_schemes:
        raise ClipError(
            "uri_not_allowed",
            f"{uri!r} may not be read: allowed schemes are {', '.join(allowed_schemes)} (limits.allowed_schemes)",
        )


def read_input(uri: str, limits: Limits) -> bytes:
    """Whole contents of an input file; raises ClipError with a code for every way that this can fail."""
    check_allowed(uri, limits.allowed_schemes)
    try:
        fs, path = filesystem(uri)
        info = fs.info(path)
        if info["type"] == "directory":
            raise ClipError("input_not_found", f"{uri} is a folder, not a file")
        size = info["size"]
        if size == 0:
            raise ClipError("input_empty", f"{uri} has 0 bytes: upload it again")
        if size > limits.max_file_megabytes * 1e6:
            raise ClipError(
                "input_too_large",
                f"{uri} has {size / 1e6:.0f} MB, more than limits.max_file_megabytes = {limits.max_file_megabytes:g}",
            )
        return fs.cat_file(path)
    except FileNotFoundError:
        raise ClipError("input_not_found", f"{uri} does not exist: correct the path or upload the file") from None
    except ClipError:
        raise
    except Exception as error:  # every client library has exceptions of its own
        raise ClipError("storage_error", f"{uri} could not be read: {type(error).__name__}: {error}") from error


def put_file(local: Path, uri: str) -> None:
    """Store a finished local file under `uri`: readers see all of it or nothing."""
    fs, path = filesystem(uri)
    if not is_local(uri):
        fs.put_file(str(local), path)  # one object appears at once, when its upload is complete
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with local.open("rb") as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder: str) -> None:
    """Write and remove a small file in `folder`; raises an error of the storage's client where that cannot be done."""
    fs, path = filesystem(folder)
    if is_local(folder):  # object storage has no folders, and a mistyped bucket must not be created
        fs.makedirs(path, exist_ok=True)
    probe = join(path, ".floatcast-write-test")
    fs.pipe_file(probe, b"x")
    fs.rm_file(probe)


# --- Models ----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where models from object storage are kept on this node: $FLOATCAST_CACHE, or ~/.cache/floatcast."""
    return Path(os.environ.get("FLOATCAST_CACHE") or Path.home() / ".cache" / "floatcast")


def local_model(source: str) -> ModelFolder:
    """Model folder of `source`: `pocket`, a local folder, or the URI of a folder in object storage.

    A remote folder is fetched once per node, under a lock, and checked against the SHA-256 of its files.
    Raises ModelFolderError where it is none, and errors of the storage's client where that cannot be read.
    """
    if source != POCKET and is_local(source):
        return ModelFolder.open(absolute(source))
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    if source == POCKET:
        key = "pocket-untrained-1"  # raise the number when the preset's sizes change
    else:
        fs, path = filesystem(source)
        # The config names the hash of every weight file: other weights have another folder.
        key = hashlib.sha256(fs.cat_file(join(path, CONFIG_FILE))).hexdigest()[:24]
    folder = cache / key
    with FileLock(cache / f"{key}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                fresh = Path(scratch) / "model"
                if source == POCKET:
                    save_untrained_pocket(fresh)
                else:
                    fs.get(path.rstrip("/") + "/", f"{fresh}/", recursive=True)
                    ModelFolder.open(fresh).verify()
                fresh.rename(folder)
    return ModelFolder.open(folder)
