"""Consent: clips of people who must have agreed are rendered only with a consent that is valid today.

The register is a CSV or JSONL file, local or s3://, that is maintained elsewhere. It has one row per consent, with the
columns `consent_ref`, `speaker`, `expires` (ISO date, the last valid day; empty means for ever) and `revoked` (true or
false). The last two may be absent, and other columns are ignored. A register with one wrong row is refused as a whole,
because that row may be the one that forbids rendering.
"""

import csv
import heapq
import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from pipeline.common.disk_collections import DiskDict, Spool
from pipeline.common.errors import ClipError, ManifestError
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Manifest, Rejected
from pipeline.manifest.settings import ConsentSettings
from pipeline.storage.objects import absolute, filesystem, raise_if_trouble

ALL = "*"
"""As a speaker in the settings: every clip needs a consent."""

TRUTHS = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


@dataclass(frozen=True)
class Consent:
    """One row of the register."""

    line: int
    """Line number in the file, from 1."""
    speaker: str
    expires: str
    """ISO date; empty: never."""
    revoked: bool


def check_consent(manifest: Manifest, settings: ConsentSettings, today: date | None = None) -> Manifest:
    """The manifest with the clips that lack a consent moved to its rejected rows, in its order.

    `today` defaults to the current date in UTC. Memory does not grow with the manifest or the register. Raises
    ManifestError for a register that cannot be read or has a wrong row.
    """
    if not settings.speakers:
        return manifest
    register = read_register(settings.register)
    today = today or datetime.now(UTC).date()
    named = {_folded(speaker) for speaker in settings.speakers}
    clips: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    for clip in manifest.clips:
        needed = ALL in named or (clip.speaker is not None and _folded(clip.speaker) in named)
        error = _refusal(clip, register, today) if needed else None
        if error is None:
            clips.append(clip)
        else:
            refused.append(_rejected(clip, error))
    in_order = heapq.merge(manifest.rejected, refused, key=lambda one: one.row)
    return Manifest(manifest.uri, clips, Spool(in_order))


def read_register(uri: str) -> DiskDict:
    """Consents as JSON by consent_ref. Raises ManifestError, which names the line."""
    uri = absolute(uri)
    register = DiskDict()
    count = 0
    for line, values in _rows(uri):
        ref, consent = _consent(uri, line, values)
        if not register.add(ref, json.dumps(asdict(consent))):
            first = json.loads(register.get(ref) or "")["line"]
            raise _wrong(uri, line, f"line {first} has the same consent_ref {ref!r}: give each consent its own")
        count += 1
    if not count:
        raise ManifestError(f"{uri} has no rows: a register has the columns consent_ref, speaker, expires and revoked")
    return register


# --- A clip ----------------------------------------------------------------------------------------------------


def _refusal(clip: Clip, register: DiskDict, today: date) -> ClipError | None:
    """Why a clip that needs a consent may not be rendered; None if it may."""
    who = "no speaker" if clip.speaker is None else f"speaker {clip.speaker!r}"
    if not clip.consent_ref or not clip.consent_ref.strip():
        return ClipError(
            "consent_missing",
            f"row {clip.row}, column consent_ref: {who} needs a consent, but the row names none: fill it in, or "
            "remove the row",
        )
    ref = clip.consent_ref.strip()
    found = register.get(ref)
    if found is None:
        return ClipError(
            "consent_unknown",
            f"row {clip.row}, column consent_ref: the register has no consent {ref!r} ({who}): correct it, or have "
            "the consent entered",
        )
    consent = Consent(**json.loads(found))
    # A row cannot get around the check by leaving out the speaker.
    if clip.speaker is None or _folded(consent.speaker) != _folded(clip.speaker):
        return ClipError(
            "consent_unknown",
            f"row {clip.row}, column consent_ref: consent {ref!r} belongs to speaker {consent.speaker!r}, but the row "
            f"has {who}: correct the column speaker or consent_ref",
        )
    ended = ""
    if consent.revoked:
        ended = "was revoked"
    elif consent.expires and date.fromisoformat(consent.expires) < today:
        ended = f"expired on {consent.expires}, and today is {today} (UTC)"
    if not ended:
        return None
    return ClipError(
        "consent_expired",
        f"row {clip.row}, column consent_ref: consent {ref!r} of {who} {ended}: get a new one, or remove the row",
    )


def _rejected(clip: Clip, error: ClipError) -> Rejected:
    given = {
        name: value
        for name in ("image", "audio", "pose", "language", "speaker", "crop", "consent_ref", "tags")
        if (value := getattr(clip, name)) is not None
    }
    return Rejected(clip.row, clip.clip_id, error, given | clip.extra)


def _folded(speaker: str) -> str:
    """A name in the form that is compared: another case, or é written as two characters, is the same person."""
    return unicodedata.normalize("NFC", speaker.strip().casefold())


# --- The register ----------------------------------------------------------------------------------------------


def _rows(uri: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, values) of each row."""
    if not uri.lower().endswith((".csv", ".jsonl")):
        raise ManifestError(f"{uri} is not a register of consents: its name must end in .csv or .jsonl")
    try:
        fs, path = filesystem(uri)
        with fs.open(path, "rb") as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            yield from _csv_rows(uri, text) if uri.lower().endswith(".csv") else _jsonl_rows(uri, text)
    except ManifestError:
        raise
    except FileNotFoundError:
        raise ManifestError(f"consent.register: {uri} does not exist") from None
    except Exception as error:  # errors of the storage and of every format
        raise_if_trouble(error, f"{uri} could not be read")
        raise ManifestError(f"{uri} could not be read: {type(error).__name__}: {error}") from error


def _csv_rows(uri: str, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(text, strict=True)
    names = [_column(name) for name in rows.fieldnames or ()]
    missing = {"consent_ref", "speaker"} - set(names)
    if names and missing:
        raise _wrong(uri, 1, f"the column {' and the column '.join(sorted(missing))} is missing")
    if len(set(names)) < len(names):
        raise _wrong(uri, 1, "a column name appears twice")
    for row in rows:
        if None in row or None in row.values():
            raise _wrong(
                uri,
                rows.line_num,
                f"the number of values differs from the number of columns ({len(rows.fieldnames or ())})",
            )
        yield rows.line_num, row


def _jsonl_rows(uri: str, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair (\ud800) is not text
        except (ValueError, RecursionError) as error:
            raise _wrong(uri, number, f"it is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise _wrong(uri, number, "it is not a JSON object")
        yield number, row


def _consent(uri: str, line: int, values: dict[str, Any]) -> tuple[str, Consent]:
    """consent_ref and consent of a row."""
    values = {_column(name): value for name, value in values.items()}
    texts = {
        name: _text(uri, line, name, values.get(name)) for name in ("consent_ref", "speaker", "expires", "revoked")
    }
    for name in ("consent_ref", "speaker"):
        if not texts[name]:
            raise _wrong(uri, line, f"column {name} is empty")
    if texts["expires"]:
        try:
            texts["expires"] = date.fromisoformat(texts["expires"]).isoformat()
        except ValueError:
            raise _wrong(uri, line, f"expires: {texts['expires']!r} is not a date such as 2027-12-31") from None
    revoked = TRUTHS.get(texts["revoked"].lower())
    if revoked is None:
        raise _wrong(uri, line, f"revoked: {texts['revoked']!r} is neither true nor false")
    return texts["consent_ref"], Consent(line, texts["speaker"], texts["expires"], revoked)


def _column(name: str) -> str:
    # A column called "Revoked" must not be ignored as unknown.
    return name.strip().casefold()


def _text(uri: str, line: int, column: str, value: Any) -> str:
    """A value as text; ids are often numbers."""
    if value is None:
        return ""
    if not isinstance(value, str | int):  # bool is an int
        raise _wrong(uri, line, f"{column}: {value!r} is not text")
    return str(value).strip()


def _wrong(uri: str, line: int, problem: str) -> ManifestError:
    return ManifestError(f"{uri}, line {line}: {problem}")
