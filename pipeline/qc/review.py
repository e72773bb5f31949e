"""Reviews by people: a CSV file with the columns clip_id, take, verdict, comment and fingerprint.

`report.html` writes such a file. `approved` means that the take is delivered as it is, whatever the metrics say.
`retake` means that the take is not good enough: another one is rendered, and the comment is kept in the row. A line
without a take refers to take 1. One with a fingerprint counts for the video that has it in clips.parquet; without one,
for that take of any version of the clip.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from pipeline.common.csv_cells import text_of_cell
from pipeline.common.errors import ClipError, ManifestError
from pipeline.common.quoted import quoted
from pipeline.ledger.clip_row import mark_of_take, take_of
from pipeline.manifest.columns import ColumnError, missing_columns, naming
from pipeline.manifest.rows import Parser, Row
from pipeline.manifest.table_text import csv_table, text_of
from pipeline.manifest.values import Values, is_absent
from pipeline.storage.objects import read_bytes
from pipeline.storage.records import obstacle
from pipeline.storage.setting_files import read_setting

REVIEW = "review.csv"
"""Its file name in the output folder."""

COLUMNS = ("clip_id", "take", "verdict", "comment", "fingerprint")

WORDS = ("approved", "retake")


@dataclass(frozen=True)
class Review:
    """One line."""

    clip_id: str
    take: int
    verdict: str
    comment: str
    fingerprint: str = ""
    """That of the video; empty for any version of the clip."""

    def is_of(self, fingerprint: str) -> bool:
        """Whether it speaks of the video with this fingerprint."""
        return self.take == take_of({"fingerprint": fingerprint}) and self.fingerprint in ("", fingerprint)


def take_that_counts(reviews: Sequence[Review], mark: str, is_done: Callable[[str], bool]) -> int:
    """The take of the version `mark` of a clip that is delivered once its `reviews` are followed: 1 unless they ask
    for another one. Takes before the first one that they speak of have failed quality control: nobody saw them.

    It follows from the reviews alone, and may be rendered yet. `is_done` is asked by the fingerprint of a take.
    """
    said = [one for one in reviews if one.is_of(mark_of_take(mark, one.take)) and is_done(mark_of_take(mark, one.take))]
    verdicts = {one.take: one.verdict for one in said}
    approved = [take for take, verdict in verdicts.items() if verdict == "approved"]
    if "retake" not in verdicts.values():
        return 1
    return min(approved) if approved else next(take for take in count(min(verdicts)) if take not in verdicts)


def read_reviews(uri: str, *, given: bool = False) -> dict[str, list[Review]]:
    """Reviews by clip_id; empty if there is no file, unless it is `given` by qc.review.

    Raises ManifestError, which names the line, SettingError and StorageError.
    """
    if not given and (damaged := obstacle(uri)) is not None:
        raise ManifestError(f"{damaged}, and only it has what reviewers have decided: restore it, or remove it")
    data = read_setting("review", uri) if given else read_bytes(uri)
    found: dict[str, list[Review]] = {}
    if data is None:
        return found
    lines, notes = text_of(uri, io.BytesIO(data))
    columns, rows = csv_table(uri, lines, notes)
    if data.strip():
        _check_columns(uri, columns, notes)
    parse = Parser(COLUMNS)
    for number, raw in enumerate(rows, start=1):
        row = parse(number, raw)
        if row.problem:
            raise ManifestError(f"{uri}, line {row.line}: {row.problem}")
        if row.values:
            review = _review(row, f"{uri}, line {row.line}")
            found.setdefault(review.clip_id, []).append(review)
    return found


def _check_columns(uri: str, columns: tuple[str, ...], notes: tuple[str, ...]) -> None:
    """Raise ManifestError if a file is not one of reviews, also if it has no line with values."""
    try:
        names = {naming(columns, COLUMNS).known.get(name, name) for name in columns}
    except ColumnError as error:
        raise ManifestError(f"{uri}: {error}") from None
    if missing := missing_columns(names, ("clip_id", "verdict")):
        read_as = f" ({', '.join(notes)})" if notes else ""  # bytes of anything can be UTF-16
        raise ManifestError(f"{uri}{read_as} has {missing}: write these names into the first line, or restore the file")


def _review(row: Row, where: str) -> Review:
    values = Values(where, {name: value for name, value in row.values.items() if not is_absent(value)})
    try:
        clip_id, verdict = text_of_cell(values.required("clip_id")), values.required("verdict").lower()
        if verdict not in WORDS:
            raise values.invalid("verdict", f"{quoted(verdict)} is not one of {', '.join(WORDS)}")
        take, comment = values.integer("take", 1, 1_000_000, 1), text_of_cell(values.text("comment") or "")
        fingerprint = values.text("fingerprint") or ""
    except ClipError as error:
        raise ManifestError(error.message) from None
    return Review(clip_id, take, verdict, comment, fingerprint)
