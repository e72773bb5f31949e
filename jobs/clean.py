"""Remove what dead attempts left in an output folder: `python -m jobs.clean output=...`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.run.maintenance import all_locks, check_is_output, leftovers
from pipeline.storage.objects import absolute, remove
from pipeline.storage.run_lock import new_run_id

USAGE = f"""
Remove files that no reader sees and no run needs: videos without a row in done/, half-written files and the notes of
finished attempts. A row in done/ whose video has been deleted is removed too, so that the next run renders that clip
again.

  python -m jobs.clean --dry-run output=s3://bucket/tonight      list what would be removed
  python -m jobs.clean output=s3://bucket/tonight
  python -m jobs.clean output=s3://bucket/tonight versions=true  also remove older versions of clips

This job refuses to run while a render job is using the same output.
Options: --help, --dry-run
{CODES}
"""

REASONS = {
    "orphan": "videos that belong to no clip",
    "part": "half-written files",
    "attempt": "notes of finished attempts",
    "version": "clips rendered with settings or inputs that differ from the last plan",
    "figures": "metrics and contact sheets of clips that are not done",
    "broken": "clips whose video is missing; the next run renders them again",
}


@dataclass
class CleanJob:
    """Configuration of `jobs.clean`."""

    output: str = option("", "Output folder of jobs.render, local or s3://.")
    versions: bool = option(False, "Also remove older versions of the clips in the last plan.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(CleanJob, USAGE, argv, ["--dry-run"])
    if not job.output:
        return fail("output: give the output folder of a run", REFUSED)
    return ended(lambda: _clean(absolute(job.output), job.versions, dry="--dry-run" in flags))


def _clean(output: str, versions: bool, *, dry: bool) -> int:
    check_is_output(output)
    run = new_run_id()
    ledger = Ledger(output, run)
    if dry:
        removed = _sweep(ledger, versions, dry=True)
    else:
        with all_locks(output, run):
            removed = _sweep(ledger, versions, dry=False)
    for why, count in removed.items():
        print(f"{count:>8}  {REASONS[why]}")
    print(f"{'dry run: would remove' if dry else 'removed'} {sum(removed.values())} files from {ledger.output}")
    if removed["broken"] and not dry:
        print("next: run the render command again; it renders the clips whose videos are missing")
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
