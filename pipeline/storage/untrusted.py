"""Input files, which come from other people: what may be read, and how large it may be."""

import os
import posixpath
import tempfile
import threading
import unicodedata
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.redaction import carries_credentials
from pipeline.storage.near_names import is_folder_there, missing
from pipeline.storage.objects import fetch_file, file_info, filesystem, retried
from pipeline.storage.possible_names import why_impossible
from pipeline.storage.s3 import read_object
from pipeline.storage.trouble import names_nothing, reason
from pipeline.storage.uris import LOCAL_HOSTS, file_host, is_local, local_path, normal, scheme, shown, spellings

T = TypeVar("T")


def check_allowed(uri: str, limits: Limits) -> None:
    """Raise ClipError uri_not_allowed unless an input may be read from `uri`.

    Its scheme must be on the allow-list, and it must be inside one of limits.input_prefixes if there are any. Chained
    URIs (zip://a::s3://b), credentials in URIs, control characters and devices are never allowed.
    """
    reason = _refusal(uri, limits)
    if reason:
        raise ClipError("uri_not_allowed", f"{shown(uri)} may not be read: {reason}")


def _refusal(uri: str, limits: Limits) -> str:
    """Why `uri` may not be read; empty if it may."""
    if carries_credentials(uri):
        return "it contains credentials; remove them, because the storage reads credentials from the environment"
    if "::" in uri or scheme(uri) not in limits.allowed_schemes:
        schemes = ", ".join(limits.allowed_schemes)
        return f"the allowed schemes are {schemes} (limits.allowed_schemes); copy the file to such a place"
    path = local_path(uri) if is_local(uri) else uri
    if any(unicodedata.category(character) == "Cc" for character in uri + path):
        return "it contains control characters; rename the file"
    if is_local(uri):
        if file_host(uri) not in LOCAL_HOSTS:
            return "a file:// URI must have three slashes and an absolute path, and no host: file:///folder/name"
        # Reading a pipe or /dev/zero would never end.
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            return "it is a device, a pipe or a socket, not a file; give the path of a file"
    if not _is_inside(uri, limits):
        prefixes = " or ".join(limits.input_prefixes)
        return f"it is not inside {prefixes} (limits.input_prefixes); move the file there"
    return ""


def _is_inside(uri: str, limits: Limits) -> bool:
    """Whether the limits allow this place."""
    return not limits.input_prefixes or any(_is_under(uri, prefix) for prefix in limits.input_prefixes)


def _is_under(uri: str, prefix: str) -> bool:
    """Whether `uri` names something inside the folder `prefix`."""
    if scheme(uri) != scheme(prefix):
        return False
    if is_local(uri):
        # The path that is actually opened, without links; %2e has no special meaning in a plain one.
        place, folder = (os.path.realpath(filesystem(one)[1]) for one in (uri, prefix))
        return os.path.commonpath([place, folder]) == folder
    uri, folder = normal(uri), normal(prefix).rstrip("/") + "/"
    # Object storage takes names literally, but a gateway in front of it may resolve them: both readings must stay
    # inside.
    return uri.startswith(folder) and _resolved(uri).startswith(_resolved(folder) + "/")


def _resolved(uri: str) -> str:
    """A URI with its escapes decoded, even if they are nested, and without `..`, `.` and repeated slashes."""
    while (plain := urllib.parse.unquote(uri)) != uri:
        uri = plain
    head, _, path = uri.partition("://")
    return f"{head}://{posixpath.normpath(path)}"


def under_its_spelling(uri: str, limits: Limits, action: Callable[[str], T]) -> T:
    """`action` on an input that may be read: under its exact name, or under another spelling of it that exists.

    Raises ClipError uri_not_allowed, input_not_found for a name that nothing can have, and whatever `action` raises for
    the exact name.
    """
    check_allowed(uri, limits)
    if problem := why_impossible(uri):
        raise ClipError("input_not_found", f"{shown(uri)} cannot exist: {problem}")
    try:
        return action(uri)
    except FileNotFoundError:
        for other in spellings(uri):
            if not _refusal(other, limits):
                with suppress(FileNotFoundError):
                    return action(other)
        raise


def read_input(uri: str, limits: Limits) -> bytes:
    """The contents of an input file. Raises ClipError with a specific code for every way in which this can fail."""

    def read(name: str) -> bytes:
        fs, path = filesystem(name)
        if scheme(name) == "s3":
            return retried(lambda: read_object(fs, path, lambda size: _check_size(uri, size, limits))[0])
        size = _size(name, limits)
        return retried(lambda: _whole(fs.cat_file(path), size))

    return _opened(uri, limits, read)


@contextmanager
def input_file(uri: str, limits: Limits) -> Iterator[Path]:
    """An input as a local file for as long as the context lasts; remote files are copied.

    Raises ClipError like `read_input`.
    """
    with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:

        def fetch(name: str) -> Path:
            size = _size(name, limits)
            if is_local(name):
                return Path(filesystem(name)[1])
            file = Path(folder) / "input"
            fetch_file(name, file, size)
            return file

        yield _opened(uri, limits, fetch)


class RecentInputs:
    """The inputs that were read last, kept in memory because many clips share them, such as portraits.

    A file that changes meanwhile is not read again, so use one instance per worker and run. Several threads may use it.
    """

    def __init__(self, limits: Limits, megabytes: float = 64.0) -> None:
        """`megabytes` bounds the memory; larger files are not kept, and neither are local ones."""
        self._limits, self._most, self._used = limits, megabytes * 1e6, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, uri: str) -> bytes:
        """`read_input`, without a request if the file was read recently. Errors are not kept."""
        with self._lock:
            if (known := self._kept.get(uri)) is not None:
                self._kept.move_to_end(uri)
                return known
        data = read_input(uri, self._limits)
        if not is_local(uri):
            self._keep(uri, data)
        return data

    def _keep(self, uri: str, data: bytes) -> None:
        with self._lock:
            if len(data) > self._most or uri in self._kept:
                return
            self._kept[uri] = data
            self._used += len(data)
            while self._used > self._most:
                _, dropped = self._kept.popitem(last=False)
                self._used -= len(dropped)


def _opened(uri: str, limits: Limits, action: Callable[[str], T]) -> T:
    """`action` on an input that may be read; all of its errors become ClipError."""
    try:
        return under_its_spelling(uri, limits, action)
    except (FileNotFoundError, NotADirectoryError):
        if is_folder_there(uri):
            raise _folder(uri) from None
        raise ClipError("input_not_found", missing(uri, lambda folder: _is_inside(folder, limits))) from None
    except IsADirectoryError:
        raise _folder(uri) from None
    except ClipError:
        raise
    except Exception as error:  # every client library has its own exceptions
        code = "input_not_found" if names_nothing(error) else "storage_error"
        raise ClipError(code, f"{shown(uri)} could not be read: {reason(error)}") from error


def _size(uri: str, limits: Limits) -> int:
    """Size of an input that is neither empty nor too large. Raises ClipError and FileNotFoundError."""
    info = file_info(uri)
    if info["type"] == "directory":
        raise _folder(uri)
    _check_size(uri, info["size"], limits)
    return info["size"]


def _check_size(uri: str, size: int, limits: Limits) -> None:
    if size == 0:
        raise ClipError("input_empty", f"{shown(uri)} has 0 bytes: upload it again")
    if size > limits.max_file_megabytes * 1e6:
        raise ClipError(
            "input_too_large",
            f"{shown(uri)} has {size / 1e6:.0f} MB, more than limits.max_file_megabytes = "
            f"{limits.max_file_megabytes:g}: make the file smaller, or raise the limit",
        )


def _folder(uri: str) -> ClipError:
    return ClipError("input_not_found", f"{shown(uri)} is a folder, not a file: give the path of a file")


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise OSError(f"only {len(data)} of {size} bytes were read")
    return data
