"""Write the table and the report of an output folder again: `python -m jobs.report output=...`."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import table_rows
from pipeline.qc.retakes import last_takes
from pipeline.report.render_report import REPORT, write_report
from pipeline.run.exit_codes import DONE
from pipeline.run.maintenance import all_locks, check_is_output, rebuild_table
from pipeline.run.summary import SUMMARY, read_summary
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import absolute, join

USAGE = f"""
Write report.html and clips.parquet again from the contents of an output folder: done/, qc/, the last plan,
failed.jsonl and the verdicts of reviewers in review.csv. This job renders and measures nothing. `jobs.render` does
that, and it also writes the report.

  python -m jobs.report output=s3://bucket/tonight

The page links to the videos next to it, so open it in the output folder, in a copy of that folder (aws s3 sync) or
on a server that may read it. It contains no signed links, because those carry credentials. This job refuses to run
while a render job is using the same output.
Options: --help
{CODES}
"""


@dataclass
class ReportJob:
    """Configuration of `jobs.report`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    embed_megabytes: float = option(
        30.0,
        "Total size of the contact sheets that are embedded in the page; further sheets are files next to it.",
        least=0,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(ReportJob, USAGE, argv)
    return ended(lambda: _report(absolute(job.output), job.embed_megabytes))


def _report(output: str, embed_megabytes: float) -> int:
    check_is_output(output)
    run = new_run_id()
    ledger = Ledger(output, run)
    with all_locks(output, run):
        table, _ = rebuild_table(ledger, last_takes(output))
    found = read_summary(join(output, SUMMARY))
    summary = found if isinstance(found, dict) else {}
    clear_way(join(output, REPORT), output)
    uri, size = write_report(output, table_rows(table), summary, embed_megabytes=embed_megabytes, anew=True)
    print(f"wrote {uri} ({size / 1e6:.1f} MB) and {table}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
