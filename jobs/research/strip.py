"""Put frames of a run's videos into one image: `python -m jobs.research.strip output=... picture=...`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.ledger.table import TABLE, table_rows
from pipeline.report.strip import film_strip
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.objects import write_bytes
from pipeline.storage.uris import absolute, join

USAGE = f"""
Put frames from the videos of a jobs.render run into one PNG image: one row per clip, with frames at equal intervals.

  python -m jobs.research.strip output=out picture=strip.png
  python -m jobs.research.strip output=out picture=two.png "clips=[en-1, es-1-surprise]"

Options: --help
{CODES}
"""


@dataclass
class StripJob:
    """Configuration of `jobs.research.strip`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    picture: str = option("strip.png", "PNG file to write, local or s3://.")
    clips: list[str] = option(
        [], "Clip ids, one row of the image each, in this order; empty takes all clips in the order of the table."
    )
    frames: int = option(8, "Number of frames per clip.", least=1, most=50)
    side: int = option(128, "Side length of a frame in the image, px.", least=16, most=1024)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(StripJob, USAGE, argv)
    return ended(lambda: _strip(job))


def _strip(job: StripJob) -> int:
    table = join(absolute(job.output), TABLE)
    videos = {row["clip_id"]: row["uri"] for row in table_rows(table) if row["status"] == "done"}
    wanted = job.clips or list(videos)
    missing = [clip for clip in wanted if clip not in videos]
    if missing or not wanted:
        return fail(f"{table} has no finished clip {', '.join(missing)}".rstrip(), REFUSED)
    buffer = io.BytesIO()
    film_strip([videos[clip] for clip in wanted], job.frames, job.side).save(buffer, "PNG", optimize=True)
    write_bytes(buffer.getvalue(), absolute(job.picture))
    print(f"wrote {absolute(job.picture)} ({len(buffer.getvalue()) / 1e3:.0f} kB): {', '.join(wanted)}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
