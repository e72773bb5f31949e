"""report.html, the page that users open in the morning: one file with its data, styles and script, without network use.

Its size grows with the clips: each has a row (about 1 kB), curves (0.8 kB) and a contact sheet (15 to 30 kB). Sheets
are embedded up to a limit, failed clips first. The other sheets and all videos are files next to the page, which are
loaded when a clip is opened. The table shows 50 rows at a time. The page is written piece by piece, so that memory does
not grow.

Values come from the manifests of other teams. They are stored as JSON in a block that browsers do not execute, and the
page's own script, whose hash is in the page's security policy, inserts them as text.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.ledger.clip_row import STEPS
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.measure.metric import VERDICTS
from pipeline.measure.metrics import METRICS
from pipeline.report.details import Details, Measured, last_details, load_details
from pipeline.report.html import PAGE, escaped, json_text, policy, relative
from pipeline.storage.objects import join, put_file

REPORT = "report.html"

COLUMNS = (
    *("clip_id", "row", "status", "error_code", "error_message", "qc_status", "qc_reasons", "qc_messages"),
    *("review", "review_comment", "take", "takes", "language", "speaker", "duration", "fps", "frames", "width"),
    *("image", "audio", "emotion", "emotion_source", "pose", "pose_source", "solver", "seed", "nfe"),
    *("a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop", "consent_ref", "provenance", "model", "model_trained"),
    *("bytes", "worker"),
    *(f"{step}_seconds" for step in STEPS),
    *(metric.column for metric in METRICS),
    "qc_seconds",
)

Shown = tuple[int, Measured, str | None]
"""A clip with a panel: its row in the page, what was measured, and the verdict."""


def write_report(
    output: str,
    rows: Iterable[ClipRow],
    summary: dict[str, Any],
    *,
    name: str = REPORT,
    embed_megabytes: float = 30.0,
    anew: bool = False,
) -> tuple[str, int]:
    """Write the page of an output folder and return (its URI, its size in bytes). `rows` are those of clips.parquet.

    Details that the last page has are taken from there, unless `anew`.
    """
    clips: Spool[Shown] = Spool()
    uri = join(output, name)
    known = DiskDict() if anew else last_details(uri)
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline="\n") as file:
        head, script = _page(summary)
        file.write(head)
        columns = [*COLUMNS, "video"]
        file.write(f'{{"summary": {json_text(summary)}, "columns": {json_text(columns)}, ')
        file.write(f'"figures": {json_text(_metrics())}, "rows": [')
        for index, row in enumerate(rows):
            if row["status"] == "done" and row.get("qc_version"):
                measured = Measured(row["clip_id"], row["fingerprint"], row["qc_version"])
                clips.append((index, measured, row.get("qc_status")))
            video = relative(row["uri"], output) if row.get("uri") else None
            values = [*(_value(row.get(column)) for column in COLUMNS), video]
            file.write((",\n" if index else "\n") + json_text(values))
        file.write("],\n")
        file.write(f'"page": {json_text({"output": output, "about": _about(embed_megabytes)})}}}\n</script>\n')
        _write_details(file, Ledger(output), clips, known, embed_megabytes * 1e6)
        file.write(f"<script>{script}</script>\n</body>\n</html>\n")
        file.flush()
        put_file(Path(file.name), uri)
        return uri, Path(file.name).stat().st_size


def _write_details(file: IO[str], ledger: Ledger, clips: Sequence[Shown], known: DiskDict, budget: float) -> None:
    """Write the curves of all clips, and contact sheets up to `budget` bytes, the worst verdicts first."""

    def load(item: tuple[int, Measured, str | None]) -> Details | None:
        _, clip, last = item
        return load_details(ledger, clip, last, sheet=budget > 0)

    items = ((index, clip, known.get(clip.key)) for index, clip, _ in _worst_first(clips))
    for (index, *_), details in mapped(load, items):
        if details is None:
            continue
        file.writelines(details.blocks(index, sheet=budget > 0))
        budget -= len(details.sheet or "")


def _worst_first(clips: Sequence[Shown]) -> Iterator[Shown]:
    for verdict in (*reversed(VERDICTS), None):
        yield from (clip for clip in clips if clip[2] == verdict)


def _page(summary: dict[str, Any]) -> tuple[str, str]:
    """The page up to the data, and the script."""
    style, script = ((PAGE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    text = (PAGE / "page.html").read_text("utf-8")
    title = escaped(f"Floatcast report {summary.get('run', '')}")
    return text.replace("@CSP@", policy(style, script)).replace("@TITLE@", title).replace("@CSS@", style), script


def _metrics() -> dict[str, tuple[str, str]]:
    return {metric.column: (metric.unit, metric.text) for metric in METRICS}


def _about(megabytes: float) -> str:
    return (
        f"Videos, and contact sheets beyond {megabytes:g} MB, are files next to this page and load when a clip is "
        "opened: keep the page in the output folder, or copy the whole folder. Lips is the correlation between mouth "
        "opening and audio level, which is not LSE."
    )


def _value(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
