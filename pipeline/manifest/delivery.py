"""What a row says about its delivered file: preset, title, and further audio tracks.

Those are music and effects, for example, or other languages.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.common.errors import ClipError
from pipeline.common.options import SettingError
from pipeline.common.quoted import kind, quoted
from pipeline.manifest.entries import given_in, of_text, with_changed
from pipeline.manifest.pose_spans import with_file
from pipeline.manifest.row_reader import RowReader
from pipeline.manifest.values import Values
from pipeline.media.presets import MXF, PRESETS, Container
from pipeline.media.settings import VideoSettings
from pipeline.media.sound_output import TrackTags
from pipeline.storage.uris import resolve

COLUMN = "audio_tracks"
KEYS = ("uri", "language", "title", "default", "audio_stream")

MOST_TRACKS = 32
"""Further tracks of a clip; each one is decoded, and is in memory until the clip is delivered."""

LONGEST_TITLE = 255
"""Bytes of the title of a file."""

LONGEST_TRACK_TITLE = 127
"""Bytes of the title of a track: MOV counts them with one byte, which readers take for a signed one."""


@dataclass(frozen=True)
class FurtherTrack:
    """A further audio track that a row asks for."""

    uri: str
    """URI or absolute path."""
    language: str | None = None
    """Tag of BCP 47."""
    title: str | None = None
    default: bool = False
    """Whether players begin with it, instead of with the clip's own sound."""
    audio_stream: str | None = None
    """Which audio stream of the file, as for the clip's own."""

    @property
    def tags(self) -> TrackTags:
        """What the delivered file says about it."""
        return TrackTags(self.language, self.title, self.default)

    @property
    def given(self) -> dict[str, Any]:
        """The entry of the list in a manifest."""
        values = {name: getattr(self, name) for name in KEYS}
        return {name: value for name, value in values.items() if value not in (None, False)}


def preset_of(values: Values, video: VideoSettings, *, signs: bool) -> tuple[str | None, VideoSettings]:
    """The preset that a row names, and the settings of its file; `video` has those of the job.

    Raises ClipError value_invalid for a preset that does not fit them, or cannot be signed if the job `signs` files.
    """
    name = values.choice("preset", tuple(PRESETS), "") if "preset" in values.given else None
    try:
        found = video.with_preset(name)
    except SettingError as error:
        raise values.invalid("preset", f"it does not fit video.{error.key}: {error.problem}") from None
    if signs and found.format.container == MXF:
        raise values.invalid("preset", f"{name} is delivered in MXF, which cannot be signed: name another preset")
    return name, found


def title_of(values: Values) -> str | None:
    """The title of a row's file. Raises ClipError value_invalid."""
    title = values.text("title")
    if title is not None and (problem := title_problem(title)):
        raise values.invalid("title", problem)
    return title


def tracks_of(values: RowReader, base: str, container: Container) -> tuple[FurtherTrack, ...]:
    """The tracks of a row for this container; relative paths start at the folder `base`.

    Raises ClipError value_invalid, and what `resolve` and `Values.file` raise.
    """
    try:
        value = of_text(values.given.get(COLUMN))
    except ValueError as error:
        raise values.invalid(COLUMN, str(error)) from None
    if value is None:
        return ()
    if not isinstance(value, list):
        raise values.invalid(COLUMN, f"it is {kind(value)}, and not a list of tracks: {_EXAMPLE}")
    if len(value) > MOST_TRACKS:
        raise values.invalid(COLUMN, f"it has {len(value)} tracks, and {MOST_TRACKS} are the most: leave some out")
    tracks = tuple(_track(values, number, entry, base) for number, entry in enumerate(value, 1))
    if sum(track.default for track in tracks) > 1:
        raise values.invalid(COLUMN, "several tracks are the default: set default for one of them at most")
    if container == MXF and any(track.default for track in tracks):
        raise values.invalid(COLUMN, "MXF has no default track: leave default out, or name a preset in MP4 or MOV")
    return tracks


_EXAMPLE = 'write [{"uri": "music.wav", "title": "Music and effects"}, {"uri": "fr.wav", "language": "fr"}]'


def _track(values: RowReader, number: int, entry: Any, base: str) -> FurtherTrack:
    """One entry of the list, or the path alone."""
    entry = {"uri": entry} if isinstance(entry, str) else entry

    def invalid(problem: str) -> ClipError:
        return values.invalid(COLUMN, f"track {number}: {problem}")

    if not isinstance(entry, Mapping):
        raise invalid(f"it is {kind(entry)}, and not a mapping with a uri: {_EXAMPLE}")
    try:
        given = given_in(entry, KEYS)
    except ValueError as error:
        raise invalid(str(error)) from None
    if not isinstance(given.get("uri"), str):
        raise invalid("it has no uri: give the path or URI of an audio file")
    own = replace(values, given=given, within=f"{COLUMN}: track {number}")
    default, title = given.get("default", False), given.get("title")
    if not isinstance(default, bool):
        raise own.invalid("default", f"{quoted(default)} is neither true nor false")
    if title is not None and (problem := title_problem(title, LONGEST_TRACK_TITLE)):
        raise own.invalid("title", problem)
    uri = resolve(base, values.file(COLUMN, given["uri"]))
    return FurtherTrack(uri, own.language(), title, default, own.audio_stream())


def written_tracks(text: str | None) -> list[FurtherTrack]:
    """The tracks of a row of ours, from its column `audio_tracks`."""
    return [FurtherTrack(**track) for track in json.loads(text or "[]")]


def with_places(values: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """A row of a manifest with other places of its input files; wrong values stay as they are."""
    found = dict(values)

    def placed(value: Any) -> Any:
        return place(str(value)) if isinstance(value, str | Path) else value

    for name in ("image", "audio"):
        found |= {name: placed(found[name])} if name in found else {}
    if "pose" in found:
        found["pose"] = with_file(found["pose"], placed)
    if "faces" in found:
        found["faces"] = with_changed(found["faces"], "audio", placed)
    tracks = found.get(COLUMN)
    with suppress(ValueError):
        tracks = of_text(tracks)
    if isinstance(tracks, list):
        found[COLUMN] = [_with_place(track, place) for track in tracks]
    return found


def _with_place(track: Any, place: Callable[[str], str]) -> Any:
    if isinstance(track, str | Path):
        return place(str(track))
    if isinstance(track, Mapping) and isinstance(uri := track.get("uri"), str | Path):
        return {**track, "uri": place(str(uri))}
    return track


def title_problem(title: Any, most: int = LONGEST_TITLE) -> str:
    """Why this is no title of a file or a track with at most so many bytes, as a clause; empty if it is one."""
    if not isinstance(title, str):
        return f"{quoted(title)} is not text"
    if len(title.encode("utf-8", "replace")) > most:
        return f"{quoted(title)} is longer than {most} bytes in UTF-8: shorten it"
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in title):
        return f"{quoted(title)} contains control characters, such as a line break: remove them"
    return ""
