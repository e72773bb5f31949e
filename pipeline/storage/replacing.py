"""Writing in place of exactly what one has seen: so that of two writers one finds out about the other."""

import posixpath

from filelock import FileLock

from pipeline.storage.objects import (
    filesystem,
    is_local,
    is_taken,
    join,
    parent,
    read_bytes,
    retried,
    scheme,
    write_bytes,
)


def replace_bytes(data: bytes, uri: str, expected: bytes) -> bool:
    """Write in place of exactly `expected`; False, and nothing changed, where something else is there, or nothing.

    S3: one conditional write (If-Match). Local disk: under a lock of the file system. On other object storage there is
    a moment between looking and writing in which another writer is not seen.
    """
    fs, path = filesystem(uri)
    if is_local(uri):
        with FileLock(join(parent(path), f".{posixpath.basename(path)}.guard")):
            if read_bytes(uri) != expected:
                return False
            write_bytes(data, uri)
            return True
    try:
        tag = retried(lambda: fs.info(path)).get("ETag")
        if read_bytes(uri) != expected:
            return False
        condition = {"IfMatch": tag} if scheme(uri) == "s3" and tag else {}
        retried(lambda: fs.pipe_file(path, data, **condition))
    except FileNotFoundError:
        return False
    except Exception as error:
        if is_taken(error):
            return False
        raise
    return True
