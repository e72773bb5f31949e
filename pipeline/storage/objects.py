"""Files on local disk and in object storage, through fsspec. Credentials come from the environment, never from URIs."""

import contextlib
import errno
import os
import posixpath
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from botocore.exceptions import ClientError, NoCredentialsError

from pipeline.common.errors import ClipError, RefusedError, StorageError
from pipeline.storage import s3
from pipeline.storage.s3 import head_object, read_object
from pipeline.storage.trouble import MISNAMED, is_timeout, names_nothing, raise_if_trouble, reason
from pipeline.storage.uris import is_local, join, local_path, normal, scheme, shown


def filesystem(uri: str) -> tuple[Any, str]:
    """(fsspec filesystem, path on it). Listings are not cached, because other processes write to the same folders."""
    if is_local(uri):  # fsspec would take :: and :// in a path for the signs of a URI
        return fsspec.filesystem("file"), os.path.join(os.getcwd(), local_path(uri)).rstrip("/") or "/"
    if scheme(uri) != "s3":
        return fsspec.core.url_to_fs(normal(uri))
    fs, path = fsspec.core.url_to_fs(normal(uri), use_listings_cache=False, config_kwargs=s3.client_settings())
    fs.retries = s3.TRIES
    return fs, path


def create_file(local: Path, uri: str) -> bool:
    """Store a finished local file under `uri`, completely or not at all.

    Returns False and changes nothing if `uri` exists.

    In object storage this is one conditional write (If-None-Match: *). On a local disk it is a write, an fsync, and
    then a hard link, which fails if the name is taken.
    """
    fs, path = filesystem(uri)
    if not is_local(uri):
        try:
            retried(lambda: fs.put_file(str(local), path, mode="create"))
        except Exception as error:
            if is_taken(error):
                return False
            raise
        return True
    with _partial(local, Path(path)) as partial:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
    return True


def create_bytes(data: bytes, uri: str) -> bool:
    """`create_file` for a few bytes."""
    with _as_file(data) as file:
        return create_file(file, uri)


def put_file(local: Path, uri: str) -> None:
    """Store a finished local file under `uri`, replacing what is there; readers see either the old or the new file."""
    fs, path = filesystem(uri)
    if not is_local(uri):
        retried(lambda: fs.put_file(str(local), path))
        return
    with _partial(local, Path(path)) as partial:
        partial.replace(path)


def write_bytes(data: bytes, uri: str) -> None:
    """`put_file` for a few bytes."""
    with _as_file(data) as file:
        put_file(file, uri)


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def _partial(local: Path, target: Path) -> Iterator[Path]:
    """A copy next to `target`, synced to the disk; if the copy is left over, it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{secrets.token_hex(8)}.part")  # whatever the length of the target's name
    try:
        with local.open("rb") as source, _new_file(partial) as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _new_file(path: Path) -> IO[bytes]:
    """Open a file for writing that did not exist; no link is followed."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "wb")


def read_bytes(uri: str) -> bytes | None:
    """Contents of one of our files; None if it does not exist. On S3 this is one request, whether it exists or not."""
    fs, path = filesystem(uri)
    try:
        return retried(lambda: read_object(fs, path)[0] if scheme(uri) == "s3" else fs.cat_file(path))
    except FileNotFoundError:
        return None


def file_info(uri: str) -> dict[str, Any]:
    """`size` and `type` of a file, and its `ETag` on S3, where this is one request. Raises FileNotFoundError."""
    fs, path = filesystem(uri)
    return retried(lambda: head_object(fs, path) if scheme(uri) == "s3" else fs.info(path))


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[str | None]:
    """Local path of one of our files, or of a copy if the file is remote; None for an empty `uri`."""
    if not uri or is_local(uri):
        yield filesystem(uri)[1] if uri else None
        return
    with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
        local = join(folder, posixpath.basename(uri))
        fetch_file(uri, Path(local))
        yield local


def fetch_file(uri: str, local: Path, size: int | None = None) -> None:
    """Copy a remote file, of `size` bytes if that is known. Raises StorageError if it is slow."""
    fs, path = filesystem(uri)
    retried(lambda: s3.get_file(fs, path, local, size) if scheme(uri) == "s3" else fs.get_file(path, str(local)))


def put_folder(local: Path, uri: str, *, last: str) -> None:
    """Store the files of a folder under `uri`, with the file `last` at the end, so that a reader who waits for it sees
    all of them.
    """
    remove(join(uri, last))
    files = [file for file in local.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.relative_to(local).as_posix() == last, file)):
        put_file(file, join(uri, file.relative_to(local).as_posix()))


def remove(uri: str) -> None:
    """Remove a file. It is not an error if the file does not exist."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError):
        retried(lambda: fs.rm_file(path))


PAGE = 1000
"""Number of names in one page of a listing, which is the maximum of S3."""


def list_folder(uri: str) -> Iterator[str]:
    """Names of the files in a folder, in no order; empty if there is no folder. Even a million names need no memory."""
    yield from (name for name, size in list_sizes(uri) if size >= 0)


NO_FILE = -1
"""Takes the place of a size for what is no file: a folder, a link to nothing, or a special file."""


def list_sizes(uri: str) -> Iterator[tuple[str, int]]:
    """Names in a folder and the sizes of their files, like `list_folder`; on a local disk also names of no file."""
    fs, path = filesystem(uri)
    if is_local(uri):
        with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
            yield from ((entry.name, entry.stat().st_size if entry.is_file() else NO_FILE) for entry in entries)
        return
    if scheme(uri) == "s3":
        yield from _list_bucket(fs, path)
        return
    with contextlib.suppress(FileNotFoundError):
        found = retried(lambda: fs.ls(path, detail=True))
        yield from ((e["name"].rsplit("/", 1)[-1], int(e["size"] or 0)) for e in found if e["type"] == "file")


def _list_bucket(fs: Any, path: str) -> Iterator[tuple[str, int]]:
    """List page by page; s3fs itself only lists a folder as a whole."""
    bucket, _, prefix = path.partition("/")
    prefix += "/" if prefix else ""  # the bucket itself is a folder too
    where = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": PAGE}
    page: dict[str, Any] = {"IsTruncated": True}
    while page["IsTruncated"]:
        token = page.get("NextContinuationToken")
        after = {"ContinuationToken": token} if token else {}
        page = retried(lambda after=after: fs.call_s3("list_objects_v2", **where, **after))  # type: ignore[misc]
        for entry in page.get("Contents", ()):
            if name := entry["Key"].removeprefix(prefix):  # a "folder" created by a person is an object without a name
                yield name, int(entry["Size"])


def is_taken(error: Exception) -> bool:
    """Whether a conditional write failed because the object exists; s3fs has no exception of its own for that."""
    cause = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    code = cause.response.get("Error", {}).get("Code") if isinstance(cause, ClientError) else None
    return isinstance(error, FileExistsError) or code in ("PreconditionFailed", "412", "ConditionalRequestConflict")


T = TypeVar("T")

TRIES = 6
FINAL = (
    *(FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(NoCredentialsError, ClipError),
)
"""Errors that another try would not change."""
FINAL_NUMBERS = (errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""The same of a disk."""
RETRY_SECONDS = 120.0
"""After this time, what does not answer is given up."""


def retried(action: Callable[[], T]) -> T:
    """Result of `action`. Storage errors are retried, with waiting times that double and full jitter.

    The client of the storage also retries, within seconds; this bridges half a minute. If `action` still fails, the
    error is raised; StorageError if the storage does not answer in time. No try begins after RETRY_SECONDS.
    """
    start = time.monotonic()
    for attempt in range(TRIES):
        try:
            return action()
        except FINAL:
            raise
        except Exception as error:  # every client library has its own exceptions
            final = isinstance(error, OSError) and error.errno in FINAL_NUMBERS
            spent = time.monotonic() - start
            if attempt == TRIES - 1 or final or is_taken(error) or names_nothing(error) or spent > RETRY_SECONDS:
                if is_timeout(error):
                    tries = f"in {attempt + 1} tries within {spent:.0f} s" if attempt else f"within {spent:.0f} s"
                    text = f"the storage did not answer in time, {tries}: check the network, and run it again"
                    raise StorageError(text) from error
                raise
            time.sleep(random.uniform(0, min(10.0, 0.5 * 2**attempt)))
    raise AssertionError


def check_writable(folder: str) -> None:
    """Write and remove a small file in `folder`.

    Raises RefusedError if such a folder cannot exist, and StorageError if the storage fails.
    """
    check_folder(folder, "output")
    fs, path = filesystem(folder)
    probe = join(path, f".floatcast-write-test-{secrets.token_hex(8)}")  # several jobs may start at the same time
    try:
        if is_local(folder):  # object storage has no folders, and a mistyped bucket must not be created
            fs.makedirs(path, exist_ok=True)
            with _new_file(Path(probe)) as file:
                file.write(b"x")
        else:
            fs.pipe_file(probe, b"x")
        fs.rm_file(probe)
    except MISNAMED as error:
        raise RefusedError(f"{shown(folder)} is not writable: {reason(error)}") from error
    except Exception as error:
        raise_if_trouble(error, f"{shown(folder)} is not writable")
        raise


def check_folder(folder: str, key: str) -> None:
    """Raise RefusedError, which names the setting `key`, if `folder` cannot be a folder because a file is in the way.

    Object storage has no folders, so nothing is in the way there.
    """
    if not is_local(folder):
        return
    path = Path(filesystem(folder)[1])
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if os.path.lexists(place):
            kind = "a link to nothing" if place.is_symlink() else "a file, not a folder"
            where = "" if place == path else f"{shown(folder)} cannot be a folder: "
            raise RefusedError(f"{key}: {where}{shown(str(place))} is {kind}: give the path of a folder")
