"""Paths and URIs as texts: their parts, and what they are relative to.

A plain path is taken literally. A file:// URI is decoded (RFC 8089). An s3:// URI is not, as in every client of S3:
%20 and // are parts of an object's name.
"""

import os
import posixpath
import unicodedata
import urllib.parse
from collections.abc import Iterator

from pipeline.common.errors import RefusedError

LOCAL_HOSTS = ("", "localhost")

SHOWN = 300
"""Characters of a path that a message quotes."""


def scheme(uri: str) -> str:
    """`s3` for s3://bucket/key and S3://bucket/key, `file` for a plain path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator and not uri.startswith("/") else "file"


def is_local(uri: str) -> bool:
    """Whether `uri` is a plain path or a file:// URI."""
    return scheme(uri) == "file"


def normal(uri: str) -> str:
    """A URI with its scheme in lower case, and a file:// URI of this machine as a plain path."""
    kind = scheme(uri)
    if kind == "file":
        return local_path(uri) if file_host(uri) in LOCAL_HOSTS else uri
    return f"{kind}{uri[len(kind) :]}"


def file_host(uri: str) -> str:
    """The host of a file:// URI; empty for all other URIs and for plain paths."""
    return "" if uri.startswith("/") or "://" not in uri else _parts(uri)[0] if is_local(uri) else ""


def local_path(uri: str) -> str:
    """The path of a local URI, with the escapes of a file:// URI decoded.

    Programs that join file:// and a path leave a % in a name as it is. So if the decoded path does not exist, and the
    literal one does, that one is meant.
    """
    if "://" not in uri or uri.startswith("/"):
        return uri
    literal = "/" + _parts(uri)[1]
    decoded = urllib.parse.unquote(literal)
    return literal if decoded != literal and not os.path.lexists(decoded) and os.path.lexists(literal) else decoded


def _parts(uri: str) -> tuple[str, str]:
    host, _, path = uri.partition("://")[2].partition("/")
    return host.lower(), path


def absolute(uri: str) -> str:
    """A plain path as an absolute one (workers have another working directory); other URIs without a trailing slash.

    Raises RefusedError for a zero byte, which a settings file may contain.
    """
    if "\0" in uri:
        raise RefusedError(f"{shown(uri)} contains a zero byte, which no name has: remove it")
    if not is_local(uri):
        return normal(uri).rstrip("/")
    path = normal(uri)
    if file_host(path):  # file://folder has always meant a folder here
        path = urllib.parse.unquote(path.partition("://")[2])
    return os.path.abspath(os.path.expanduser(path))


def join(folder: str, *names: str) -> str:
    """`folder`/a/b, for paths and URIs."""
    return posixpath.join(folder, *names)


def parent(uri: str) -> str:
    """The folder that contains `uri`."""
    return posixpath.dirname(uri)


def resolve(base: str, value: str) -> str:
    """Resolve a path or URI from a manifest; relative ones start at the folder `base` that contains the manifest.

    Beside a local manifest, ~/ is the home folder of the user who runs the job, unless a folder of that name is there.
    """
    if os.path.isabs(value) or "://" in value:
        uri = normal(value)
        return uri if is_local(uri) else _without_dots(uri)
    path = join(base, value)
    if not is_local(base):
        return _without_dots(path)
    if value.startswith("~/") and not os.path.lexists(join(base, "~")):
        return os.path.expanduser(value)
    return path


def _without_dots(uri: str) -> str:
    """Without `.` and `..`, which object storage would take literally; the bucket stays. Repeated slashes count."""
    head, separator, path = uri.partition("://")
    bucket, *names = path.split("/")
    kept: list[str] = []
    for name in names:
        if name == "..":
            del kept[-1:]
        elif name != ".":
            kept.append(name)
    return f"{head}{separator}{'/'.join([bucket, *kept])}"


def spellings(uri: str) -> Iterator[str]:
    """Other spellings of an input that does not exist under its exact name: é in one character or in two (a Mac writes
    two), and an object's name without the empty parts that a disk would ignore.
    """
    known = {uri}
    forms = [unicodedata.normalize(form, uri) for form in ("NFC", "NFD")]
    if is_local(uri):
        others = [_on_disk(uri)] if forms[0] != forms[1] else []
    else:
        head, separator, path = uri.partition("://")
        others = [*forms, f"{head}{separator}{posixpath.normpath(path)}"]
    for other in others:
        if other not in known:
            known.add(other)
            yield other


def _on_disk(path: str) -> str:
    """A path with each of its names in the form that is on the disk, from the root on."""
    found = ""
    for name in local_path(path).split("/"):
        forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
        found += next((form for form in forms if os.path.lexists(f"{found}{form}")), name) + "/"
    return found.rstrip("/")


def shown(uri: str) -> str:
    """A path or URI for a message: in quotes if it has spaces at its ends or characters that are not seen, and cut if
    it is very long.
    """
    text = uri if len(uri) <= SHOWN else f"{uri[: SHOWN // 3]}...{uri[-SHOWN // 2 :]}"
    return text if text.isprintable() and text == text.strip() else repr(text)
