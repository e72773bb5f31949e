"""Rebuild the output table from the ledger: `python -m jobs.rebuild output=...`."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.video_table import VIDEOS, replace_videos, write_videos
from pipeline.qc.retakes import last_takes
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.run.maintenance import all_locks, check_is_output, rebuild_table
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.uris import absolute, join

USAGE = f"""
Write clips.parquet again, with one row per clip, from done/ (the only record of what is done) and the last plan. Use
this job if the table was lost, if a run ended before it could write the table, or to merge all shards into one table.

  python -m jobs.rebuild output=s3://bucket/tonight

This job refuses to run while a render job is using the same output.
Options: --help
{CODES}
"""


@dataclass
class RebuildJob:
    """Configuration of `jobs.rebuild`."""

    output: str = option("", "Output folder of jobs.render, local or s3://.")
    embed_videos: bool = option(False, "Also write videos.parquet/: the same rows with each MP4 in a column `video`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(RebuildJob, USAGE, argv)
    if not job.output:
        return fail("output: give the output folder of a run", REFUSED)
    return ended(lambda: _rebuild(absolute(job.output), job.embed_videos))


def _rebuild(output: str, embed_videos: bool) -> int:
    check_is_output(output)
    run = new_run_id()
    ledger = Ledger(output, run)
    with all_locks(output, run):
        table, done = rebuild_table(ledger, last_takes(output))
        print(f"wrote {table}: {done} clips done")
        if embed_videos:
            print(f"wrote {replace_videos(table, join(output, VIDEOS), write_videos)}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
