"""report.html, the page that users open in the morning: one file with its data, styles and script, without network use.

Its size grows with the clips: each has a row (about 1 kB), curves (0.8 kB) and a contact sheet (15 to 30 kB). Sheets
are embedded up to a limit, failed clips first. The other sheets and all videos are files next to the page, which are
loaded when a clip is opened. The table shows 50 rows at a time. The page is written piece by piece, so that memory does
not grow.

Values come from the manifests of other teams. They are stored as JSON in a block that browsers do not execute, and the
page's own script, whose hash is in the page's security policy, inserts them as text.
"""

import base64
import json
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.common.disk_collections import Spool, mapped
from pipeline.ledger.clip_row import STEPS
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.measure.metric import VERDICTS
from pipeline.measure.metrics import METRICS
from pipeline.report.html import PAGE, escaped, policy
from pipeline.storage.objects import join, put_file, read_bytes

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

POINTS = 300
"""Number of points of each curve."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""A value from 0 to 1 is encoded as one of 64 letters, and a missing value as a dot."""


@dataclass(frozen=True)
class Details:
    """What the panel of one clip shows."""

    curves: dict[str, Any]
    labels: list[str]
    sheet: bytes | None
    """JPEG; None if it is not embedded."""
    sheet_uri: str
    """URI of the same sheet, relative to the page."""


def write_report(
    output: str,
    rows: Iterable[ClipRow],
    summary: dict[str, Any],
    *,
    name: str = REPORT,
    embed_megabytes: float = 30.0,
) -> tuple[str, int]:
    """Write the page of an output folder and return (its URI, its size in bytes). `rows` are those of clips.parquet."""
    clips: Spool[tuple[int, str, str, str | None]] = Spool()
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline="\n") as file:
        head, script = _page(summary)
        file.write(head)
        columns = [*COLUMNS, "video"]
        file.write(
            f'{{"summary": {_json(summary)}, "columns": {_json(columns)}, "figures": {_json(_metrics())}, "rows": ['
        )
        for index, row in enumerate(rows):
            if row["status"] == "done" and row.get("qc_version"):
                clips.append((index, row["clip_id"], row["fingerprint"], row.get("qc_status")))
            video = _relative(row["uri"], output) if row.get("uri") else None
            file.write((",\n" if index else "\n") + _json([*(_value(row.get(column)) for column in COLUMNS), video]))
        file.write("],\n")
        file.write(f'"page": {_json({"output": output, "about": _about(embed_megabytes)})}}}\n</script>\n')
        _write_details(file, Ledger(output), clips, embed_megabytes * 1e6)
        file.write(f"<script>{script}</script>\n</body>\n</html>\n")
        file.flush()
        uri = join(output, name)
        put_file(Path(file.name), uri)
        return uri, Path(file.name).stat().st_size


def _write_details(
    file: IO[str], ledger: Ledger, clips: Sequence[tuple[int, str, str, str | None]], budget: float
) -> None:
    """Write the curves of all clips, and contact sheets up to `budget` bytes, the worst verdicts first."""

    def load(clip: tuple[int, str, str, str | None]) -> Details | None:
        return load_details(ledger, clip[1], clip[2], sheet=budget > 0)

    for (index, *_), details in mapped(load, _worst_first(clips)):
        if details is None:
            continue
        content = {"curves": details.curves, "labels": details.labels, "sheet": details.sheet_uri}
        file.write(f'<script type="application/json" id="d{index}">{_json(content)}</script>\n')
        if details.sheet is not None and budget > 0:
            encoded = base64.b64encode(details.sheet).decode()
            budget -= len(encoded)
            file.write(f'<script type="text/plain" id="s{index}">{encoded}</script>\n')


def _worst_first(
    clips: Sequence[tuple[int, str, str, str | None]],
) -> Iterator[tuple[int, str, str, str | None]]:
    for verdict in (*reversed(VERDICTS), None):
        yield from (clip for clip in clips if clip[3] == verdict)


def load_details(ledger: Ledger, clip_id: str, fingerprint: str, *, sheet: bool = True) -> Details | None:
    """What quality control has stored for a clip; None if it has not seen the clip."""
    known = ledger.read_qc(clip_id, fingerprint)
    if known is None:
        return None
    uri = ledger.qc_uri(clip_id, fingerprint, "jpg")
    curves = known["curves"]
    rate, mouth = _letters(curves["mouth"], curves["rate"])
    _, speech = _letters(curves["speech"], curves["rate"])
    shown = {"rate": rate, "mouth": mouth, "speech": speech}
    jpeg = read_bytes(uri) if sheet else None
    return Details(shown, known["sheet_labels"], jpeg, _relative(uri, ledger.output))


def _letters(values: Sequence[float | None], rate: float) -> tuple[float, str]:
    """At most `POINTS` letters, each the mean of equally many values; and the number of letters per second."""
    group = max(1, -(-len(values) // POINTS))
    text = ""
    for start in range(0, len(values), group):
        known = [value for value in values[start : start + group] if value is not None]
        text += LETTERS[round(63 * min(1.0, max(0.0, sum(known) / len(known))))] if known else "."
    return rate / group, text


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


def _json(value: Any) -> str:
    """JSON that cannot end a script block, because every `<` is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _relative(uri: str, output: str) -> str:
    """Link from the page to a file in the output folder."""
    return urllib.parse.quote(uri.removeprefix(output).lstrip("/"))
