"""What a run tells others: an event for each clip that ends, and for the start and the end of the run.

An event has an id that stays the same as long as it says the same, so that a receiver that gets it twice can tell.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from pipeline.common.redaction import redacted_value
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.run.run import Run
from pipeline.run.summary import summary_of

VERSION = 1
"""Of the events' form; it changes when a receiver has to."""

NOT_TRIED = frozenset({"interrupted", "stopped"})
"""Error codes of clips that a run did not get to; the event of the run's end says so for all of them."""

CLIP = (
    *("clip_id", "row", "status", "error_code", "error_message", "uri", "fingerprint", "committed", "take", "takes"),
    *("qc_status", "qc_reasons", "review", "review_comment", "preset", "sha256", "bytes", "width", "height"),
    *("frames", "fps", "duration", "timecode", "timecode_after", "language", "speaker", "tags"),
)
"""Columns of a clip's row that its event has; those without a value are left out."""

RUN = (
    *("state", "exit_code", "reason", "manifest", "planned", "to_render", "done", "failed", "rejected", "quarantined"),
    *("rendered", "retakes", "qc", "errors", "video_seconds", "seconds"),
)
"""Values of summary.json that the events of a run have."""


@dataclass(frozen=True)
class Event:
    """Something that is sent once."""

    id: str
    """32 hexadecimal digits."""
    type: str
    """`run.started`, `run.finished`, or `clip.` and the status of the clip: `clip.done`."""
    body: str
    """JSON, as it is signed and sent."""


def id_of_clip_event(row: ClipRow, run: Run) -> str:
    """Id of the event of a clip that has ended.

    That of a finished clip is the same in all runs until it is rendered anew (`committed`), or is judged or reviewed
    otherwise. A clip that failed has another one in each run that tries it.
    """
    kind = f"clip.{row['status']}"
    if row["status"] == "done":
        said: tuple[Any, ...] = (row.get("committed"), row.get("qc_status"), row.get("review"))
    else:
        said = (row.get("error_code"), row.get("error_message"), run.ledger.run if row["status"] == "failed" else "")
    return _identity(kind, run.output, row["clip_id"], row.get("fingerprint"), *said)


def clip_event(row: ClipRow, run: Run) -> Event:
    """The event of a clip that has ended."""
    found = {name: value for name in CLIP if (value := values_of(row).get(name)) not in (None, [])}
    return _event(id_of_clip_event(row, run), f"clip.{row['status']}", run, {"clip": found})


def run_event(kind: str, run: Run) -> Event:
    """`run.started` or `run.finished`: how the run stands."""
    summary = summary_of(run)
    found = {name: summary[name] for name in RUN}
    return _event(_identity(kind, run.output, run.ledger.run), kind, run, {"summary": found})


def _identity(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _event(identity: str, kind: str, run: Run, more: dict[str, Any]) -> Event:
    head = {"id": identity, "type": kind, "version": VERSION, "time": round(time.time(), 3)}
    body = head | redacted_value({"run": run.ledger.run, "output": run.output} | more)
    text = json.dumps(body, default=str)
    # The manifest's own values may hold NaN, which JSON does not have.
    return Event(identity, kind, json.dumps(json.loads(text, parse_constant=lambda name: None)))
