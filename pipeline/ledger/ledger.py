"""What has become of the clips, stored in the output folder itself, in object storage and on local disk alike.

    done/<clip_id>.<fingerprint>.json       the clip's status row: it is done; written last, once, and never changed
    videos/<clip_id>.<fingerprint>.mp4      written before it, once; without a row in done/ it is an orphan
    motion/<clip_id>.<fingerprint>.npz      how a clip of a programme ended, for the next one; written before its row
    qc/<clip_id>.<fingerprint>.json, .jpg   what quality control has measured (pipeline.qc.stage)
    attempts/<clip_id>.<fingerprint>.<stage>.json   the clip is quarantined: it killed its workers

Videos may end in .mov or .mxf as well. Only a whole file in done/ means done. Everything else, including orphans, can
be lost or left behind without harm (`pipeline.run.maintenance` finds leftovers). Writers need not know of each other:
each object is written on the condition that it does not exist yet, and whoever comes second finds the first one's
object.
"""

import hashlib
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
from pipeline.ledger.done_record import note_stem, problem_of, problem_of_qc, split_stem, stem_of, video_name
from pipeline.ledger.done_store import DoneStore
from pipeline.manifest.clip import Clip
from pipeline.storage.objects import NO_FILE, create_file, fetched, list_sizes, read_bytes, remove, write_bytes
from pipeline.storage.records import Damaged, damaged_jpeg, obstacle, read_json
from pipeline.storage.set_aside import clear_way, set_aside
from pipeline.storage.trouble import reason
from pipeline.storage.uris import is_local, join

logger = logging.getLogger(__name__)

WORKER_DIED = (
    "workers died while they had this clip (in {stage} stage), and nothing else explains it: check the worker's log "
    "and the files; only={clip_id} tries it again"
)

VIDEOS = "videos"
MOTION = "motion"

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
        """(clip_id, fingerprint) of everything that is done, with every version of a clip, in one listing.

        A clip_id that is too long for a file name is shortened. Names that are not ours are left out.
        """
        yield from filter(None, map(split_stem, self._done.names()))

    def listed(self) -> Iterator[tuple[str, int]]:
        """(name, size) of everything in done/, with names that are not ours, in one listing."""
        yield from list_sizes(join(self.output, self._done.folder))

    def look(self, clip_id: str, fingerprint: str) -> ClipRow | Damaged | None:
        """Status row of a finished clip, whole or damaged; None if it is not done. Raises StorageError."""
        stem = stem_of(clip_id, fingerprint)
        found = read_json(self._done.uri(stem), lambda record: problem_of(record, stem))
        if found is None or isinstance(found, Damaged):
            return found
        row = with_names_of_now(found)
        return row | {"uri": self.video_uri(video_name(row))}

    def read(self, clip_id: str, fingerprint: str) -> ClipRow | None:
        """Status row of a finished clip; None if it is not done. Raises ClipError storage_error.

        A damaged row counts as none, and the log names it.
        """
        with self._storage():
            found = self.look(clip_id, fingerprint)
        if isinstance(found, Damaged):
            logger.warning("%s: the clip counts as not done", found)
            return None
        return found

    def commit(self, video: Path, clip: Clip, row: ClipRow) -> ClipRow:
        """Store a verified video, and then its row with the video's `uri`; returns the row that counts.

        If another worker had the same clip and finished first, its row is returned: its video stays, and ours is
        removed. A damaged row is moved aside. Raises ClipError storage_error.
        """
        with self._storage():
            stem = stem_of(clip.clip_id, clip.fingerprint)
            uri = self.video_uri(f"{stem}{video.suffix}")
            while not create_file(video, uri):  # left by a dead attempt, or just written by a live one
                uri = self.video_uri(f"{stem}.{secrets.token_hex(8)}{video.suffix}")
            named: ClipRow = {"clip_id": clip.clip_id, "row": clip.row, "fingerprint": clip.fingerprint}
            row = named | row | {"uri": uri, "committed": round(time.time(), 3)}
            while not self._done.create(stem, values_of(row)):
                first = self.look(clip.clip_id, clip.fingerprint)
                if isinstance(first, Damaged):
                    logger.warning("%s: moved to %s", first, set_aside(first.uri, self.output))
                elif first is not None:
                    if first["uri"] != uri:
                        remove(uri)
                    return first
            return row

    def restore(self, row: ClipRow) -> None:
        """Write the row of a finished clip whose file in done/ was lost; a row that is there stays."""
        self._done.create(stem_of(row["clip_id"], row["fingerprint"]), values_of(row))

    def done_uri(self, clip_id: str, fingerprint: str) -> str:
        """URI of the clip's row, whether it exists or not."""
        return self._done.uri(stem_of(clip_id, fingerprint))

    def video_uri(self, name: str) -> str:
        """URI of a video."""
        return join(self.output, VIDEOS, name)

    def videos(self) -> Iterator[tuple[str, int]]:
        """(name, size) of each video, whether it belongs to a clip or not, in one listing."""
        yield from list_sizes(join(self.output, VIDEOS))

    def video_hash(self, name: str) -> str:
        """SHA-256 of a video, as its row has it. Raises StorageError."""
        with fetched(self.video_uri(name)) as path, open(str(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def _done(self) -> DoneStore:
        return DoneStore(self.output)

    # --- Programmes --------------------------------------------------------------------------------------------

    def motions(self) -> set[str]:
        """`stem_of` the clips of which it is stored how they ended, in one listing."""
        return {name.removesuffix(".npz") for name, size in list_sizes(join(self.output, MOTION)) if size > 0}

    def motion_uri(self, clip_id: str, fingerprint: str) -> str:
        """URI of how a clip ended (`pipeline.render.continuation`), for the next one of its programme."""
        return join(self.output, MOTION, f"{stem_of(clip_id, fingerprint)}.npz")

    def read_motion(self, clip_id: str, fingerprint: str) -> bytes | None:
        """How a clip ended; None if that is not stored. Raises ClipError storage_error."""
        with self._storage():
            return read_bytes(self.motion_uri(clip_id, fingerprint))

    def write_motion(self, clip_id: str, fingerprint: str, data: bytes) -> None:
        """Store how a clip ended, before the clip is committed. Raises ClipError storage_error."""
        with self._storage():
            write_bytes(data, self.motion_uri(clip_id, fingerprint))

    # --- Quality control ---------------------------------------------------------------------------------------

    def read_qc(self, clip_id: str, fingerprint: str) -> dict[str, Any] | None:
        """The measurements of quality control; None if there are none. Raises ClipError storage_error.

        Damaged ones count as none, and the log names them.
        """
        with self._storage():
            found = read_json(self.qc_uri(clip_id, fingerprint, "json"), problem_of_qc)
        if isinstance(found, Damaged):
            logger.warning("%s: it counts as absent", found)
            return None
        return found

    def write_qc(self, clip_id: str, fingerprint: str, measured: bytes, sheet: bytes | None) -> None:
        """Store the contact sheet and then the measurements as JSON, replacing earlier ones."""
        with self._storage():
            for suffix in ("jpg", "json"):
                clear_way(self.qc_uri(clip_id, fingerprint, suffix), self.output)
            if sheet is not None:
                write_bytes(sheet, self.qc_uri(clip_id, fingerprint, "jpg"))
            write_bytes(measured, self.qc_uri(clip_id, fingerprint, "json"))

    def damaged_measurements(self, clip_id: str, fingerprint: str) -> Iterator[Damaged]:
        """Files of quality control that are damaged: the measurements, and the contact sheet by its first bytes."""
        found = read_json(self.qc_uri(clip_id, fingerprint, "json"), problem_of_qc)
        if isinstance(found, Damaged):
            yield found
        uri = self.qc_uri(clip_id, fingerprint, "jpg")
        if is_local(uri) and (sheet := obstacle(uri) or damaged_jpeg(uri)) is not None:
            yield sheet

    def qc_uri(self, clip_id: str, fingerprint: str, suffix: str) -> str:
        """URIs of the measurements (json) and the contact sheet (jpg)."""
        return join(self.output, "qc", f"{stem_of(clip_id, fingerprint)}.{suffix}")

    # --- Quarantine --------------------------------------------------------------------------------------------

    def quarantine(self, clip: Clip, stage: str) -> ClipError:
        """Leave a clip alone from now on, in later runs too; returns the error for its row.

        Raises ClipError storage_error.
        """
        with self._storage():
            stem = stem_of(clip.clip_id, clip.fingerprint)
            self._notes.write(f"{stem}.{stage}", {"run": self.run, "quarantined": True})
        return ClipError("worker_died", WORKER_DIED.format(stage=f"the {stage}", clip_id=clip.clip_id))

    def notes(self) -> Iterator[tuple[str, dict[str, Any] | Damaged | None]]:
        """(stem, note) of each note in attempts/: `stem_of` its clip. Names that are not ours are left out."""
        for name, size in list_sizes(join(self.output, ATTEMPTS)):
            stem = note_stem(name)
            if stem and size == NO_FILE:
                yield stem, obstacle(join(self.output, ATTEMPTS, name))
            elif stem:
                yield stem, self._notes.look(name.removesuffix(".json"))

    def quarantined(self) -> set[tuple[str, str]]:
        """(clip_id, fingerprint) of the clips that are left alone; a clip_id too long for a file name is shortened."""
        left = (stem for stem, note in self.notes() if isinstance(note, dict) and note.get("quarantined"))
        return set(filter(None, map(split_stem, left)))

    def attempts(self) -> Iterator[tuple[str, str]]:
        """(`stem_of` the clip, URI) of each note in attempts/; earlier versions left some that mean nothing."""
        for name in self._notes.names():
            if stem := note_stem(f"{name}.json"):
                yield stem, self._notes.uri(name)

    def forgive(self, clip: Clip) -> None:
        """Allow a quarantined clip to be tried again."""
        for stage in STAGES:
            self._notes.remove(f"{stem_of(clip.clip_id, clip.fingerprint)}.{stage}")

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
