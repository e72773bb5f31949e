"""The videos and who speaks in them, from a folder or from a table with the column `video`."""

import hashlib
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from models import EMOTIONS
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.quoted import quoted
from pipeline.common.redaction import carries_credentials
from pipeline.manifest.noticed import Notices
from pipeline.manifest.rows import FORMATS, read_rows
from pipeline.manifest.values import Values, is_absent
from pipeline.storage.objects import filesystem, retried
from pipeline.storage.trouble import raise_if_trouble, reason
from pipeline.storage.uris import absolute, is_local, parent, resolve
from pipeline.training_data.source_video import SUFFIXES

LONG_KEY = 32
"""Digits that stand for a path where eight are the same for two of them."""

KNOWN = ("video", "speaker", "language", "emotion", "curves")


@dataclass(frozen=True)
class Video:
    """One file to prepare."""

    key: str
    """Name of its shard: the file's name, and digits that stand for its full path."""
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


def read_source(uri: str, notices: Notices | None = None, most: int = MAX_ROWS) -> list[Video]:
    """Videos of a folder, or of a table (recognised by its suffix), in order.

    Raises ManifestError, also for a table of more than `most` rows. `notices` gets what was understood of a table
    although it is not written as the guide says.
    """
    uri = absolute(uri)
    if carries_credentials(uri):
        raise ManifestError(
            f"{uri} contains credentials: remove them, because the storage reads credentials from the environment"
        )
    videos = list(_of_table(uri, notices, most) if uri.lower().endswith(FORMATS) else _of_folder(uri))
    if not videos:
        raise ManifestError(f"{uri} contains no videos ({', '.join(SUFFIXES)})")
    base = parent(uri) if uri.lower().endswith(FORMATS) else uri
    return _with_keys_of_their_own(videos, base)


def _with_keys_of_their_own(videos: list[Video], base: str) -> list[Video]:
    """The videos, those whose keys are the same with longer ones.

    All keys are not longer, because what was prepared under the short ones must be found again. Raises ManifestError.
    """
    shared = {key for key, number in Counter(video.key for video in videos).items() if number > 1}
    if not shared:
        return videos
    named = [
        replace(video, key=video_key(video.uri, base, digits=LONG_KEY)) if video.key in shared else video
        for video in videos
    ]
    if len({video.key for video in named}) < len(named):
        raise ManifestError(f"{base} has two videos whose shards would have the same name: rename one of them")
    return named


def _place(uri: str, base: str) -> str:
    """Path of a video relative to `base`, or its URI if it is elsewhere."""
    return uri.removeprefix(base.rstrip("/") + "/")


def default_speaker(uri: str, base: str) -> str:
    """Name of the folder that contains the video, or of the file without its suffix if that folder is `base` itself."""
    folder, name = posixpath.split(_place(uri, base))
    return posixpath.basename(folder) or name.rpartition(".")[0]


def video_key(uri: str, base: str, digits: int = 8) -> str:
    """Name for the shard of a video, which stays the same if the folder `base` is moved with the video.

    It ends with so many hexadecimal digits that stand for its path.
    """
    place = _place(uri, base)
    name = unicodedata.normalize("NFKD", posixpath.basename(place).rpartition(".")[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "video"
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:digits]}"


def _of_folder(folder: str) -> Iterator[Video]:
    try:
        fs, root = filesystem(folder)
        root = root.rstrip("/")
        found = retried(lambda: fs.find(root, detail=True))
    except Exception as error:
        raise_if_trouble(error, f"{folder} could not be listed")
        raise ManifestError(f"{folder} could not be listed: {reason(error)}") from error
    if not found and is_local(folder) and not fs.exists(root):
        raise ManifestError(f"{folder} does not exist: give a folder of videos, or a table ({', '.join(FORMATS)})")
    for path in sorted(found):
        name = path.removeprefix(root).lstrip("/")
        if not name.lower().endswith(SUFFIXES) or posixpath.basename(name).startswith("."):
            continue
        uri = f"{folder.rstrip('/')}/{name}"
        size = int(found[path].get("size") or 0)
        yield Video(video_key(uri, folder), uri, default_speaker(uri, folder), size=size)


def _of_table(uri: str, notices: Notices | None, most: int) -> Iterator[Video]:
    base = parent(uri)
    rows: dict[str, str] = {}
    try:
        for row in read_rows(uri, KNOWN, notices, most=most):
            if row.problem:
                raise ClipError("row_unreadable", f"{row.place}: {row.problem}")
            values = Values(row.place, {name: value for name, value in row.values.items() if not is_absent(value)})
            has = ", ".join(name for name in row.values if name.isprintable())[:200]
            place = values.required("video", f"a value is required; the table has {has}")
            video = resolve(base, values.file("video", place))
            emotion, curves = values.text("emotion"), values.text("curves")
            if emotion is not None and emotion not in EMOTIONS:
                raise values.invalid("emotion", f"{quoted(emotion)} is not one of {', '.join(EMOTIONS)}")
            if video in rows:
                raise values.invalid("video", f"{quoted(place)} is already in {rows[video]}")
            rows[video] = row.place
            yield Video(
                video_key(video, base),
                video,
                values.text("speaker") or default_speaker(video, base),
                values.text("language"),
                emotion,
                curves and resolve(base, values.file("curves", curves)),
            )
    except ClipError as error:
        raise ManifestError(f"{uri}, {error.message}") from None
