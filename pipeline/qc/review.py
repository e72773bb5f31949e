"""Reviews by people: a CSV file with the columns clip_id, take, verdict and comment.

`report.html` writes such a file. `approved` means that the take is delivered as it is, whatever the metrics say.
`retake` means that the take is not good enough: another one is rendered, and the comment is kept in the row. A line
without a take refers to take 1.
"""

import csv
import io
from dataclasses import dataclass

from pipeline.common.errors import ManifestError
from pipeline.storage.objects import read_bytes
from pipeline.storage.setting_files import read_setting
from pipeline.storage.uris import shown

REVIEW = "review.csv"
"""Its file name in the output folder."""

WORDS = ("approved", "retake")


@dataclass(frozen=True)
class Review:
    """One line."""

    clip_id: str
    take: int
    verdict: str
    comment: str


def read_reviews(uri: str, *, given: bool = False) -> dict[str, list[Review]]:
    """Reviews by clip_id; empty if there is no file, unless it is `given` by qc.review.

    Raises ManifestError, which names the line, SettingError and StorageError.
    """
    data = read_setting("review", uri) if given else read_bytes(uri)
    found: dict[str, list[Review]] = {}
    if data is None:
        return found
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        missing = {"clip_id", "verdict"} - set(reader.fieldnames or ())
        if missing:
            columns = " and no column ".join(sorted(missing))
            raise ManifestError(f"{shown(uri)} has no column {columns}: save it from the report again")
        for line in reader:
            review = _review(line, f"{uri}, line {reader.line_num}")
            found.setdefault(review.clip_id, []).append(review)
    except (UnicodeDecodeError, csv.Error):
        raise ManifestError(f"{shown(uri)} is not a CSV file in UTF-8: save it again in that form") from None
    return found


def _review(line: dict[str, str | None], where: str) -> Review:
    verdict, take = (line["verdict"] or "").strip().lower(), (line.get("take") or "1").strip()
    if verdict not in WORDS:
        raise ManifestError(f"{where}: verdict {verdict!r} is not one of {', '.join(WORDS)}")
    if not take.isdecimal() or int(take) < 1:
        raise ManifestError(f"{where}: take {take!r} is not a number of 1 or more; the report shows the number")
    return Review(line["clip_id"] or "", int(take), verdict, (line.get("comment") or "").strip())
