"""Damaged files are not removed, but moved into the folder `damaged` of their output, where nothing reads them."""

import hashlib
import logging
import os
import posixpath
import secrets
import shutil
from pathlib import Path

from pipeline.common.errors import RefusedError
from pipeline.storage.objects import filesystem, retried
from pipeline.storage.records import obstacle
from pipeline.storage.trouble import MISNAMED, raise_if_trouble, reason
from pipeline.storage.uris import is_local, join, normal, shown

logger = logging.getLogger(__name__)

DAMAGED = "damaged"

LONGEST = 200
"""Bytes of a name that is kept as it is, so that suffixes still fit into the 255 that a disk allows."""


def shortened(name: str) -> str:
    """A name of at most `LONGEST` bytes, and the same for the same name: the end of a longer one becomes a hash."""
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: LONGEST - 17].decode(errors='ignore')}~{digest}"


def set_aside(uri: str, output: str) -> str:
    """Move the file, folder or link under `uri` into the output's folder `damaged`; returns its new URI.

    Nothing there is overwritten, and a link is moved itself. Returns "" if there is nothing under `uri` any more.
    Raises RefusedError and StorageError.
    """
    here = normal(uri).removeprefix(normal(output).rstrip("/") + "/")
    folder, name = posixpath.split(here)
    # A folder of the output may be anything else than the place of `damaged`.
    target = join(output, DAMAGED, posixpath.basename(folder), f"{shortened(name)}.{secrets.token_hex(8)}")
    fs, source = filesystem(uri)
    try:
        if is_local(uri):
            if not os.path.lexists(source):
                return ""
            place = Path(filesystem(target)[1])
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, place)
        else:
            retried(lambda: fs.copy(source, filesystem(target)[1]))
            retried(lambda: fs.rm_file(source))
    except FileNotFoundError:
        return ""
    except MISNAMED as error:
        raise RefusedError(f"{shown(uri)} could not be moved to {shown(target)}: {reason(error)}") from error
    except Exception as error:
        raise_if_trouble(error, f"{shown(uri)} could not be moved to {shown(target)}")
        raise
    return target


def clear_way(uri: str, output: str) -> None:
    """Set aside a folder, a link to nothing or a special file that has the name of one of our files."""
    if (found := obstacle(uri)) is not None:
        logger.warning("%s: moved to %s", found, shown(set_aside(uri, output)))
