"""The videos and who speaks in them, from a folder or from a table with the column `video`."""

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from models import EMOTIONS
from pipeline.common.errors import ManifestError
from pipeline.common.redaction import carries_credentials
from pipeline.manifest.clip import is_absent
from pipeline.manifest.rows import FORMATS, read_rows
from pipeline.storage.objects import absolute, filesystem, is_local, parent, raise_if_trouble, resolve, retried
from pipeline.training_data.source_video import SUFFIXES

KNOWN = ("video", "speaker", "language", "emotion", "curves")


@dataclass(frozen=True)
class Video:
    """One file to prepare."""

    key: str
    """Name of its shard: the file's name, and eight digits that stand for its full path."""
    uri: str
    """URI or absolute path."""
    speaker: str
    language: str | None = None
    emotion: str | None = None
    """A name of models.EMOTIONS."""
    curves: str | None = None
    """URI or path of an .npy file with (T,K) floats: known values of each frame, at 25 per second."""
    split: str = "train"
    size: int = 0
    """Size in bytes; 0 if it is unknown."""
    fingerprint: str = ""
    """The same as long as the same samples would be made."""

    def planned(self, *, split: str, size: int, fingerprint: str) -> "Video":
        """The same video with the values of a plan."""
        return replace(self, split=split, size=size, fingerprint=fingerprint)


def read_source(uri: str) -> list[Video]:
    """Videos of a folder, or of a table (recognised by its suffix), in order. Raises ManifestError."""
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    videos = list(_of_table(uri) if uri.lower().endswith(FORMATS) else _of_folder(uri))
    if not videos:
        raise ManifestError(f"{uri} contains no videos ({', '.join(SUFFIXES)})")
    return videos


def _place(uri: str, base: str) -> str:
    """Path of a video relative to `base`, or its URI if it is elsewhere."""
    return uri.removeprefix(base.rstrip("/") + "/")


def default_speaker(uri: str, base: str) -> str:
    """Name of the folder that contains the video, or of the file without its suffix if that folder is `base` itself."""
    folder, name = posixpath.split(_place(uri, base))
    return posixpath.basename(folder) or name.rpartition(".")[0]


def video_key(uri: str, base: str) -> str:
    """Name for the shard of a video, which stays the same if the folder `base` is moved with the video."""
    place = _place(uri, base)
    name = unicodedata.normalize("NFKD", posixpath.basename(place).rpartition(".")[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "video"
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _of_folder(folder: str) -> Iterator[Video]:
    try:
        fs, root = filesystem(folder)
        root = root.rstrip("/")
        found = retried(lambda: fs.find(root, detail=True))
    except Exception as error:
        raise_if_trouble(error, f"{folder} could not be listed")
        raise ManifestError(f"{folder} could not be listed: {type(error).__name__}: {error}") from error
    if not found and is_local(folder) and not fs.exists(root):
        raise ManifestError(f"{folder} does not exist: give a folder of videos, or a table ({', '.join(FORMATS)})")
    for path in sorted(found):
        name = path.removeprefix(root).lstrip("/")
        if not name.lower().endswith(SUFFIXES) or posixpath.basename(name).startswith("."):
            continue
        uri = f"{folder.rstrip('/')}/{name}"
        size = int(found[path].get("size") or 0)
        yield Video(video_key(uri, folder), uri, default_speaker(uri, folder), size=size)


def _of_table(uri: str) -> Iterator[Video]:
    base = parent(uri)
    rows: dict[str, int] = {}
    for row, values in read_rows(uri):
        if not isinstance(values, dict):
            raise ManifestError(f"{uri}, row {row}: the line is not a JSON object ({values})")
        texts = {name: _text(uri, row, name, values.get(name)) for name in KNOWN}
        place, emotion = texts["video"], texts["emotion"]
        if place is None:
            raise ManifestError(
                f"{uri}, row {row}, column video: a value is required; the table has {', '.join(values)}"
            )
        if emotion is not None and emotion not in EMOTIONS:
            raise ManifestError(f"{uri}, row {row}, column emotion: {emotion!r} is not one of {', '.join(EMOTIONS)}")
        video = resolve(base, place)
        curves = texts["curves"] and resolve(base, texts["curves"])
        for column, value in (("video", video), ("curves", curves or "")):
            if carries_credentials(value):
                raise ManifestError(f"{uri}, row {row}, column {column}: it contains credentials; remove them")
        if video in rows:
            raise ManifestError(f"{uri}, row {row}, column video: {place!r} is already in row {rows[video]}")
        rows[video] = row
        speaker = texts["speaker"] or default_speaker(video, base)
        yield Video(video_key(video, base), video, speaker, texts["language"], emotion, curves)


def _text(uri: str, row: int, column: str, value: object) -> str | None:
    if is_absent(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with gaps
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ManifestError(f"{uri}, row {row}, column {column}: {value!r} is not text")
    return str(value).strip() or None
