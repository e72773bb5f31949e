"""Names that no file and no object can have: such a row is rejected at once, without asking the storage for minutes."""

import errno
import os
import re
import unicodedata

from pipeline.storage.uris import is_local, local_path, scheme

LONGEST_NAME = 255
"""Bytes of one name on the disks of all common systems."""
LONGEST_PATH = 4095
"""Bytes of a path that Linux opens."""
LONGEST_KEY = 1024
"""Bytes of an object's name in S3."""
BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:.+")
"""What any S3 takes for a bucket; stricter rules differ between storages."""


def why_impossible(uri: str) -> str:
    """Why nothing can have this name, and what to do; empty if something can."""
    if is_local(uri):
        return _of_path(local_path(uri))
    return _of_object(uri) if scheme(uri) == "s3" else ""


def _of_path(path: str) -> str:
    try:
        names = [_bytes(name) for name in path.split("/")]
        longest = max(names)
        if longest > LONGEST_NAME:
            return f"a name in it has {longest} bytes, and a disk allows {LONGEST_NAME}: give a shorter name"
        if (whole := sum(names) + len(names) - 1) > LONGEST_PATH:
            return f"it has {whole} bytes, and {LONGEST_PATH} are allowed: give a shorter path"
        os.stat(path)
    except ValueError:
        return "it contains characters that no name can have: write the name anew"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "its links lead in a circle: give the path of the file itself"
    return ""


def _bytes(name: str) -> int:
    """Length of a name in the shorter of the spellings of its accents. Raises ValueError."""
    return min(len(os.fsencode(form)) for form in (name, unicodedata.normalize("NFC", name)))


def _of_object(uri: str) -> str:
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not BUCKET.fullmatch(bucket):
        return "its bucket has 3 to 255 letters, digits, dots and hyphens in any S3: check the name of the bucket"
    if not key:
        return "it names a bucket, and no file in it: give the path of a file"
    try:
        length = len(key.encode())
    except ValueError:
        return "it contains characters that no name can have: write the name anew"
    if length > LONGEST_KEY:
        return f"its name has {length} bytes, and S3 allows {LONGEST_KEY}: give a shorter name"
    return ""
