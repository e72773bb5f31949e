"""The files that runs leave at the top of an output, and that a run can do without: damaged ones are written again."""

from collections import deque
from collections.abc import Callable, Iterator

from pipeline.ledger.table import TABLE, TAKES, check_table, failed_rows
from pipeline.report.render_report import REPORT
from pipeline.run.plan import PLAN, read_plan
from pipeline.run.run import FAILED
from pipeline.run.selection import Selection
from pipeline.run.summary import SUMMARY, read_summary
from pipeline.storage.findings import Finding, finding_of
from pipeline.storage.records import Damaged, DamagedError, obstacle
from pipeline.storage.uris import join

Check = Callable[[str, str], Damaged | None]
"""(output, name) -> the file, if it is damaged."""


def damaged_files(output: str, selection: Selection) -> Iterator[Finding]:
    """Tables, lists and pages of the run's selection that are damaged. Reads them once. Raises StorageError."""
    again = "it counts as absent, and this run writes it again"
    for name, check in CHECKS.items():
        name = selection.name(name)
        if (found := check(output, name)) is not None:
            part = selection.is_part and name.startswith(("clips", "takes"))
            more = "; its rows of other clips are lost until floatcast rebuild writes them again" if part else ""
            yield finding_of(found, again + more)


def _readable(read: Callable[[str, str], object]) -> Check:
    def check(output: str, name: str) -> Damaged | None:
        try:
            read(output, name)
        except DamagedError as error:
            return error.found
        return None

    return check


def _summary(output: str, name: str) -> Damaged | None:
    found = read_summary(join(output, name))
    return found if isinstance(found, Damaged) else None


CHECKS: dict[str, Check] = {
    TABLE: _readable(lambda output, name: check_table(join(output, name))),
    TAKES: _readable(lambda output, name: check_table(join(output, name))),
    FAILED: _readable(lambda output, name: deque(failed_rows(join(output, name)), maxlen=0)),
    PLAN: _readable(lambda output, name: deque(read_plan(output, name), maxlen=0)),
    SUMMARY: _summary,
    REPORT: lambda output, name: obstacle(join(output, name)),
}
"""Name of a file -> how it is looked at."""
