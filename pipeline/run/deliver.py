"""Hand over finished videos: copies under plain names in another folder, with checksums and a list.

    to/<name>.mp4    (or .mov, .mxf) the delivered take of each clip that was chosen
    to/SHA256SUMS    for `sha256sum -c SHA256SUMS`
    to/clips.csv     one line per file: what it shows, its length and its verdicts

A file is stored with a conditional write after its SHA-256 was compared with the row's. The same command goes on where
an earlier one ended. Nothing that is there is replaced unless it is asked for.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.common.csv_cells import cell, text_of_cell
from pipeline.common.disk_collections import mapped
from pipeline.common.errors import RefusedError
from pipeline.ledger.columns import COLUMNS, ClipRow
from pipeline.ledger.done_record import video_name
from pipeline.ledger.table_csv import plain
from pipeline.run.delivery_names import delivery_names
from pipeline.storage.objects import create_file, fetched, file_info, put_file, read_bytes, write_bytes
from pipeline.storage.uris import join, normal, shown

SUMS = "SHA256SUMS"
LIST = "clips.csv"

Choice = Literal["approved", "pass", "all"]
Outcome = Literal["delivered", "already there", "replaced", "in the way", "lost"]

FIRST = ("file", "clip_id", "take", "language", "speaker", "qc_status", "review", "review_comment")
LAST = ("duration", "frames", "fps", "width", "height", "bytes", "sha256", "consent_ref", "provenance", "preset")
"""Columns of the list; the manifest's own come after them."""


@dataclass(frozen=True)
class Delivery:
    """A clip to hand over."""

    row: ClipRow
    name: str
    """Its path below the target folder."""


def why_not(row: ClipRow, only: Choice) -> str:
    """Why a clip is not handed over, as a short clause; empty if it is."""
    if row["status"] != "done":
        return f"not rendered ({row['status']})"
    if row.get("review") == "retake":
        return "a reviewer has asked for another take"
    if only == "all" or row.get("review") == "approved":
        return ""
    if only == "approved":
        return "not approved by a reviewer"
    return "" if row.get("qc_status") == "pass" else f"quality control: {row.get('qc_status') or 'not measured'}"


def chosen(rows: Iterable[ClipRow], only: Choice, template: str) -> tuple[list[Delivery], Counter[str]]:
    """What to hand over, and how many clips are left out for which reason. Raises RefusedError, as `delivery_names`."""
    taken: list[ClipRow] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if reason := why_not(row, only):
            left_out[reason] += 1
        else:
            taken.append(row)
    return [Delivery(row, name) for row, name in zip(taken, delivery_names(template, taken), strict=True)], left_out


class Target:
    """The folder that files are handed over to, and what earlier deliveries left in it."""

    def __init__(self, uri: str, output: str, *, replace: bool = False) -> None:
        """Raises RefusedError if `uri` is in the output itself, or if its list is somebody else's."""
        inside = f"{normal(uri).rstrip('/')}/".startswith(f"{normal(output).rstrip('/')}/")
        if inside:
            raise RefusedError(f"to: {shown(uri)} is in the output folder: give a folder of its own")
        self.uri, self._output, self._replace = uri, output, replace
        self._lines = self._read_list()
        if not self._lines and read_bytes(join(uri, SUMS)) is not None:
            raise RefusedError(f"to: {shown(uri)} has a {SUMS} of somebody else: give another folder")

    def store(self, delivery: Delivery) -> Outcome:
        """Copy one video, unless it is there already."""
        row, uri = delivery.row, join(self.uri, delivery.name)
        size = _size(uri)
        if size is not None and self._holds(delivery, uri, size):
            return "already there"
        if size is not None and not self._replace:
            return "in the way"
        try:
            with fetched(join(self._output, "videos", video_name(row))) as local:
                assert local is not None
                if _hash(Path(local)) != row["sha256"]:
                    return "lost"
                if size is not None:
                    put_file(Path(local), uri)
                    return "replaced"
                return "delivered" if create_file(Path(local), uri) else "in the way"
        except FileNotFoundError:
            return "lost"

    def add_to_list(self, deliveries: Iterable[Delivery]) -> None:
        """Write the checksums and the list: these files, and those of earlier deliveries with other names."""
        for delivery in deliveries:
            self._lines[delivery.name] = _line(delivery)
        ordered = [self._lines[name] for name in sorted(self._lines)]
        sums = "".join(f"{line['sha256']}  {line['file']}\n" for line in ordered)
        own = dict.fromkeys(name for line in ordered for name in line if name not in (*FIRST, *LAST))
        text = io.StringIO()
        writer = csv.DictWriter(text, [*FIRST, *LAST, *own], restval="")
        writer.writeheader()
        writer.writerows({name: cell(plain(value)) for name, value in line.items()} for line in ordered)
        write_bytes(sums.encode(), join(self.uri, SUMS))
        write_bytes(text.getvalue().encode("utf-8-sig"), join(self.uri, LIST))  # with the mark, for spreadsheets

    def _holds(self, delivery: Delivery, uri: str, size: int) -> bool:
        """Whether the file in the target is the video: by the list and its size, or else by its contents."""
        row = delivery.row
        if size != row["bytes"]:
            return False
        if self._lines.get(delivery.name, {}).get("sha256") == row["sha256"]:
            return True
        with fetched(uri) as local:
            assert local is not None
            return _hash(Path(local)) == row["sha256"]

    def _read_list(self) -> dict[str, dict[str, Any]]:
        data = read_bytes(join(self.uri, LIST))
        if data is None:
            return {}
        try:
            lines = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error):
            lines = [{}]
        if any({"file", "sha256"} - {name for name, value in line.items() if value} for line in lines):
            raise RefusedError(f"to: {shown(self.uri)} has a {LIST} that no delivery wrote: give another folder")
        return {
            text_of_cell(line["file"]): {name: text_of_cell(value) for name, value in line.items()} for line in lines
        }


def hand_over(deliveries: list[Delivery], target: Target) -> Iterator[tuple[Delivery, Outcome]]:
    """Copy all videos, several at a time; the list is written at the end, also if this is interrupted."""
    there: list[Delivery] = []
    try:
        for delivery, outcome in mapped(target.store, deliveries, threads=8):
            if outcome in ("delivered", "already there", "replaced"):
                there.append(delivery)
            yield delivery, outcome
    finally:
        if there:
            target.add_to_list(there)


def _line(delivery: Delivery) -> dict[str, Any]:
    """A line of the list."""
    row: Mapping[str, Any] = delivery.row
    ours = {column.name for column in COLUMNS}
    names = [*FIRST[1:], *LAST, *(name for name in row if name not in ours)]
    return {"file": delivery.name} | {name: "" if row.get(name) is None else row[name] for name in names}


def _size(uri: str) -> int | None:
    try:
        return int(file_info(uri)["size"])
    except FileNotFoundError:
        return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
