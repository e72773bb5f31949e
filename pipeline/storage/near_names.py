"""What to tell about a file that does not exist: which name nearby was probably meant."""

import os
import re
import time
import unicodedata
import urllib.parse
from collections.abc import Callable
from functools import lru_cache
from itertools import islice

from pipeline.storage.objects import filesystem
from pipeline.storage.s3 import first_names, is_folder
from pipeline.storage.uris import is_local, join, local_path, normal, parent, scheme, shown

NAMES = 10_000
"""Names of a local folder that are looked at; of a folder in S3 it is one page."""
SECONDS = 60
"""For so long a listing is kept, because many rows often name files of the same wrong folder."""

_WINDOWS = re.compile(r"(?:^|/)([A-Za-z]:[\\/].*|\\\\.*)$", re.DOTALL)
"""C:\\folder\\name, C:/folder/name and \\\\server\\share, alone or after the folder of a manifest."""


def missing(uri: str, may_list: Callable[[str], bool] = lambda folder: True) -> str:
    """The sentence for a file that does not exist. Folders are only listed where `may_list` allows it.

    Costs one listing on a disk and in S3, and none elsewhere.
    """
    uri = normal(uri)
    if found := _WINDOWS.search(uri):
        return (
            f"{shown(uri)} does not exist: {shown(found[1])} is a path of Windows; give the path that this machine has "
            "for the file, with / between the folders, or a path relative to the table"
        )
    return f"{shown(uri)} does not exist: {_advice(uri, may_list)}"


def is_folder_there(uri: str) -> bool:
    """Whether a file that cannot be read is a folder; in S3 this is a request."""
    if is_local(uri):
        return os.path.isdir(filesystem(uri)[1])
    if scheme(uri) != "s3":
        return False
    try:
        return is_folder(*filesystem(uri))
    except Exception:  # listing may be forbidden, and every client library has its own exceptions
        return False


def _advice(uri: str, may_list: Callable[[str], bool]) -> str:
    if is_local(uri) and os.path.islink(uri):
        return "it is a link, and the file to which it leads is missing"
    if re.search(r"(^|/)(file|s3):/?[^/]", uri, re.IGNORECASE):
        return "if it is meant as a URI, write file:///folder/name or s3://bucket/name, with these slashes"
    if "\\" in uri:
        turned = uri.replace("\\", "/")
        there = is_local(uri) and may_list(turned) and os.path.exists(turned)
        return f"write / instead of \\ between folders{f', as in {shown(turned)}' if there else ''}"
    folder, name = _first_missing(uri)
    near = _near(folder, name) if may_list(folder) else ""
    what = "file" if join(folder, name) == uri else "folder"
    if near:
        return f"there is {shown(join(folder, near))}{_difference(name, near)}; correct the path or rename the {what}"
    if what == "folder":
        return f"the folder {shown(join(folder, name))} does not exist either; correct the path or upload the files"
    if not is_local(uri) and "?" in uri:
        return "the part from ? on counts as a part of the name; correct the path or upload the file"
    return "correct the path or upload the file"


def _first_missing(uri: str) -> tuple[str, str]:
    """(folder, name) of the first part of a path that does not exist; of the last one in object storage."""
    if is_local(uri):
        path = local_path(uri)
        while not os.path.isdir(parent(path)) and parent(path) != path:
            path = parent(path)
        return parent(path), path.rstrip("/").rsplit("/", 1)[-1]
    return parent(uri.rstrip("/")), uri.rstrip("/").rsplit("/", 1)[-1]


def _near(folder: str, name: str) -> str:
    """A name in the folder that differs in case, form, escapes, spaces at its ends or, if there is no other, in its
    suffix; empty if there is none.
    """
    try:
        names = _names(folder, int(time.time() // SECONDS))
    except Exception:  # listing may be forbidden, and every client library has its own exceptions
        return ""
    for same in (_folded, lambda name: _folded(name).rpartition(".")[0] or _folded(name)):
        wanted = same(name)
        if found := next((other for other in names if other != name and same(other) == wanted), ""):
            return found
    return ""


@lru_cache(maxsize=16)
def _names(folder: str, minute: int) -> tuple[str, ...]:
    if is_local(folder):
        with os.scandir(folder) as entries:
            return tuple(sorted(entry.name for entry in islice(entries, NAMES)))
    return tuple(first_names(*filesystem(folder))) if scheme(folder) == "s3" else ()


def _folded(name: str) -> str:
    plain = urllib.parse.unquote(name.partition("?")[0])
    return unicodedata.normalize("NFKC", plain).casefold().strip()


def _difference(name: str, near: str) -> str:
    """What is different about a name that looks the same, in words; empty if one sees it."""
    if name.strip() == near.strip():
        return ", with other spaces at its ends"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", near):
        return ", with other codes for its accents"
    return ""
