"""`floatcast render --check`: what is wrong with the rows of a manifest and with their files, without rendering."""

import csv
import io
import json
import os
from collections.abc import Iterator
from itertools import islice

from pipeline.common.child import stop_children
from pipeline.common.csv_cells import cell
from pipeline.common.disk_collections import mapped
from pipeline.common.errors import RefusedError
from pipeline.common.notes import NOTES
from pipeline.common.progress import Progress
from pipeline.common.terminal import one_line
from pipeline.ledger.clip_row import clip_row, error_row, note_columns, rejected_row
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.table import RowSpool
from pipeline.manifest.clip import Clip
from pipeline.render.clip_inputs import frame_size, load_inputs
from pipeline.run.exit_codes import DONE, INCOMPLETE
from pipeline.run.prepare_run import Prepared
from pipeline.run.settings import RenderSettings
from pipeline.storage.objects import write_bytes
from pipeline.storage.targets import same_place
from pipeline.storage.uris import absolute

PRINTED = 1_000
"""Number of clips with a problem or a note that are printed; a file of problems has all of them."""

COLUMNS = ("row", "clip_id", "level", "code", "message")
"""Columns of a file of problems; `level` is rejected, failed, review or note."""


def check_problem_file(file: str, settings: RenderSettings) -> None:
    """Raise RefusedError if `file` cannot be the file of problems."""
    if not file.lower().endswith((".csv", ".jsonl")):
        raise RefusedError(f"problems: {file} must end in .csv or .jsonl")
    for key, place in (("manifest", settings.manifest), ("consent.register", settings.consent.register)):
        if place and same_place(file, place):
            raise RefusedError(f"problems: {absolute(file)} is the {key}: give the name of another file")


def check_inputs(prepared: Prepared, file: str = "") -> int:
    """Fetch, decode and check every input on this machine; returns the exit code.

    Prints each problem and note, and writes nothing but `file`, if one is given: a CSV or JSONL file with all of them.
    """
    job, manifest, size = prepared.settings, prepared.run.manifest, prepared.model.config.image_size
    kbps, frame = job.video.audio_kbps, frame_size(job.video)
    found = RowSpool(rejected_row(rejected) for rejected in manifest.rejected)
    bad = len(found)

    def check(clip: Clip) -> ClipRow:
        try:
            inputs = load_inputs(clip, job.limits, size, kbps, minutes=job.render.clip_minutes, frame_size=frame)
        except Exception as error:
            return error_row(clip, error, "check")
        return extended(clip_row(clip), {"status": "valid"} | note_columns(inputs.notes))

    with Progress(len(manifest.clips), measure="clips") as progress:
        for _, row in mapped(check, manifest.clips, os.cpu_count() or 1, stop_children):
            progress.add(row)
            bad += row["status"] != "valid"
            if row["status"] != "valid" or row["input_notes"]:
                found.add(row)
    for row in islice(found, PRINTED):
        for problem in problems(row):
            print(f"  {problem['level']}  row {problem['row']}  {one_line(row['clip_id'])}  {_told(problem)}")
    if len(found) > PRINTED:
        print(f"  ... and {len(found) - PRINTED} more clips: problems=problems.csv writes all of them into that file")
    wrote = "nothing was written"
    if file:
        write_bytes(_encoded(found, file), absolute(file))
        wrote = f"all problems and notes are in {absolute(file)}"
    print(f"\ncheck: {len(manifest) - bad} clips can be rendered, {bad} cannot; {wrote}")
    return INCOMPLETE if bad else DONE


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
