"""clip_ids: names of clips that become file names and object keys, so that nothing in one may point elsewhere."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted

LONGEST = 200
"""Characters; in the names of files that would be too long for a disk, a hash stands for the end of a clip_id
(`pipeline.ledger.done_record`).
"""

_PLAIN = re.compile(r"[A-Za-z0-9 ._-]*")
"""A name of characters that are allowed everywhere; others are looked at one by one."""

_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])( *[.].*)?", re.IGNORECASE)


def id_of(place: str, given: str | None, values: Mapping[str, Any]) -> tuple[str, str]:
    """(clip_id of a row, the name of its audio file if that is no suitable clip_id); `given` is what the row says.

    Raises ClipError.
    """
    return derived_id(place, values) if given is None else (checked_id(place, given), "")


def checked_id(place: str, clip_id: str) -> str:
    """A clip_id that the table gives, in the form in which it is used. Raises ClipError."""
    clip_id = unicodedata.normalize("NFC", clip_id)
    if problem := file_name_problem(clip_id):
        raise ClipError("clip_id_invalid", f"{place}, column clip_id: {quoted(clip_id)} {problem}")
    return clip_id


def derived_id(place: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """(clip_id of a row that gives none, the name of its audio file if that is no suitable clip_id).

    The clip_id is the file's name without its folder and suffix. Of an unsuitable name, the unsuitable characters are
    replaced, and digits that stand for the whole name are appended, so that different names stay different. Raises
    ClipError if nothing is left.
    """
    name = unicodedata.normalize("NFC", audio_name(values))
    if not file_name_problem(name):
        return name, ""
    kept = without_unsuitable(name).strip(" ._").encode()[:100].decode(errors="ignore").strip(" ._")
    made = f"{kept or 'clip'}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    made = f"_{made}" if _DEVICE.fullmatch(made) else made
    if not name or (problem := file_name_problem(made)):
        problem = "is empty" if not name else problem
        raise ClipError(
            "clip_id_invalid",
            f"{place}: the table gives no clip_id, and the name of the audio file, {quoted(name)}, {problem}: fill in "
            "the column clip_id",
        )
    return made, name


def without_unsuitable(name: str) -> str:
    """A name without what separates folders, is unseen or points upwards, as a part of a file's name."""
    kept = "".join("_" if _cannot_name(character) else character for character in name)
    return re.sub(r"\.\.+", "_", kept).strip(" .")


def audio_name(values: Mapping[str, Any]) -> str:
    """Name of the audio file of a row without its folder and suffix; empty if the row names none."""
    audio = values.get("audio")
    name = (audio if isinstance(audio, str) else "").replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def shown_id(number: int, values: Mapping[str, Any]) -> str:
    """What to call a row that is rejected: its clip_id if it can be told, or its number."""
    given = values.get("clip_id")
    name = str(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else audio_name(values)
    shown = name[:LONGEST] if name.isprintable() else quoted(name)
    return shown or f"row-{number}"


def file_name_problem(clip_id: str) -> str:
    """Why a name cannot be a file's on every system, as the rest of a sentence; empty if it can."""
    bad = "" if _PLAIN.fullmatch(clip_id) else next(filter(_cannot_name, clip_id), "")
    if bad or clip_id.startswith(".") or ".." in clip_id or clip_id != clip_id.strip() or not clip_id:
        reason = (
            f"it contains the character {bad!a}"
            if bad
            else "it is empty, starts with a dot or a space, or contains '..'"
        )
        return f"cannot be used as a file name, because {reason}; use letters, digits, space, '.', '_' and '-'"
    if _DEVICE.fullmatch(clip_id):
        return "is the name of a device on Windows, whatever follows it: choose another name"
    return f"is longer than {LONGEST} characters" if len(clip_id) > LONGEST else ""


def _cannot_name(character: str) -> bool:
    """Whether a character separates folders on some system, or is invisible, so that different names look the same."""
    if character in '/\\:*?"<>|' or set(unicodedata.normalize("NFKC", character)) & {"/", "\\"}:
        return True
    # Characters of category Cf change the writing direction or have no width; Persian and Indian scripts need two of
    # them.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"
