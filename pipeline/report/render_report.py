"""report.html, the page that users open in the morning: one file with its data, styles and script, without network use.
A run of more than 20,000 clips has several such pages.

Its size grows with the clips: each has a row (about 1 kB), curves (0.8 kB) and a contact sheet (15 to 30 kB). Sheets
are embedded up to a limit, failed clips first. The other sheets and all videos are files next to the page, which are
loaded when a clip is opened. The table shows 50 rows at a time. The page is written piece by piece, so that memory does
not grow.

Values come from the manifests of other teams. They are stored as JSON in a block that browsers do not execute, and the
page's own script, whose hash is in the page's security policy, inserts them as text.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline.common.disk_collections import DiskDict, Spool, mapped
from pipeline.ledger.clip_row import STEPS
from pipeline.ledger.columns import OURS, ClipRow, values_of
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import TAKES, table_rows
from pipeline.manifest import emotion_spans, pose_spans, silence
from pipeline.measure.metric import VERDICTS
from pipeline.measure.metrics import METRICS
from pipeline.report.details import Details, Measured, last_details, load_details
from pipeline.report.html import PAGE, escaped, json_text, policy, relative, style_of
from pipeline.storage.objects import list_folder, put_file, remove
from pipeline.storage.records import DamagedError
from pipeline.storage.uris import join

REPORT = "report.html"

PART_CLIPS = 20_000
"""So many clips are on one page: 26 MB and the contact sheets, which a browser opened in a second (measured without the
sheets). A longer run has several pages, and the clips that a person should look at come first.
"""

COLUMNS = (
    *("clip_id", "row", "status", "error_code", "error_message", "qc_status", "qc_reasons", "qc_messages"),
    *("review", "review_comment", "take", "takes", "language", "speaker", "duration", "fps", "frames"),
    *("width", "height"),
    *("image", "audio", "seconds", "emotion", "emotion_source", "silence", "pose", "pose_source", "solver"),
    *("seed", "nfe", "a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop", "frame", "face", "faces"),
    *("faces_animated", "consent_ref", "provenance", "model"),
    *("model_trained", "preset", "title", "audio_tracks", "timecode", "timecode_after", "programme"),
    *("programme_frame", "continues", "gap_after", "fingerprint"),
    *("bytes", "worker", "faces_found", "input_messages"),
    *(f"{step}_seconds" for step in STEPS),
    *(metric.column for metric in METRICS),
    *("qc_faces", "qc_seconds"),
)

SCRIPTS = ("list.js", "clip.js", "review.js", "start.js")
"""Parts of the page's script, in their order."""

OWN_COLUMNS = 12
"""Most columns of the manifest's own that the page shows; clips.parquet has all of them."""
OWN_CHARACTERS = 200
"""Most characters of a value in such a column."""

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
    part_clips: int = PART_CLIPS,
    takes: str = TAKES,
) -> tuple[str, int]:
    """Write the page of an output folder and return (its URI, its size in bytes).

    `rows` are those of clips.parquet, and `takes` is the name of the table of takes, whose other takes the page shows.

    Beyond `part_clips` clips there are several pages, of which only the first one embeds contact sheets. Details that
    the last pages have are taken from there, unless `anew`.
    """
    whole, every, urgent = Whole(), Spool[ClipRow](), bytearray()
    for row in rows:
        whole.add(row)
        every.append(row)
        urgent.append(needs_attention(row))
    part = name.removesuffix(".html") + ".part-"
    last = [page for page in list_folder(output) if page.startswith(part) and page.endswith(".html")]
    known = DiskDict() if anew else last_details(*(join(output, page) for page in (name, *last)))
    pages = max(1, -(-len(every) // part_clips))
    order = range(len(every)) if pages == 1 else sorted(range(len(every)), key=lambda i: not urgent[i])
    ordered = (every[i] for i in order)
    names = [name, *(f"{part}{number}.html" for number in range(2, pages + 1))]
    others = _other_takes(output, takes)
    size = 0
    for number, page in enumerate(names, start=1):
        shown = islice(ordered, part_clips)
        parts = {"part": number, "names": names, "whole": whole.counts()} if pages > 1 else {}
        budget = embed_megabytes if number == 1 else 0.0
        parts |= {"own": whole.own, "takes": others}
        written = _write_page(output, page, shown, summary, known, budget, parts)
        size = size or written
    for page in set(last) - set(names):
        remove(join(output, page))
    return join(output, name), size


def needs_attention(row: ClipRow) -> bool:
    """Whether a person should look at a clip first: it is not done, or quality control did not pass it."""
    return row["status"] != "done" or row.get("qc_status") not in (None, "pass")


class Whole:
    """Counts over all clips of a run, for pages that show a part of them."""

    def __init__(self) -> None:
        self._statuses, self._verdicts = Counter[str](), Counter[str]()
        self._errors, self._reasons = Counter[str](), Counter[str]()
        self._clips, self._seconds = 0, 0.0
        self.own: list[str] = []
        """The first of the manifest's own columns that have a value."""

    def add(self, row: ClipRow) -> None:
        """Count a clip."""
        self._clips += 1
        for name, value in row.items():
            own = name not in OURS and name not in self.own
            if own and len(self.own) < OWN_COLUMNS and isinstance(value, str | int | float):
                self.own.append(name)
        self._seconds += row.get("duration") or 0.0
        self._statuses[row["status"]] += 1
        if row["status"] != "done":
            self._errors[row.get("error_code") or ""] += 1
            return
        by_person = row.get("review") == "approved" and row.get("qc_reasons")
        self._verdicts.update(filter(None, ["approved" if by_person else row.get("qc_status")]))
        self._reasons.update(row.get("qc_reasons") or ())

    def counts(self) -> dict[str, Any]:
        """As the page's script reads them."""
        counted = {"statuses": self._statuses, "verdicts": self._verdicts, "errors": self._errors}
        return {"clips": self._clips, "seconds": self._seconds, **counted, "reasons": self._reasons}


def _write_page(
    output: str,
    name: str,
    rows: Iterable[ClipRow],
    summary: dict[str, Any],
    known: DiskDict,
    embed_megabytes: float,
    parts: dict[str, Any],
) -> int:
    """Write one page, and return its size in bytes."""
    clips: Spool[Shown] = Spool()
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline="\n") as file:
        head, script = _page(summary)
        file.write(head)
        columns = [*COLUMNS, "video", *parts["own"]]
        file.write(f'{{"summary": {json_text(summary)}, "columns": {json_text(columns)}, ')
        file.write(f'"figures": {json_text(_metrics())}, "rows": [')
        for index, row in enumerate(rows):
            if row["status"] == "done" and row.get("qc_version"):
                measured = Measured(row["clip_id"], row["fingerprint"], row["qc_version"])
                clips.append((index, measured, row.get("qc_status")))
            video = relative(row["uri"], output) if row.get("uri") else None
            own = (_own_value(values_of(row).get(column)) for column in parts["own"])
            said = row | {
                name: spans.text_in_words(row.get(name))
                for name, spans in (("emotion", emotion_spans), ("pose", pose_spans), ("silence", silence))
            }
            values = [*(_value(said.get(column)) for column in COLUMNS), video, *own]
            file.write((",\n" if index else "\n") + json_text(values))
        file.write("],\n")
        page = {"output": output, "about": _about(embed_megabytes), **parts}
        file.write(f'"page": {json_text(page)}}}\n</script>\n')
        _write_details(file, Ledger(output), clips, known, embed_megabytes * 1e6)
        file.write(f"<script>{script}</script>\n</body>\n</html>\n")
        file.flush()
        put_file(Path(file.name), join(output, name))
        return Path(file.name).stat().st_size


def _other_takes(output: str, name: str) -> dict[int, list[dict[str, Any]]]:
    """Row number -> the takes of its clip that are not delivered, as the page's script reads them."""
    found: dict[int, list[dict[str, Any]]] = {}
    with suppress(DamagedError):  # it is a finding of the next run
        for row in table_rows(join(output, name)):
            if row["status"] == "done" and row.get("uri") and not values_of(row).get("delivered"):
                shown = {"take": row.get("take"), "video": relative(row["uri"], output)}
                judged = {"qc_status": row.get("qc_status"), "qc_reasons": row.get("qc_reasons")}
                found.setdefault(row["row"], []).append(shown | judged)
    return found


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
    style = style_of("page.css")
    script = "".join((PAGE / name).read_text("utf-8") for name in SCRIPTS)
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


def _own_value(value: Any) -> Any:
    return (
        value[:OWN_CHARACTERS] if isinstance(value, str) else _value(value) if isinstance(value, int | float) else None
    )


def _value(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
