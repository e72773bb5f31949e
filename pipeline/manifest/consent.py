"""Consent: clips of people who must have agreed are rendered only with a consent that is valid today.

The register is a CSV or JSONL file, local or s3://, that is maintained elsewhere. It has one row per consent, with the
columns `consent_ref`, `speaker`, `expires` (ISO date, the last valid day; empty means for ever) and `revoked` (true or
false). The last two may be absent, and other columns are ignored. A register with one wrong row is refused as a whole,
because that row may be the one that forbids rendering.

The gate goes by the column `speaker` of the manifest. If it cannot tell from a row who speaks, it refuses the row, and
it refuses a manifest without that column. Whoever writes the manifest says who speaks, though: only `['*']` binds
people who may want to get around it.
"""

import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime

from pipeline.common.disk_collections import DiskDict, Spool
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.limits import MAX_ROWS
from pipeline.common.quoted import quoted
from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import in_face, parts_of
from pipeline.manifest.reader import Manifest, Rejected
from pipeline.manifest.requests import row_of
from pipeline.manifest.rows import TEXTS, Row, read_rows
from pipeline.manifest.settings import ConsentSettings
from pipeline.manifest.speaker_names import doubt, folded, look
from pipeline.manifest.values import Values, is_absent
from pipeline.storage.uris import absolute

ALL = "*"
"""As a speaker in the settings: every clip needs a consent."""

COLUMNS = ("consent_ref", "speaker", "expires", "revoked")

TRUTHS = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


@dataclass(frozen=True)
class Consent:
    """One row of the register."""

    place: str
    """Its row and line in the file."""
    speaker: str
    expires: str
    """ISO date; empty: never."""
    revoked: bool


def check_consent(
    manifest: Manifest, settings: ConsentSettings, today: date | None = None, *, most: int = MAX_ROWS
) -> Manifest:
    """The manifest with the clips that lack a consent moved to its rejected rows, in its order.

    `today` defaults to the current date in UTC. Memory does not grow with the manifest or the register. Raises
    ManifestError for a manifest without a column `speaker`, and for a register that cannot be read, has a wrong row or
    has more than `most` rows.
    """
    if not settings.speakers:
        return manifest
    gate = _Gate(settings, today or datetime.now(UTC).date(), most)
    if manifest.columns is not None and manifest.columns.isdisjoint(("speaker", "faces")):
        raise ManifestError(
            f"manifest: {manifest.uri} has no column speaker, but consent.speakers says that clips of {gate.who} need "
            "a consent: add the column, with a name in each row"
        )
    clips: Spool[Clip] = Spool()
    refused: Spool[Rejected] = Spool()
    for clip in manifest.clips:
        error = gate.of_all(clip)
        if error is None:
            clips.append(clip)
        else:
            refused.append(_rejected(clip, error))
    in_order = heapq.merge(manifest.rejected, refused, key=lambda one: one.row)
    return replace(manifest, clips=clips, rejected=Spool(in_order))


def read_register(uri: str, most: int = MAX_ROWS) -> DiskDict:
    """Consents as JSON by consent_ref. Raises ManifestError, which names the line."""
    uri = absolute(uri)
    if not uri.lower().endswith(TEXTS):
        raise ManifestError(f"{uri} is not a register of consents: its name must end in {', '.join(TEXTS)}")
    register = DiskDict()
    count = 0
    for ref, consent in _consents(uri, most):
        if not register.add(ref, json.dumps(asdict(consent))):
            first = json.loads(register.get(ref) or "")["place"]
            raise ManifestError(
                f"{uri}, {consent.place}: {first} has the same consent_ref {quoted(ref)}: give each consent its own"
            )
        count += 1
    if not count:
        raise ManifestError(f"{uri} has no rows: a register has the columns {', '.join(COLUMNS)}")
    return register


# --- A clip ----------------------------------------------------------------------------------------------------


class _Gate:
    """Who needs a consent, and the consents that there are."""

    def __init__(self, settings: ConsentSettings, today: date, most: int) -> None:
        self.who = "all speakers" if ALL in settings.speakers else ", ".join(map(quoted, settings.speakers[:3]))
        self._all = ALL in settings.speakers
        self._folded = {folded(speaker) for speaker in settings.speakers}
        self._looks = {look(speaker): speaker for speaker in settings.speakers}
        self._register, self._today = read_register(settings.register, most), today

    def of_all(self, clip: Clip) -> ClipError | None:
        """Why a clip may not be rendered; None if it may: if nobody who is animated in it stands against that."""
        for part, face in zip(parts_of(clip), clip.faces or (None,), strict=True):
            if (error := self.refusal(part)) is not None:
                return error if face is None else in_face(face.number, error)
        # A name in the row itself says of nobody in the picture that it is him, but it may be one who needs a consent.
        return self.refusal(clip) if clip.faces and (clip.speaker or clip.consent_ref) else None

    def refusal(self, clip: Clip) -> ClipError | None:
        """Why a clip of one speaker may not be rendered; None if it may."""
        speaker = clip.speaker
        if clip.short:
            return ClipError("consent_unclear", f"{clip.place}: {clip.short}")
        if speaker is None or not folded(speaker):
            if not self._all and not clip.consent_ref:
                return ClipError(
                    "consent_unclear",
                    f"{clip.place}, column speaker: the row names no speaker, so nobody knows whether it is "
                    f"{self.who}, whose clips need a consent: fill it in",
                )
            return self._without_consent(clip, "no speaker")
        if not self._all and folded(speaker) not in self._folded:
            alike = self._looks.get(look(speaker))
            problem = doubt(speaker)
            if alike is not None:
                problem = (
                    f"looks like {quoted(alike)}, whose clips need a consent, but is written with other characters"
                )
            if not problem:
                return None
            return ClipError(
                "consent_unclear", f"{clip.place}, column speaker: {quoted(speaker)} {problem}: correct the name"
            )
        return self._without_consent(clip, f"speaker {quoted(speaker)}")

    def _without_consent(self, clip: Clip, who: str) -> ClipError | None:
        where = f"{clip.place}, column consent_ref"
        if not clip.consent_ref:
            return ClipError(
                "consent_missing",
                f"{where}: {who} needs a consent, but the row names none: fill it in, or remove the row",
            )
        ref = clip.consent_ref
        found = self._register.get(ref)
        if found is None:
            return ClipError(
                "consent_unknown",
                f"{where}: the register has no consent {quoted(ref)} ({who}): correct it, or have the consent entered",
            )
        consent = Consent(**json.loads(found))
        # A row cannot get around the check by leaving out the speaker.
        if clip.speaker is None or folded(consent.speaker) != folded(clip.speaker):
            return ClipError(
                "consent_unknown",
                f"{where}: consent {quoted(ref)} belongs to speaker {quoted(consent.speaker)}, but the row has {who}: "
                "correct the column speaker or consent_ref",
            )
        ended = ""
        if consent.revoked:
            ended = "was revoked"
        elif consent.expires and date.fromisoformat(consent.expires) < self._today:
            ended = f"expired on {consent.expires}, and today is {self._today} (UTC)"
        if not ended:
            return None
        return ClipError(
            "consent_expired",
            f"{where}: consent {quoted(ref)} of {who} {ended}: get a new one, or remove the row",
        )


def _rejected(clip: Clip, error: ClipError) -> Rejected:
    # Values that may be in wrong columns must not become a row of failed.jsonl, which would not show it.
    return Rejected(clip.row, clip.clip_id, error, {} if clip.short else row_of(clip))


# --- The register ----------------------------------------------------------------------------------------------


def _consents(uri: str, most: int) -> Iterator[tuple[str, Consent]]:
    """(consent_ref, consent) of each row."""
    try:
        missing: set[str] = {"consent_ref", "speaker"}
        for row in read_rows(uri, COLUMNS, most=most):
            if problem := row.problem or row.short:
                raise ManifestError(f"{uri}, {row.place}: {problem}")
            if absent := sorted(missing - set(row.values)):
                raise ManifestError(f"{uri}, {row.place}: the column {' and the column '.join(absent)} is missing")
            yield _consent(uri, row)
    except ManifestError as error:
        raise ManifestError(f"consent.register: {error}") from None


def _consent(uri: str, row: Row) -> tuple[str, Consent]:
    given = {name: value for name, value in row.values.items() if not is_absent(value)}
    if isinstance(given.get("revoked"), bool):
        given["revoked"] = str(given["revoked"])
    values = Values(f"{uri}, {row.place}", given)
    try:
        ref = values.required("consent_ref", "it is empty, and the gate needs it")
        speaker = values.required("speaker", "it is empty, and the gate needs it")
        expires = values.text("expires") or ""
        if expires:
            try:
                expires = date.fromisoformat(expires).isoformat()
            except ValueError:
                raise values.invalid("expires", f"{quoted(expires)} is not a date such as 2027-12-31") from None
        revoked = TRUTHS.get((values.text("revoked") or "").lower())
        if revoked is None:
            raise values.invalid("revoked", f"{quoted(given['revoked'])} is neither true nor false")
    except ClipError as error:
        raise ManifestError(error.message) from None
    return ref, Consent(row.place, speaker, expires, revoked)
