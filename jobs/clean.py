"""Remove what dead attempts left in an output folder: `python -m jobs.clean output=...`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.run.maintenance import all_locks, leftovers
from pipeline.storage.objects import absolute, remove
from pipeline.storage.run_lock import new_run_id

USAGE = f"""
Remove files that no reader sees and no run needs: videos without a row in done/, half-written files, notes of attempts
that are over. A row in done/ whose video somebody has deleted goes too, so that the next run renders that clip again.

  python -m jobs.clean --dry-run output=s3://bucket/tonight      what would be removed
  python -m jobs.clean output=s3://bucket/tonight
  python -m jobs.clean output=s3://bucket/tonight versions=true  older versions of clips too

It never runs beside a render job on the same output.
Options: --help, --dry-run
{CODES}
"""

REASONS = {
    "orphan": "videos that no clip has",
    "part": "half-written files",
    "attempt": "notes of attempts that are over",
    "version": "clips done with other settings or inputs than the last plan's",
    "figures": "figures and contact sheets of clips that are not done",
    "broken": "clips whose video is gone; the next run renders them",
}


@dataclass
class CleanJob:
    """Configuration of `jobs.clean`."""

    output: str = option("", "Output folder of jobs.render, local or s3://.")
    versions: bool = option(False, "Remove older versions too of the clips that the last plan has.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(CleanJob, USAGE, argv, ["--dry-run"])
    if not job.output:
        return fail("output: a folder is required", REFUSED)
    return ended(lambda: _clean(absolute(job.output), job.versions, dry="--dry-run" in flags))


def _clean(output: str, versions: bool, *, dry: bool) -> int:
    run = new_run_id()
    ledger = Ledger(output, run)
    if dry:
        removed = _sweep(ledger, versions, dry=True)
    else:
        with all_locks(output, run):
            removed = _sweep(ledger, versions, dry=False)
    for why, count in removed.items():
        print(f"{count:>8}  {REASONS[why]}")
    print(f"{'dry run: would remove' if dry else 'removed'} {sum(removed.values())} files of {ledger.output}")
    if removed["broken"] and not dry:
        print("next: the job's own command renders the clips again whose videos are gone")
    return DONE


def _sweep(ledger: Ledger, versions: bool, *, dry: bool) -> Counter[str]:
    removed = Counter[str]()
    for leftover in leftovers(ledger, versions=versions):
        removed[leftover.why] += 1
        if dry:
            print(f"{leftover.why:>8}  {leftover.uri}")
        else:
            remove(leftover.uri)
    return removed


if __name__ == "__main__":
    raise SystemExit(main())
