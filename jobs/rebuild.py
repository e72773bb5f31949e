"""Make the output table again from the ledger: `python -m jobs.rebuild output=...`."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import fail, parse
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.qc.retakes import last_takes
from pipeline.run.maintenance import all_locks, rebuild_table
from pipeline.run.run import new_run_id
from pipeline.storage.objects import absolute
from pipeline.storage.run_lock import LockedError

USAGE = """
Write clips.parquet anew, one row per clip: from done/, which alone says what is done, and the last plan. For a table
that was lost or that a run did not come to write, and to make one table of all shards.

  python -m jobs.rebuild output=s3://bucket/tonight

It never runs beside a render job on the same output.
Options: --help. Exit codes: 0 written; 2 configuration refused, or a job is at work; 3 the storage failed.
"""


@dataclass
class RebuildJob:
    """Configuration of `jobs.rebuild`."""

    output: str = option("", "Output folder of jobs.render, local or s3://.")
    embed_videos: bool = option(False, "Also put each MP4 into a binary column `video`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(RebuildJob, USAGE, argv)
    if not job.output:
        return fail("output: a folder is required", 2)
    run = new_run_id()
    ledger = Ledger(absolute(job.output), run)
    try:
        with all_locks(ledger.output, run):
            table, done = rebuild_table(ledger, last_takes(ledger.output), embed_videos=job.embed_videos)
    except LockedError as error:
        return fail(str(error), 2)
    except Exception as error:  # every storage client has exceptions of its own
        return fail(f"{ledger.output}: {type(error).__name__}: {error}", 3)
    print(f"wrote {table}: {done} clips done")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
