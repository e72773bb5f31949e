"""What has become of the clips, stored in the output folder itself, in object storage and on local disk alike.

    done/<clip_id>.<fingerprint>.json       the clip's status row: it is done; written last, once, and never changed
    videos/<clip_id>.<fingerprint>.mp4      written before it, once; without a row in done/ it is an orphan
    qc/<clip_id>.<fingerprint>.json, .jpg   what quality control has measured (pipeline.qc.stage)
    attempts/<clip_id>.<fingerprint>.<stage>.json   the clip is quarantined: it killed its workers

Only a file in done/ means done. Everything else, including orphans, can be lost or left behind without harm
(`pipeline.run.maintenance` finds leftovers). Writers need not know of each other: each object is written on the
condition that it does not exist yet, and whoever comes second finds the first one's object.
"""

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import ClipError
from pipeline.ledger.attempt_log import ATTEMPTS
from pipeline.ledger.columns import ClipRow, values_of, with_names_of_now
from pipeline.ledger.done_store import DoneStore
from pipeline.manifest.clip import Clip
from pipeline.storage.objects import create_file, join, read_bytes, remove, write_bytes
from pipeline.storage.trouble import reason

logger = logging.getLogger(__name__)

WORKER_DIED = (
    "workers died while they had this clip (in {stage} stage), and nothing else explains it: check the worker's log "
    "and the files; only={clip_id} tries it again"
)

STAGES = ("features", "render")
"""Stages that quarantine clips."""


@dataclass(frozen=True)
class Ledger:
    """The ledger of one output folder. Small enough to be sent to every worker."""

    output: str
    run: str = ""
    """Id of this run."""

    # --- Done --------------------------------------------------------------------------------------------------

    def done(self) -> Iterator[tuple[str, str]]:
        """(clip_id, fingerprint) of everything that is done, with every version of a clip, in one listing."""
        for name in self._done.names():
            clip_id, _, fingerprint = name.rpartition(".")
            yield clip_id, fingerprint

    def read(self, clip_id: str, fingerprint: str) -> ClipRow | None:
        """Status row of a finished clip; None if it is not done. Raises ClipError storage_error."""
        with self._storage():
            row = self._done.read(f"{clip_id}.{fingerprint}")
            return None if row is None else with_names_of_now(row)

    def commit(self, video: Path, clip: Clip, row: ClipRow) -> ClipRow:
        """Store a verified video, and then its row with the video's `uri`; returns the row that counts.

        If another worker had the same clip and finished first, its row is returned: its video stays, and ours is
        removed. Raises ClipError storage_error.
        """
        with self._storage():
            name = f"{clip.clip_id}.{clip.fingerprint}"
            uri = join(self.output, "videos", f"{name}.mp4")
            if not create_file(video, uri):  # left by a dead attempt, or just written by a live one
                uri = join(self.output, "videos", f"{name}.{secrets.token_hex(3)}.mp4")
                create_file(video, uri)
            row = row | {"uri": uri, "committed": round(time.time(), 3)}
            if self._done.create(name, values_of(row)):
                return row
            first = self.read(clip.clip_id, clip.fingerprint)
            assert first is not None
            if first["uri"] != uri:
                remove(uri)
            return first

    def done_uri(self, clip_id: str, fingerprint: str) -> str:
        """URI of the clip's row, whether it exists or not."""
        return self._done.uri(f"{clip_id}.{fingerprint}")

    @property
    def _done(self) -> DoneStore:
        return DoneStore(self.output)

    # --- Quality control ---------------------------------------------------------------------------------------

    def read_qc(self, clip_id: str, fingerprint: str) -> dict[str, Any] | None:
        """The measurements of quality control; None if there are none. Raises ClipError storage_error."""
        with self._storage():
            data = read_bytes(self.qc_uri(clip_id, fingerprint, "json"))
            return None if data is None else json.loads(data)

    def write_qc(self, clip_id: str, fingerprint: str, measured: bytes, sheet: bytes | None) -> None:
        """Store the contact sheet and then the measurements as JSON, replacing earlier ones."""
        with self._storage():
            if sheet is not None:
                write_bytes(sheet, self.qc_uri(clip_id, fingerprint, "jpg"))
            write_bytes(measured, self.qc_uri(clip_id, fingerprint, "json"))

    def qc_uri(self, clip_id: str, fingerprint: str, suffix: str) -> str:
        """URIs of the measurements (json) and the contact sheet (jpg)."""
        return join(self.output, "qc", f"{clip_id}.{fingerprint}.{suffix}")

    # --- Quarantine --------------------------------------------------------------------------------------------

    def quarantine(self, clip: Clip, stage: str) -> ClipError:
        """Leave a clip alone from now on, in later runs too; returns the error for its row.

        Raises ClipError storage_error.
        """
        with self._storage():
            self._notes.write(f"{clip.clip_id}.{clip.fingerprint}.{stage}", {"run": self.run, "quarantined": True})
        return ClipError("worker_died", WORKER_DIED.format(stage=f"the {stage}", clip_id=clip.clip_id))

    def quarantined(self) -> set[tuple[str, str]]:
        """(clip_id, fingerprint) of the clips that are left alone."""
        found = ((key, self._notes.read(name)) for name, key in self._names())
        return {key for key, note in found if note and note.get("quarantined")}

    def attempts(self) -> Iterator[tuple[str, str, str]]:
        """(clip_id, fingerprint, URI) of each note in attempts/; earlier versions also left some that mean nothing."""
        for name, (clip_id, fingerprint) in self._names():
            yield clip_id, fingerprint, self._notes.uri(name)

    def forgive(self, clip: Clip) -> None:
        """Allow a quarantined clip to be tried again."""
        for stage in STAGES:
            self._notes.remove(f"{clip.clip_id}.{clip.fingerprint}.{stage}")

    def _names(self) -> Iterator[tuple[str, tuple[str, str]]]:
        for name in self._notes.names():
            clip_id, fingerprint, _ = name.rsplit(".", 2)
            yield name, (clip_id, fingerprint)

    @property
    def _notes(self) -> DoneStore:
        return DoneStore(self.output, ATTEMPTS)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Turn an error of the storage into a ClipError with its code."""
        try:
            yield
        except ClipError:
            raise
        except Exception as error:  # every client library has its own exceptions
            message = f"{self.output} could not be read or written: {reason(error)}"
            raise ClipError("storage_error", message) from error
