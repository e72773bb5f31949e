"""Review the clips of an output in a browser, without files to carry about: `python -m jobs.review output=...`."""

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended
from pipeline.common.errors import RefusedError
from pipeline.common.limits import Limits
from pipeline.common.options import option
from pipeline.ledger.table import TABLE, table_rows
from pipeline.report.render_report import REPORT
from pipeline.report.review_server import ReviewServer
from pipeline.run.exit_codes import DONE
from pipeline.run.maintenance import check_is_output
from pipeline.storage.objects import list_folder
from pipeline.storage.uris import absolute, join, shown

USAGE = f"""
Serve the report of a run on this machine, for your browser alone. Reviews are written to review.csv in the output at
once, and videos are streamed from the local disk or from object storage. End it with Ctrl-C.

  python -m jobs.review output=s3://bucket/tonight
  python -m jobs.review output=out port=8100 browser=false    print the address only (ssh -L 8100:127.0.0.1:8100)

Then run the render command again if retakes were asked for, and jobs.deliver.
Options: --help
{CODES}
"""


@dataclass
class ReviewJob:
    """Configuration of `jobs.review`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")
    port: int = option(0, "Port on 127.0.0.1; 0 takes a free one.", least=0, most=65535)
    browser: bool = option(True, "Open the page in the browser of this machine, if it has one.")
    limits: Limits = field(default_factory=Limits)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(ReviewJob, USAGE, argv)
    return ended(lambda: _review(job))


def _review(job: ReviewJob) -> int:
    output = absolute(job.output)
    check_is_output(output)
    names = set(list_folder(output))
    if TABLE not in names or not any(name.startswith("report") and name.endswith(".html") for name in names):
        raise RefusedError(f"output: {shown(output)} has no {TABLE} and {REPORT}: run jobs.report on it first")
    columns = ("clip_id", "row", "status", "image", "fingerprint")
    rows = {row["row"]: row for row in table_rows(join(output, TABLE), columns)}
    try:
        server = ReviewServer(output, rows, job.limits, job.port)
    except OSError as error:
        raise RefusedError(f"port: {job.port} cannot be used ({error.strerror}): give another one, or 0") from error
    with server:
        before = len(server.reviews.all())
        print(f"open {server.address}\n(Ctrl-C ends it)", flush=True)
        if job.browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
        now = server.reviews.all()
    retakes = sum(one.verdict == "retake" for one in now)
    print(
        f"review.csv has {len(now)} reviews ({len(now) - before} more than before), {retakes} of them ask for a retake"
    )
    print("next: " + ("run the render command again to render the retakes" if retakes else "jobs.deliver"))
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
