"""The files of an output folder that a rendering job replaces, and how those of earlier runs are told from others."""

from pipeline.ledger.done_record import split_stem
from pipeline.ledger.done_store import DONE
from pipeline.ledger.table import TABLE, TAKES
from pipeline.ledger.video_table import VIDEOS
from pipeline.report.render_report import REPORT
from pipeline.run.continued import ROWS
from pipeline.run.notify import EVENTS
from pipeline.run.plan import PLAN
from pipeline.run.run import FAILED
from pipeline.run.selection import Selection
from pipeline.run.settings import RenderSettings
from pipeline.run.summary import SUMMARY, read_summary
from pipeline.storage.objects import list_sizes
from pipeline.storage.targets import Target, check_targets, is_page, json_with, lines_with, table_with, tables_with
from pipeline.storage.uris import join


def check_output(settings: RenderSettings, selection: Selection, *, continues: bool) -> None:
    """Raise RefusedError if the output is no folder, or if the run would replace an input or a file of somebody else.

    A run `continues` an earlier one if its manifest is the failed.jsonl of its own output, which it may replace.
    """
    targets = [
        Target(selection.name(TABLE), table_with(*ROWS)),
        Target(selection.name(TAKES), table_with(*ROWS)),
        Target(selection.name(PLAN), table_with("clip_id", "row", "fingerprint")),
        Target(selection.name(FAILED), lines_with(*ROWS)),
        Target(selection.name(SUMMARY), json_with("run", "state", "manifest")),
        Target(selection.name(REPORT), is_page),
    ]
    if settings.embed_videos:
        targets.append(Target(selection.name(VIDEOS), tables_with(*ROWS, "video"), is_folder=True))
    inputs = {
        "manifest": "" if continues else settings.manifest,
        "consent.register": settings.consent.register,
        "qc.review": settings.qc.review,
        "provenance.certificate": settings.provenance.certificate,
        "provenance.private_key": settings.provenance.private_key,
        "notify.secret_file": settings.notify.secret_file,
    }
    folders = ("videos", "done", "qc", "attempts", *((EVENTS,) if settings.notify.url else ()))
    check_targets(settings.output, targets, inputs, lambda: _has_run(settings.output, selection), folders)


def _has_run(output: str, selection: Selection) -> bool:
    """Whether an earlier run has left a row or a summary in the output."""
    names = (name.removesuffix(".json") for name, _ in list_sizes(join(output, DONE)) if name.endswith(".json"))
    return any(map(split_stem, names)) or isinstance(read_summary(join(output, selection.name(SUMMARY))), dict)
