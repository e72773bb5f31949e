"""Files that settings name, such as networks, certificates and reviews: what is wrong with one is said of its key."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.common.errors import ManifestError, RefusedError, StorageError
from pipeline.common.options import SettingError
from pipeline.storage.near_names import is_folder_there, missing
from pipeline.storage.objects import check_folder, file_info, filesystem, read_bytes
from pipeline.storage.trouble import raise_if_trouble, reason
from pipeline.storage.uris import is_local, shown


def read_setting(key: str, uri: str) -> bytes:
    """Contents of the file that the setting `key` names. Raises SettingError of this key, and StorageError."""
    try:
        data = read_bytes(uri)
    except (IsADirectoryError, NotADirectoryError):
        data = None
    except Exception as error:  # every client library has its own exceptions
        raise_if_trouble(error, f"{key}: {shown(uri)} could not be read")
        raise SettingError(key, f"{shown(uri)} could not be read: {reason(error)}") from error
    if data is not None:
        return data
    raise _no_file(key, uri, folder=is_folder_there(uri))


def check_setting(key: str, uri: str) -> None:
    """`read_setting` without reading the file, which may be large."""
    try:
        found = file_info(uri)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except Exception as error:  # every client library has its own exceptions
        raise_if_trouble(error, f"{key}: {shown(uri)} could not be read")
        raise
    if found is not None and found["type"] != "directory":
        return
    raise _no_file(key, uri, folder=found is not None or is_folder_there(uri))


def _no_file(key: str, uri: str, *, folder: bool) -> SettingError:
    if folder:
        return SettingError(key, f"{shown(uri)} is a folder, not a file: give the path of a file")
    return SettingError(key, missing(uri))


def check_given_folder(key: str, uri: str, hint: str = "") -> None:
    """Raise RefusedError if the setting `key` names a local folder that does not exist, or a file.

    The message for a folder that does not exist ends with the `hint`.
    """
    check_folder(uri, key)
    if is_local(uri) and not os.path.isdir(filesystem(uri)[1]):
        raise RefusedError(f"{key}: {missing(uri)}{hint}")


@contextmanager
def of_setting(key: str) -> Iterator[None]:
    """Begin the message of what is refused, or cannot be read, with the setting that named it."""
    try:
        yield
    except (RefusedError, StorageError) as error:
        if str(error).startswith(key):
            raise
        kind = next(kind for kind in (ManifestError, RefusedError, StorageError) if isinstance(error, kind))
        raise kind(f"{key}: {error}") from error
