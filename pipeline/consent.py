"""Consent: for chosen speakers a clip is rendered only with a reference to a consent that is there and valid.

The register is a table of the people who gave it, in CSV or JSONL: `consent_ref`, `speaker`, and optionally `expires`
(ISO date, the last valid day in UTC; empty: never) and `revoked` (anything but empty, 0, no or false: it is).
"""

import csv
import heapq
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.bounded import Spool
from pipeline.errors import ClipError, ManifestError
from pipeline.manifest import Clip, Manifest, Rejected
from pipeline.settings import ConsentSettings
from pipeline.status import clip_row
from pipeline.storage import absolute, read_bytes

EVERYBODY = "*"


@dataclass(frozen=True)
class Consent:
    """One line of the register."""

    speaker: str
    expires: date | None
    revoked: bool


def check_consent(manifest: Manifest, settings: ConsentSettings, today: date) -> Manifest:
    """The manifest, with clips that lack a consent among the rejected. Raises ManifestError for the register."""
    if not settings.speakers:
        return manifest
    register = read_register(absolute(settings.register))
    allowed: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    for clip in manifest.clips:
        try:
            _check(clip, settings, register, today)
            allowed.append(clip)
        except ClipError as error:
            values = {name: value for name, value in clip_row(clip).items() if value is not None}
            refused.append(Rejected(clip.row, clip.clip_id, error, values))
    rejected: Spool[Rejected] = Spool(heapq.merge(manifest.rejected, refused, key=lambda one: one.row))
    return Manifest(manifest.uri, allowed, rejected)


def _check(clip: Clip, settings: ConsentSettings, register: dict[str, Consent], today: date) -> None:
    if EVERYBODY not in settings.speakers and clip.speaker not in settings.speakers:
        return
    where, who = f"row {clip.row}", f"speaker {clip.speaker or '(none)'}"
    if not clip.consent_ref:
        raise ClipError("consent_missing", f"{where}: {who} needs a consent: fill in the column consent_ref")
    consent = register.get(clip.consent_ref)
    if consent is None or consent.speaker != (clip.speaker or ""):
        there = "is not in the register" if consent is None else f"is that of {consent.speaker or 'nobody'}"
        raise ClipError("consent_unknown", f"{where}: consent_ref {clip.consent_ref} {there}, and not of {who}")
    if consent.revoked or (consent.expires is not None and consent.expires < today):
        ended = "was revoked" if consent.revoked else f"was valid until {consent.expires}"
        raise ClipError(
            "consent_expired", f"{where}: consent {clip.consent_ref} of {who} {ended}: get a new one, or leave it out"
        )


def read_register(uri: str) -> dict[str, Consent]:
    """Consents by reference; raises ManifestError, which names the line, for a register that cannot be trusted."""
    try:
        data = read_bytes(uri)
    except Exception as error:  # every storage client has exceptions of its own
        raise ManifestError(f"consent.register {uri} could not be read: {type(error).__name__}: {error}") from None
    if data is None:
        raise ManifestError(f"consent.register {uri} does not exist")
    found: dict[str, Consent] = {}
    try:
        for number, line in _lines(uri, data.decode("utf-8-sig")):
            reference = _text(line, "consent_ref")
            if not reference or reference in found:
                raise ValueError(f"line {number}: consent_ref is {'there twice' if reference else 'empty'}")
            found[reference] = _consent(line, number)
    except (ValueError, csv.Error) as error:  # JSON and UTF-8 errors are ValueErrors too
        raise ManifestError(f"consent.register {uri}: {error}") from None
    return found


def _lines(uri: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if uri.lower().endswith(".jsonl"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise ValueError(f"line {number} is not a JSON object")
                yield number, value
        return
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"consent_ref", "speaker"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"it has no column {' and no column '.join(sorted(missing))}")
    for row in reader:
        yield reader.line_num, row


def _consent(line: dict[str, Any], number: int) -> Consent:
    expires = _text(line, "expires")
    try:
        until = date.fromisoformat(expires) if expires else None
    except ValueError:
        raise ValueError(f"line {number}: expires {expires!r} is not a date such as 2027-12-31") from None
    revoked = _text(line, "revoked").lower() not in ("", "0", "no", "false")
    return Consent(_text(line, "speaker"), until, revoked)


def _text(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return "" if value is None else str(value).strip()
