"""Write one file of each programme, from its rows: `python -m jobs.join output=... to=...`."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail
from pipeline.common.errors import RefusedError
from pipeline.common.options import option
from pipeline.common.terminal import one_line
from pipeline.ledger.table import TABLE, table_rows
from pipeline.qc.retakes import reviewed
from pipeline.qc.review import REVIEW, read_reviews
from pipeline.run.exit_codes import DONE, INCOMPLETE, REFUSED
from pipeline.run.join import Joiner, programmes_of
from pipeline.run.maintenance import all_locks, check_is_output
from pipeline.storage.objects import check_folder, list_folder
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.uris import absolute, join, normal, shown

USAGE = """
Join the delivered takes of each programme (the column programme of the manifest) into one file, in their order.

  python -m jobs.join output=out to=delivery                         all programmes of which every row is approved
  python -m jobs.join output=out to=s3://delivery only=pass programme=[evening,night]

The pictures are copied and not encoded again. PCM sound stays as it is; other sound is encoded once more, as AAC,
because it cannot be cut to the sample. A programme is refused, with the reason, if one of its rows is not ready, if its
files differ in size or encoding, or if there is a gap between the time codes of two rows (rendering with
programme.gaps=idle fills gaps). The file has the time code of the first row and the mark of AI-generated media; it is
not signed.

This job refuses to run while a render job is using the same output. After a run in shards, run jobs.rebuild first.
Options: --help
Exit codes: 0 all programmes are joined; 1 some are not, for the reasons that are printed; 2 refused, change what the
message names; 3 the storage failed; 4 a bug.
"""


@dataclass
class JoinJob:
    """Configuration of `jobs.join`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    to: str = option("", "Folder that gets the files, local or s3://; they have the names of the programmes.")
    programme: list[str] = option([], "Join only these programmes; empty joins all.")
    only: str = option(
        "approved",
        "Which rows are ready: approved are those that a reviewer has approved, and clips that fill gaps and pass "
        "quality control; pass also other rows that pass it; all every finished clip, whatever its verdict.",
        choices=("approved", "pass", "all"),
    )
    audio_kbps: int = option(192, "Bit rate of AAC, kbit/s; PCM has none.", least=32, most=512)
    replace: bool = option(False, "Replace files of the same name.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(JoinJob, USAGE, argv)
    if not job.to:
        return fail("to: give the folder that gets the joined files", REFUSED)
    return ended(lambda: _join(job))


def _join(job: JoinJob) -> int:
    output, to = absolute(job.output), absolute(job.to)
    check_is_output(output)
    check_folder(to, "to")
    if f"{normal(to).rstrip('/')}/".startswith(f"{normal(output).rstrip('/')}/"):
        raise RefusedError(f"to: {shown(to)} is in the output folder: give a folder of its own")
    if TABLE not in set(list_folder(output)):
        raise RefusedError(f"output: {shown(output)} has no {TABLE}: run jobs.rebuild on it first")
    failed = 0
    with all_locks(output, new_run_id()):
        reviews = read_reviews(join(output, REVIEW))
        rows = (reviewed(row, reviews.get(row["clip_id"], [])) for row in table_rows(join(output, TABLE)))
        joiner = Joiner(output, to, job.only, kbps=job.audio_kbps, replace=job.replace)  # type: ignore[arg-type]
        for name, parts in programmes_of(rows, job.programme).items():
            joined = joiner.join(name, parts)
            if joined.why:
                failed += 1
                print(f"{one_line(name)} was not joined: {joined.why}")
            else:
                print(f"{shown(joined.uri)}: {joined.clips} clips, {joined.frames} frames")
            for note in joined.notes:
                print(f"  note: {one_line(note)}")
    if failed:
        print("next: approve clips in the report, or give only=pass or only=all, or correct what is named above")
    return INCOMPLETE if failed else DONE


if __name__ == "__main__":
    raise SystemExit(main())
