"""report.html: the page that people open in the morning. One file with its data, styles and script; no network.

What grows with the clips: the row of each (about 1 kB), its curves (0.8 kB), and contact sheets (15 to 30 kB each),
embedded up to a limit, the failed ones first; those beyond it, and all videos, are files beside the page, which are
loaded when a clip is opened. The table shows 50 rows at a time. Written piece by piece, so that memory does not grow.

Values come from manifests of other teams: they are JSON in a block that no browser runs, and the page's own script,
which its security policy names by its hash, puts them in place as text.
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
from pipeline.ledger.clip_row import STEPS, StatusRow
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
"""Of each curve."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""A value from 0 to 1 is one of 64 letters, and none a dot."""


@dataclass(frozen=True)
class Details:
    """What the panel of one clip shows."""

    curves: dict[str, Any]
    labels: list[str]
    sheet: bytes | None
    """JPEG; None where it is not embedded."""
    sheet_uri: str
    """Of the same, relative to the page."""


def write_report(
    output: str,
    rows: Iterable[StatusRow],
    summary: dict[str, Any],
    *,
    name: str = REPORT,
    embed_megabytes: float = 30.0,
) -> tuple[str, int]:
    """Write the page of an output folder; (its URI, bytes). `rows` of clips.parquet, one per clip."""
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
    """Curves of all clips, and contact sheets, those of the worst verdicts first, until they are `budget` bytes."""

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
    """What quality control has kept of a clip; None where it has not seen it."""
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
    """At most `POINTS` letters, each the mean of as many values; and how many there are a second."""
    group = max(1, -(-len(values) // POINTS))
    text = ""
    for start in range(0, len(values), group):
        known = [value for value in values[start : start + group] if value is not None]
        text += LETTERS[round(63 * min(1.0, max(0.0, sum(known) / len(known))))] if known else "."
    return rate / group, text


def _page(summary: dict[str, Any]) -> tuple[str, str]:
    """Everything up to the data, and the script."""
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
    """JSON that ends no script block: every `<` is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _relative(uri: str, output: str) -> str:
    """A file of the output folder as a link of the page, in it."""
    return urllib.parse.quote(uri.removeprefix(output).lstrip("/"))
