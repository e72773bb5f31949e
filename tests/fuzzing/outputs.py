"""A finished output without a single rendered frame, whose files are damaged one at a time."""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from pipeline.common.disk_collections import Spool
from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row, rejected_row
from pipeline.ledger.columns import extended
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import TABLE, TAKES, RowSpool, write_table
from pipeline.manifest.reader import Manifest, read_manifest
from pipeline.run.plan import PLAN, Plan, write_plan
from pipeline.run.run import FAILED, Run
from pipeline.run.selection import Selection
from pipeline.run.summary import SUMMARY, write_summary
from tests.running import run_job

JOBS = (("status",), ("rebuild",), ("clean", "--verify"), ("report",))


@functools.cache
def finished() -> Path:
    """The output: two clips that are done, one with measurements, one in quarantine, and a rejected row."""
    folder = Path(tempfile.mkdtemp())
    output = folder / "out"
    lines = [json.dumps({"clip_id": name, "image": "a.png", "audio": "a.wav", "tags": [name]}) for name in "abc"]
    (folder / "m.jsonl").write_text("\n".join([*lines, '{"image": "a.png"}']))
    manifest = read_manifest(str(folder / "m.jsonl"))
    ledger, rows, parts = Ledger(str(output), "run"), RowSpool(), []
    for clip in manifest.clips:
        clip = clip.__class__(**{**clip.__dict__, "fingerprint": f"{clip.row:012x}"})
        parts.append({"clip_id": clip.clip_id, "row": clip.row, "fingerprint": clip.fingerprint, "parts": "{}"})
        if clip.clip_id == "c":
            ledger.quarantine(clip, "render")
            continue
        video = folder / "video.mp4"
        video.write_bytes(f"video of {clip.clip_id}".encode() * 99)
        known = {"status": "done", "bytes": video.stat().st_size, "frames": 1, "duration": 0.04, "fps": 25.0}
        known |= {"sha256": hashlib.sha256(video.read_bytes()).hexdigest(), "input_notes": [], "face_box": [0.0, 1.0]}
        rows.add(ledger.commit(video, clip, extended(clip_row(clip), known)))
        measured = {"version": "2", "figures": {"qc_loudness_lufs": -20.0}, "notes": [], "seconds": 1.0}
        measured["curves"] = {"mouth": [0.1, None], "speech": [0.2, 0.1], "rate": 25.0}
        ledger.write_qc(clip.clip_id, clip.fingerprint, json.dumps(measured).encode(), b"\xff\xd8 sheet \xff\xd9")
    for rejected in manifest.rejected:
        rows.add(rejected_row(rejected))
    write_table(rows, str(output))
    write_table(rows, str(output), name=TAKES)
    (output / FAILED).write_text("".join(json.dumps(row) + "\n" for row in rows if row["status"] != "done"))
    write_plan(Plan(parts=Spool(parts)), str(output), {"model": "m"}, PLAN)
    run = Run(ledger, Manifest(manifest.uri, Spool(), Spool()), Selection("", 0, ""), Limits(), {})
    run.close("done", 0)
    write_summary(run)
    (output / "review.csv").write_text("clip_id,take,verdict,comment\na,1,approved,good\n")
    return output


def state_files() -> dict[str, bytes]:
    """The files that are damaged, by their path in the output with `|` for `/`."""
    output = finished()
    files = [output / name for name in (TABLE, TAKES, FAILED, PLAN, SUMMARY, "review.csv")]
    files += [next(iter(sorted((output / name).glob("*.json")))) for name in ("done", "qc", "attempts")]
    return {file.relative_to(output).as_posix().replace("/", "|"): file.read_bytes() for file in files}


def read_output(name: str, data: bytes) -> None:
    """Put `data` in place of a file, and have all jobs look at the output that need no model."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        shutil.copytree(finished(), output)
        (output / name.replace("|", "/")).write_bytes(data)
        for job, *options in JOBS:
            ended = run_job(job, *options, f"output={output}")
            if ended.returncode not in (0, 1, 2) or "Traceback" in ended.stderr:
                raise AssertionError(f"{job} ends with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        assert not os.path.exists(output / "run.lock")
