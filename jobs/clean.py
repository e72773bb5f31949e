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
from pipeline.storage.objects import remove
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.set_aside import DAMAGED, set_aside
from pipeline.storage.uris import absolute, join

USAGE = f"""
Remove files that no reader sees and no run needs: videos without a row in done/, half-written files and the notes of
finished attempts. Damaged files, and rows in done/ whose videos are missing or have another size, are moved to
damaged/ in the output, so that the next run renders those clips again.

  python -m jobs.clean --dry-run output=s3://bucket/tonight      list what would be removed
  python -m jobs.clean output=s3://bucket/tonight
  python -m jobs.clean output=s3://bucket/tonight versions=true  also remove older versions of clips
  python -m jobs.clean --verify output=s3://bucket/tonight       also read every video, and compare its SHA-256

This job refuses to run while a render job is using the same output.
Options: --help, --dry-run, --verify
{CODES}
"""

REASONS = {
    "orphan": "videos that belong to no clip",
    "part": "half-written files",
    "attempt": "notes of finished attempts",
    "version": "clips rendered with settings or inputs that differ from the last plan",
    "figures": "metrics and contact sheets of clips that are not done",
    "broken": "clips whose video is missing or is not what was rendered; the next run renders them again",
    "damaged": "damaged files; where they were rows in done/, the next run renders or restores the clips",
}


@dataclass
class CleanJob:
    """Configuration of `jobs.clean`."""

    output: str = option("", "Output folder of jobs.render, local or s3://.")
    versions: bool = option(False, "Also remove older versions of the clips in the last plan.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(CleanJob, USAGE, argv, ["--dry-run", "--verify"])
    if not job.output:
        return fail("output: give the output folder of a run", REFUSED)
    return ended(
        lambda: _clean(absolute(job.output), job.versions, dry="--dry-run" in flags, verify="--verify" in flags)
    )


def _clean(output: str, versions: bool, *, dry: bool, verify: bool) -> int:
    check_is_output(output)
    run = new_run_id()
    ledger = Ledger(output, run)
    if dry:
        removed = _sweep(ledger, versions, dry=True, verify=verify)
    else:
        with all_locks(output, run):
            removed = _sweep(ledger, versions, dry=False, verify=verify)
    for why, count in removed.items():
        print(f"{count:>8}  {REASONS[why]}")
    lost = removed["broken"] + removed["damaged"]
    print(f"{'dry run: would remove' if dry else 'removed'} {removed.total() - lost} files from {ledger.output}")
    if lost:
        print(f"{'would move' if dry else 'moved'} {lost} files to {join(ledger.output, DAMAGED)}")
    if lost and not dry:
        print("next: run the render command again; it renders what was lost")
    return DONE


def _sweep(ledger: Ledger, versions: bool, *, dry: bool, verify: bool) -> Counter[str]:
    removed = Counter[str]()
    for leftover in leftovers(ledger, versions=versions, verify=verify):
        removed[leftover.why] += 1
        if dry or leftover.is_lost:
            print(f"{leftover.why:>8}  {leftover.uri}")
        if dry:
            continue
        if leftover.is_lost:
            set_aside(leftover.uri, ledger.output)
        else:
            remove(leftover.uri)
    return removed


if __name__ == "__main__":
    raise SystemExit(main())
