"""Our own files on the storage, as a crash, a disk or a person may have left them: whole, damaged or not there."""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import RefusedError
from pipeline.storage.objects import filesystem, read_bytes, retried
from pipeline.storage.trouble import CLIENTS, raise_if_trouble
from pipeline.storage.uris import is_local, shown

LARGEST = 2**26
"""No record has more bytes; a larger file is not read."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Damaged:
    """A file that is not what its name says."""

    uri: str
    why: str
    """A clause, such as `it is empty`."""

    def __str__(self) -> str:
        return f"{shown(self.uri)} is damaged ({self.why})"


class DamagedError(RefusedError):
    """A damaged file, where nothing else has what it said."""

    def __init__(self, found: Damaged) -> None:
        super().__init__(f"{found}: restore it from a copy, or move it away and run the same command again")
        self.found = found

    def __reduce__(self) -> tuple[type, tuple[Damaged]]:
        return DamagedError, (self.found,)


def read_json(uri: str, problem: Callable[[Record], str] = lambda record: "") -> Record | Damaged | None:
    """The JSON object under `uri`; None if there is none.

    `problem` says what is wrong with an object, or nothing. Raises StorageError if the storage fails.
    """
    try:
        data = retried(lambda: _local(uri)) if is_local(uri) else read_bytes(uri)
    except Exception as error:
        raise_if_trouble(error, f"{shown(uri)} could not be read")
        raise
    if data is None or isinstance(data, Damaged):
        return data
    why = ""
    try:
        record = json.loads(data)
        why = problem(record) if isinstance(record, dict) else "it is not a JSON object"
    except (ValueError, RecursionError):
        why = "it is cut off or is not JSON" if data.strip(b"\0 \r\n\t") else "it is empty"
    return Damaged(uri, why) if why else record


def _local(uri: str) -> bytes | Damaged | None:
    path = filesystem(uri)[1]
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    except FileNotFoundError:
        return Damaged(uri, "it is a link to nothing") if os.path.lexists(path) else None
    except NotADirectoryError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return Damaged(uri, "it is a link to itself" if error.errno == errno.ELOOP else "it is not a file")
        raise
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        return Damaged(uri, "it is a folder, not a file" if stat.S_ISDIR(found.st_mode) else "it is not a file")
    with os.fdopen(number, "rb") as file:
        if found.st_size > LARGEST:
            return Damaged(uri, f"it has {found.st_size} bytes, more than any such file")
        return file.read()


def obstacle(uri: str) -> Damaged | None:
    """What is under `uri` if it is neither a file nor nothing: a folder, a link to nothing, or a special file."""
    if not is_local(uri):
        return None
    path = filesystem(uri)[1]
    if os.path.isfile(path) or not os.path.lexists(path):
        return None
    if os.path.islink(path) and not os.path.exists(path):
        return Damaged(uri, "it is a link to nothing")
    return Damaged(uri, "it is a folder, not a file" if os.path.isdir(path) else "it is not a file")


def damaged_jpeg(uri: str) -> Damaged | None:
    """A JPEG file on a local disk that is cut off or something else, by its two ends; None if there is none."""
    with suppress(FileNotFoundError), open(filesystem(uri)[1], "rb") as file:
        start, size = file.read(2), file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        if why := jpeg_problem(start + file.read()):
            return Damaged(uri, why)
    return None


def jpeg_problem(data: bytes) -> str:
    """What is wrong with a JPEG file by its two ends, as a clause; empty if nothing is."""
    if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        return ""
    return "it is cut off or is not a JPEG image" if data else "it is empty"


@contextmanager
def reading(uri: str, what: str) -> Iterator[None]:
    """Turn the error of a reader of the file `uri` into DamagedError: it is not `what`, or cut off.

    Errors of the storage, and FileNotFoundError, pass.
    """
    if (found := obstacle(uri)) is not None:
        raise DamagedError(found)
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:  # a reader of damaged bytes raises anything
        if is_of_the_storage(error):
            raise
        raise DamagedError(Damaged(uri, f"it is cut off or is not {what}")) from error


def is_of_the_storage(error: Exception) -> bool:
    """Whether an error comes from the storage, and not from what is in a file: Arrow reports both as OSError."""
    if isinstance(error, OSError):
        return error.errno is not None or type(error) is not OSError  # a TimeoutError has no number
    return any(kind.__module__.partition(".")[0] in CLIENTS for kind in type(error).__mro__)
