"""What the panel of a clip shows in report.html: its curves and its contact sheet, a block of the page for each.

They come from quality control's files in the output folder, and from the last page where that has them: a report of
clips that were reported before then costs no requests for them.
"""

import base64
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.common.disk_collections import DiskDict
from pipeline.ledger.done_record import problem_of_qc
from pipeline.ledger.ledger import Ledger
from pipeline.media.jpeg_comment import split_comment
from pipeline.report.html import json_text, relative
from pipeline.storage.explained import explained
from pipeline.storage.objects import fetched, read_bytes
from pipeline.storage.records import Damaged, jpeg_problem, obstacle

logger = logging.getLogger(__name__)

POINTS = 300
"""Number of points of each curve."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""A value from 0 to 1 is encoded as one of 64 letters, and a missing value as a dot."""

CURVES, SHEET, CLOSED = '<script type="application/json" id="d', '<script type="text/plain" id="s', "</script>\n"
BLOCK = re.compile(f'(?:{CURVES[:-1]}|{SHEET[:-1]})([ds])\\d+">(.*){CLOSED}')


@dataclass(frozen=True)
class Measured:
    """A clip that quality control has measured."""

    clip_id: str
    fingerprint: str
    version: str
    """Version of the measurements."""

    @property
    def key(self) -> str:
        """Says what was measured and how, so that two details with the same key are the same."""
        return f"{self.clip_id}/{self.fingerprint}/{self.version}"


@dataclass(frozen=True)
class Details:
    """What the panel of one clip shows."""

    content: str
    """JSON: key, curves, labels, size of a tile, the URI of the contact sheet, relative to the page, and instead of a
    damaged one a note; and a picture of the numbered faces of an image with several, a JPEG in base64.
    """
    sheet: str | None
    """The contact sheet, a JPEG in base64; None if it is not embedded."""

    def blocks(self, index: int, *, sheet: bool) -> Iterator[str]:
        """The lines of the page for the clip in row `index`, with its sheet if there is one and `sheet` asks for it."""
        yield f'{CURVES}{index}">{self.content}{CLOSED}'
        if sheet and self.sheet is not None:
            yield f'{SHEET}{index}">{self.sheet}{CLOSED}'


def load_details(ledger: Ledger, clip: Measured, known: str | None = None, *, sheet: bool = True) -> Details | None:
    """Details of a clip; None if quality control has not seen it. `known` is its value in `last_details`.

    This is at most one request, because a contact sheet carries the measurements; except for those of earlier versions.
    """
    content, _, encoded = (known or "").partition("\n")
    measured, damaged = None, None
    if sheet and not encoded:
        jpeg = _sheet(ledger.qc_uri(clip.clip_id, clip.fingerprint, "jpg"))
        if isinstance(jpeg, Damaged):
            logger.warning("%s: it is left out", jpeg)
            content, damaged = "", jpeg.why
        elif jpeg is not None:
            comment, jpeg = split_comment(jpeg)
            measured, encoded = _measured(comment, clip.version), base64.b64encode(jpeg).decode()
    if not content:
        measured = measured or ledger.read_qc(clip.clip_id, clip.fingerprint)
        if measured is None or not {"curves", "sheet_labels"} <= measured.keys():
            return None
        content = _content(ledger, clip, measured, damaged)
    return Details(content, encoded or None)


def _sheet(uri: str) -> bytes | Damaged | None:
    """A contact sheet; None if there is none."""
    if (found := obstacle(uri)) is not None:
        return found
    jpeg = read_bytes(uri)
    if jpeg is not None and (why := jpeg_problem(jpeg)):
        return Damaged(uri, why)
    return jpeg


def _measured(comment: bytes | None, version: str) -> dict[str, Any] | None:
    """The measurements in the comment of a contact sheet; None if they are not there, or of another version."""
    try:
        found = json.loads(comment or b"null")
    except ValueError:  # a comment of another program
        return None
    return found if isinstance(found, dict) and found.get("version") == version and not problem_of_qc(found) else None


def last_details(*uris: str) -> DiskDict:
    """`Measured.key` -> details in the pages at `uris`; without those that an earlier version wrote, which have no key.

    A page that does not exist or cannot be read is left out: its details are then loaded one by one.
    """
    return DiskDict(chain.from_iterable(map(_details_in, uris)))


def _details_in(uri: str) -> Iterator[tuple[str, str]]:
    try:
        with fetched(uri) as path:
            assert path is not None
            yield from _read(Path(path))
    except FileNotFoundError:
        pass
    except Exception as error:  # a damaged page, or a storage with exceptions of its own
        logger.warning("the last report %s could not be read: %s", uri, explained(error))


def _read(page: Path) -> Iterator[tuple[str, str]]:
    key = content = ""
    with page.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if (found := BLOCK.fullmatch(line)) is None:
                continue
            kind, block = found.groups()
            if kind == "d":
                values = json.loads(block)
                key, content = values.get("key", ""), json_text(values)
                if not values.get("note"):  # the sheet may have been made again
                    yield key, content
            elif not jpeg_problem(base64.b64decode(block, validate=True)):  # what goes into the next page
                yield key, f"{content}\n{block}"  # it replaces the item without a sheet


def _content(ledger: Ledger, clip: Measured, measured: dict[str, Any], damaged: str | None) -> str:
    curves = measured["curves"]
    rate, mouth = _letters(curves["mouth"], curves["rate"])
    _, speech = _letters(curves["speech"], curves["rate"])
    uri = relative(ledger.qc_uri(clip.clip_id, clip.fingerprint, "jpg"), ledger.output)
    seams = [time for time in curves.get("seams") or () if isinstance(time, int | float)]
    shown = {"rate": rate, "mouth": mouth, "speech": speech, "seams": seams}
    if spans := [span for span in curves.get("emotions") or () if isinstance(span, list) and len(span) == 4]:
        shown["emotions"] = spans
    found = {"key": clip.key, "curves": shown, "labels": measured["sheet_labels"]}
    if isinstance(faces := measured.get("faces"), str):
        found["faces"] = faces
    tile = measured.get("sheet_tile")  # earlier versions had squares
    if isinstance(tile, list) and len(tile) == 2 and all(isinstance(side, int) and side > 0 for side in tile):
        found["tile"] = tile
    if damaged is None:
        return json_text(found | {"sheet": uri})
    return json_text(found | {"note": f"The contact sheet is damaged ({damaged}): the next run makes it again."})


def _letters(values: Sequence[float | None], rate: float) -> tuple[float, str]:
    """At most `POINTS` letters, each the mean of equally many values; and the number of letters per second."""
    group = max(1, -(-len(values) // POINTS))
    text = ""
    for start in range(0, len(values), group):
        known = [value for value in values[start : start + group] if value is not None]
        text += LETTERS[round(63 * min(1.0, max(0.0, sum(known) / len(known))))] if known else "."
    return rate / group, text
