"""Generate a corpus of talking heads: `python -m jobs.research.corpus output=... [key=value ...]`."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail
from jobs.cli.submitted import lost_output
from models import MOTION_FPS
from pipeline.cluster.connect import ADDRESS, executor_option, open_executor
from pipeline.cluster.work_units import Units
from pipeline.common.extras import check_extra
from pipeline.common.options import option
from pipeline.common.progress import Progress, duration_text
from pipeline.ledger.done_store import DONE as DONE_FOLDER
from pipeline.media.contact_sheet import Tile, contact_sheet, in_rows, jpeg
from pipeline.research.corpus.flite import check_flite
from pipeline.research.corpus.natural import FLITE, KOKORO, PIPER
from pipeline.research.corpus.stage import THUMBNAIL, CorpusSettings, CorpusStage, read_done, speaker_name
from pipeline.run.exit_codes import DONE, INCOMPLETE, REFUSED
from pipeline.storage.objects import check_writable, read_bytes, write_bytes
from pipeline.storage.uris import absolute, join

USAGE = """
Generate videos of talking heads with known mouth shapes, head poses and expressions. Computer-graphics heads (package
anny) speak with the voices of espeak-ng in eight languages and seven emotions. Everything is determined by seeds.

  pip install 'floatcast[corpus]'            and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.corpus output=corpus corpus.speakers=100 corpus.clips=10
  python -m jobs.prepare source=corpus/corpus.csv output=data clips.size=256

The output folder contains videos/, truth/ (action units, poses, boxes and phonemes of each frame, in one Parquet file
per speaker), curves/ (the values of each frame that training may use), corpus.csv (a table for jobs.prepare) and
sheet.jpg (a contact sheet of the first speakers). Running the same command again resumes where the last run ended. With
more speakers, the new ones are added to those that exist.

With corpus.natural, a share of the speakers has a voice that was learned from recordings of people (pip install
'floatcast[voices]'). With corpus.pictures=false, the speech is written alone, for jobs.research.encoders.

Generated heads are not people: a model trained on them alone does not animate photographs well.
Options: --help
Exit codes: 0 generated; 1 some speakers failed; 2 the configuration was refused; 3 the cluster or the storage failed;
4 a bug; 130 interrupted.
"""

COLUMNS = ("video", "speaker", "language", "emotion", "curves")
SHOWN = 48
"""Number of speakers in the contact sheet."""


@dataclass
class CorpusJob:
    """Configuration of `jobs.research.corpus`."""

    output: str = option("", "Output folder, local or s3://.")
    workers: int = option(0, "Number of rendering processes; 0 uses one per CPU of the cluster.", least=0)
    executor: str = executor_option()
    address: str = option("", ADDRESS)
    corpus: CorpusSettings = field(default_factory=CorpusSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(CorpusJob, USAGE, argv)
    if not job.output:
        return fail("output: give a folder", REFUSED)
    if reason := lost_output(job.output):
        return fail(reason, REFUSED)
    job.output = absolute(job.output)
    return ended(
        lambda: _generate(job), "interrupted: finished speakers are kept; run the same command again to resume"
    )


def _generate(job: CorpusJob) -> int:
    check_extra("corpus", "generated talking heads")
    if job.corpus.natural:
        if {PIPER, KOKORO} & set(job.corpus.voices):
            check_extra("voices", "natural voices")
        if FLITE in job.corpus.voices:
            check_flite()
    check_writable(job.output)
    start, mark = time.monotonic(), job.corpus.fingerprint()
    everybody = range(job.corpus.speakers)
    rows = {number: row for number in everybody if (row := read_done(job.output, number, mark))}
    todo = [number for number in everybody if number not in rows]
    print(f"plan: {len(todo)} speakers to generate, {len(rows)} done before", flush=True)
    failed = dict.fromkeys(todo, "lost")
    if todo:
        units = Units(todo, [1.0] * len(todo), 1.0)
        with (
            open_executor(job.executor, job.address) as executor,
            Progress(len(todo), measure="speakers", things="speakers") as progress,
        ):
            for row in executor.run_stage(units, CorpusStage(job.output, job.corpus), job.workers):
                progress.add(row)
                if row["status"] == "done":
                    rows[row["number"]] = row
                    del failed[row["number"]]
                else:
                    failed[row["number"]] = row["message"]
    clips = [clip for number in sorted(rows) for clip in rows[number]["clips"]]
    write_bytes(_table(clips), join(job.output, "corpus.csv"))
    if job.corpus.pictures:
        write_bytes(_sheet(job.output, sorted(rows)[:SHOWN]), join(job.output, "sheet.jpg"))
    for number, problem in list(failed.items())[:20]:
        print(f"  failed  {speaker_name(number)}  {problem}")
    hours = sum(clip["frames"] for clip in clips) / MOTION_FPS / 3600
    print(f"{'speakers':>11}  {len(rows)}, {len(clips)} videos, {hours:.2f} h")
    print(f"{'time':>11}  {duration_text(time.monotonic() - start)}")
    if not job.corpus.pictures:
        print(f"{'next':>11}  python -m jobs.research.encoders corpus={job.output} output=...")
        return INCOMPLETE if failed else DONE
    print(f"{'sheet':>11}  {join(job.output, 'sheet.jpg')}")
    table = join(job.output, "corpus.csv")
    side = job.corpus.size
    # The heads fill about 60 % of a frame: prepare's limit is for videos from elsewhere.
    keys = f"clips.size={side} clips.min_face={side // 3}"
    if job.corpus.stills:  # too short for the usual limit, and too short to measure an offset
        keys += " clips.min_seconds=0.4 clips.max_av_offset_ms=0"
    print(f"{'next':>11}  python -m jobs.prepare source={table} output=... {keys}")
    return INCOMPLETE if failed else DONE


def _table(clips: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(clips)
    return text.getvalue().encode()


def _sheet(output: str, numbers: list[int]) -> bytes:
    """JPEG of the speakers' first clips, eight in a row."""
    found = [read_bytes(join(output, DONE_FOLDER, f"{speaker_name(number)}.jpg")) for number in numbers]
    tiles = [Tile(np.asarray(Image.open(io.BytesIO(tile)))) for tile in found if tile]
    return jpeg(contact_sheet(in_rows(tiles, 8), side=THUMBNAIL), 88)


if __name__ == "__main__":
    raise SystemExit(main())
