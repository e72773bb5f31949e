"""Replacing exactly the content that was read before, so that one of two writers notices the other."""

import os
import posixpath

from filelock import FileLock

from pipeline.storage.objects import filesystem, is_taken, read_bytes, retried, write_bytes
from pipeline.storage.s3 import read_object
from pipeline.storage.set_aside import set_aside
from pipeline.storage.uris import is_local, join, parent, scheme


def replace_bytes(data: bytes, uri: str, expected: bytes) -> bool:
    """Replace exactly `expected`. Returns False and changes nothing if the content differs or does not exist.

    On S3 this is one read and one conditional write (If-Match), and on a local disk it is done under a file lock. On
    other object storage, another writer is not noticed between reading and writing.
    """
    fs, path = filesystem(uri)
    if is_local(uri):
        guard = join(parent(path), f".{posixpath.basename(path)}.guard")
        if os.path.islink(guard) or os.path.isdir(guard):  # somebody else's
            set_aside(guard, parent(path))
        with FileLock(guard):
            if read_bytes(uri) != expected:
                return False
            write_bytes(data, uri)
            return True
    try:
        found, tag = retried(lambda: read_object(fs, path)) if scheme(uri) == "s3" else (read_bytes(uri), "")
        if found != expected:
            return False
        retried(lambda: fs.pipe_file(path, data, **({"IfMatch": tag} if tag else {})))
    except FileNotFoundError:
        return False
    except Exception as error:
        if is_taken(error):
            return False
        raise
    return True
