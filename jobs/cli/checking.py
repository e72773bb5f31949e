"""`floatcast render --check`: what is wrong with the rows of a manifest and with their files, without rendering."""

import csv
import io
import json
import os
import threading
from collections.abc import Iterator
from itertools import islice

from pipeline.common.child import in_child, stop_children
from pipeline.common.csv_cells import cell
from pipeline.common.disk_collections import mapped
from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.notes import NOTES
from pipeline.common.progress import Progress
from pipeline.common.terminal import one_line
from pipeline.face.choice import parse_choice
from pipeline.ledger.clip_row import clip_row, error_row, note_columns, rejected_row
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.table import RowSpool
from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import parts_of
from pipeline.media.encoders import check_preset
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.face_picture import LARGE, face_picture
from pipeline.run.exit_codes import DONE, INCOMPLETE
from pipeline.run.prepare_run import Prepared
from pipeline.run.settings import RenderSettings
from pipeline.storage.objects import write_bytes
from pipeline.storage.targets import same_place
from pipeline.storage.untrusted import read_input
from pipeline.storage.uris import absolute, join

PRINTED = 1_000
"""Number of clips with a problem or a note that are printed; a file of problems has all of them."""

TO_CHOOSE = ("face_not_there", "several_faces", "face_not_upright", "face_in_profile", "face_named_twice")
"""Codes of clips for which a picture of all faces helps."""
CHOSEN_BADLY = {"faces_alike", "faces_overlap"}
"""Notes for which it does too."""

COLUMNS = ("row", "clip_id", "level", "code", "message")
"""Columns of a file of problems; `level` is rejected, failed, review or note."""


def check_problem_file(file: str, settings: RenderSettings) -> None:
    """Raise RefusedError if `file` cannot be the file of problems."""
    if not file.lower().endswith((".csv", ".jsonl")):
        raise RefusedError(f"problems: {file} must end in .csv or .jsonl")
    for key, place in (("manifest", settings.manifest), ("consent.register", settings.consent.register)):
        if place and same_place(file, place):
            raise RefusedError(f"problems: {absolute(file)} is the {key}: give the name of another file")


def check_inputs(prepared: Prepared, file: str = "", faces: str = "") -> int:
    """Fetch, decode and check every input on this machine; returns the exit code.

    Prints each problem and note, and writes nothing but what is asked for: `file`, a CSV or JSONL file with all of
    them, and into the folder `faces` a picture of the numbered faces for each clip whose row should say which is meant.
    """
    job, manifest, size = prepared.settings, prepared.run.manifest, prepared.model.config.image_size
    pictures = FacePictures(faces, job)
    found = RowSpool(rejected_row(rejected) for rejected in manifest.rejected)
    bad = len(found)

    def check(clip: Clip) -> ClipRow:
        try:
            check_preset(job.video, clip.preset)
            inputs = load_inputs(clip, job.limits, size, job.video, minutes=job.render.clip_minutes)
        except Exception as error:
            return pictures.added(clip, error_row(clip, error, "check"))
        return pictures.added(clip, extended(clip_row(clip), {"status": "valid"} | note_columns(inputs.notes)))

    with Progress(len(manifest.clips), measure="clips") as progress:
        for _, row in mapped(check, manifest.clips, os.cpu_count() or 1, stop_children):
            progress.add(row)
            bad += row["status"] != "valid"
            if row["status"] != "valid" or row["input_notes"]:
                found.add(row)
    for row in islice(found, PRINTED):
        for problem in problems(row):
            print(f"  {problem['level']}  row {problem['row']}  {one_line(row['clip_id'])}  {_told(problem)}")
        if picture := pictures.of(row):
            print(f"    its faces with their numbers: {one_line(picture)}")
    if len(found) > PRINTED:
        print(f"  ... and {len(found) - PRINTED} more clips: problems=problems.csv writes all of them into that file")
    wrote = []
    if file:
        write_bytes(_encoded(found, file), absolute(file))
        wrote.append(f"all problems and notes are in {absolute(file)}")
    if pictures.written:
        wrote.append(f"pictures of the faces of {pictures.written} clips are in {absolute(faces)}")
    if pictures.wanted and not faces:
        print(f"  faces=FOLDER writes pictures of the numbered faces of {pictures.wanted} clips into that folder")
    told = ", and ".join(wrote) or "nothing was written"
    print(f"\ncheck: {len(manifest) - bad} clips can be rendered, {bad} cannot; {told}")
    return INCOMPLETE if bad else DONE


class FacePictures:
    """Writes pictures of the faces of images from which a row should choose one, into a folder if there is one."""

    def __init__(self, folder: str, settings: RenderSettings) -> None:
        self._folder, self._limits, self._minutes = folder, settings.limits, settings.render.clip_minutes
        self._places: dict[int, str] = {}
        self._lock = threading.Lock()
        self.wanted = 0
        """Number of clips for which a person needs a picture."""

    @property
    def written(self) -> int:
        """Number of pictures."""
        return len(self._places)

    def added(self, clip: Clip, row: ClipRow) -> ClipRow:
        """The row of a clip, after its picture was written if it needs one. Raises StorageError."""
        if not _needs_choice(row):
            return row
        with self._lock:
            self.wanted += 1
        if not self._folder:
            return row
        try:
            data = read_input(clip.image, self._limits)
            choices = [parse_choice(part.face) for part in parts_of(clip)]
            picture = in_child(face_picture, data, clip.image, self._limits, choices, LARGE, minutes=self._minutes)
        except ClipError:  # the file has changed since
            return row
        if picture is not None:
            place = join(absolute(self._folder), f"{clip.clip_id}.jpg")
            write_bytes(picture, place)
            with self._lock:
                self._places[clip.row] = place
        return row

    def of(self, row: ClipRow) -> str:
        """Where the picture for a row is; empty if there is none."""
        return self._places.get(row["row"], "")


def _needs_choice(row: ClipRow) -> bool:
    if row["status"] == "valid":
        return not CHOSEN_BADLY.isdisjoint(row["input_notes"])
    return row["error_code"] in TO_CHOOSE


def problems(row: ClipRow) -> Iterator[dict[str, object]]:
    """What was found about a clip: its error, or each of its notes, under the names of `COLUMNS`."""
    known: dict[str, object] = {"row": row["row"], "clip_id": row["clip_id"]}
    if row["status"] != "valid":
        yield known | {"level": row["status"], "code": row["error_code"], "message": row["error_message"]}
        return
    for code, message in zip(row["input_notes"], row["input_messages"], strict=True):
        yield known | {"level": NOTES[code][0], "code": code, "message": message}


def _told(problem: dict[str, object]) -> str:
    """Code and message; a message that begins with its row does not say it twice."""
    start = f"row {problem['row']}"
    message = str(problem["message"]).removeprefix(f"{start}, ").removeprefix(f"{start}: ")
    return f"{problem['code']}: {message}"


def _encoded(found: RowSpool, file: str) -> bytes:
    rows = (problem for row in found for problem in problems(row))
    text = io.StringIO(newline="")
    if file.lower().endswith(".jsonl"):
        text.writelines(json.dumps(problem, ensure_ascii=False) + "\n" for problem in rows)
        return text.getvalue().encode()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in problem.items()} for problem in rows)
    return text.getvalue().encode("utf-8-sig")  # spreadsheets need the mark
