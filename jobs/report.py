"""Write the table and the report of an output folder again: `python -m jobs.report output=...`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import table_rows
from pipeline.qc.retakes import last_takes
from pipeline.report.render_report import write_report
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.run.maintenance import all_locks, rebuild_table
from pipeline.run.summary import SUMMARY
from pipeline.storage.objects import absolute, join, list_folder, read_bytes
from pipeline.storage.run_lock import new_run_id

USAGE = f"""
Write report.html and clips.parquet anew from what lies in an output folder: done/, qc/, the last plan, failed.jsonl and
people's verdicts in review.csv. Renders and measures nothing: `jobs.render` does that, and writes the report too.

  python -m jobs.report output=s3://bucket/tonight

The page links videos beside it: open it where they are, in a copy of the folder (aws s3 sync) or on a server that may
read it. It has no signed links, as those carry credentials. It never runs beside a render job on the same output.
Options: --help
{CODES}
"""


@dataclass
class ReportJob:
    """Configuration of `jobs.report`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    embed_megabytes: float = option(30.0, "Contact sheets that are part of the page; others lie beside it.", least=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(ReportJob, USAGE, argv)
    return ended(lambda: _report(absolute(job.output), job.embed_megabytes))


def _report(output: str, embed_megabytes: float) -> int:
    if not any(name.startswith("summary.") for name in list_folder(output)):
        return fail(f"no run has begun in {output}: there is no {SUMMARY}", REFUSED)
    run = new_run_id()
    ledger = Ledger(output, run)
    with all_locks(output, run):
        table, _ = rebuild_table(ledger, last_takes(output))
    summary = json.loads(read_bytes(join(output, SUMMARY)) or b"{}")
    uri, size = write_report(output, table_rows(table), summary, embed_megabytes=embed_megabytes)
    print(f"wrote {uri} ({size / 1e6:.1f} MB) and {table}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
