"""Copy finished videos to another folder under plain names: `python -m jobs.deliver output=... to=...`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail
from pipeline.common.errors import RefusedError
from pipeline.common.options import option
from pipeline.common.progress import Progress
from pipeline.ledger.table import TABLE, table_rows
from pipeline.qc.retakes import reviewed
from pipeline.qc.review import REVIEW, read_reviews
from pipeline.run.deliver import LIST, SUMS, Delivery, Outcome, Target, chosen, hand_over
from pipeline.run.exit_codes import DONE, INCOMPLETE, REFUSED
from pipeline.run.maintenance import all_locks, check_is_output
from pipeline.storage.objects import check_folder, list_folder
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.uris import absolute, join, shown

USAGE = f"""
Copy the delivered take of each approved clip to another folder, under plain names, with {SUMS} (for `sha256sum -c
{SUMS}`) and {LIST}, which says what each file is.

  python -m jobs.deliver output=out to=s3://delivery/tonight
  python -m jobs.deliver output=out to=delivery name="{{language}}/{{speaker}}/{{clip_id}}.mp4"
  python -m jobs.deliver --dry-run output=out to=delivery only=pass

The same command goes on where an earlier one ended; what is there already is not copied again. A file in the way with
other contents stays unless you give replace=true. Each copy is compared with the SHA-256 that was recorded when the
clip was rendered. Reviews in review.csv count as they are now. A clip for which a reviewer has asked for another take
is never copied.

This job refuses to run while a render job is using the same output. After a run in shards, run jobs.rebuild first.
Options: --help, --dry-run
Exit codes: 0 all clips of the table are delivered; 1 some are not, for the reasons that are printed; 2 refused, change
what the message names; 3 the storage failed; 4 a bug.
"""


@dataclass
class DeliverJob:
    """Configuration of `jobs.deliver`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    to: str = option("", "Folder that gets the copies, local or s3://.")
    only: str = option(
        "approved",
        "approved delivers clips that a reviewer has approved; pass also those that pass quality control; all every "
        "finished clip, whatever its verdict.",
        choices=("approved", "pass", "all"),
    )
    name: str = option(
        "{clip_id}.mp4",
        "Name of each copy below the folder, with columns of clips.parquet in braces, your own ones included; MOV and "
        "MXF files get their own ending in place of .mp4.",
    )
    replace: bool = option(False, "Replace files of the same name whose contents differ, such as an earlier take.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(DeliverJob, USAGE, argv, ["--dry-run"])
    if not job.to:
        return fail("to: give the folder that gets the copies", REFUSED)
    return ended(lambda: _deliver(job, dry="--dry-run" in flags))


def _deliver(job: DeliverJob, *, dry: bool) -> int:
    output, to = absolute(job.output), absolute(job.to)
    check_is_output(output)
    check_folder(to, "to")
    if TABLE not in set(list_folder(output)):
        raise RefusedError(f"output: {shown(output)} has no {TABLE}: run jobs.rebuild on it first")
    target = Target(to, output, replace=job.replace)
    with all_locks(output, new_run_id()):
        reviews = read_reviews(join(output, REVIEW))  # the table has those that were there at the last run
        rows = (reviewed(row, reviews.get(row["clip_id"], [])) for row in table_rows(join(output, TABLE)))
        deliveries, left_out = chosen(rows, job.only, job.name)  # type: ignore[arg-type]
        if dry:
            for delivery in deliveries:
                print(f"{delivery.row['clip_id']} -> {shown(join(to, delivery.name))}")
            outcomes: Counter[Outcome] = Counter()
        else:
            outcomes = _copied(deliveries, target)
    ended_well = outcomes["delivered"] + outcomes["already there"] + outcomes["replaced"]
    if dry:
        print(f"dry run: would deliver {len(deliveries)} clips to {shown(to)}")
    else:
        parts = [f"{count} {outcome}" for outcome, count in outcomes.items()]
        print(f"{', '.join(parts) or 'nothing to deliver'}: {shown(to)}")
    for reason, count in left_out.most_common():
        print(f"  left out: {count} clips, {reason}")
    if not deliveries and left_out["not approved by a reviewer"]:
        print("next: approve clips in the report, or give only=pass or only=all")
    return DONE if not left_out and (dry or ended_well == len(deliveries)) else INCOMPLETE


def _copied(deliveries: list[Delivery], target: Target) -> Counter[Outcome]:
    """Copy, and name what could not be; returns how often each outcome came."""
    outcomes: Counter[Outcome] = Counter()
    problems = []
    with Progress(len(deliveries), measure="clips") as progress:
        for delivery, outcome in hand_over(deliveries, target):
            outcomes[outcome] += 1
            progress.add({"status": outcome})
            if outcome in ADVICE:
                problems.append(f"{shown(join(target.uri, delivery.name))}: {ADVICE[outcome]}")
    for problem in problems[:20]:
        print(problem)
    if len(problems) > 20:
        print(f"... and {len(problems) - 20} more")
    return outcomes


ADVICE: dict[Outcome, str] = {
    "in the way": "a file with other contents is there; give replace=true to replace it",
    "lost": "its video is gone or has changed since it was rendered; run the render command again, then deliver",
}


if __name__ == "__main__":
    raise SystemExit(main())
