"""What is really done in an output: rows in done/ that are whole and whose videos are there, compared at the plan.

Costs a listing of done/, one of videos/ and a read of the tables. In object storage, where a file is written as a whole
or not at all, the rows themselves are read only where no table has them; on a local disk all planned ones are read.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from pipeline.common.disk_collections import REQUESTS, DiskDict, Spool, mapped
from pipeline.ledger.clip_row import mark_of_take
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.done_record import REQUIRED, record_of, split_stem, stem_of, video_name
from pipeline.ledger.done_store import DONE
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import table_rows
from pipeline.manifest.clip import Clip
from pipeline.run.plan_rows import Chosen, Identity
from pipeline.storage.findings import Finding, finding_of
from pipeline.storage.objects import NO_FILE
from pipeline.storage.records import Damaged, DamagedError, obstacle
from pipeline.storage.set_aside import shortened
from pipeline.storage.uris import is_local, join, shown


@dataclass(frozen=True)
class _Look:
    """A take that done/ lists."""

    stem: str
    size: int
    reads: bool
    """Whether its row must be read."""


Looked = tuple[_Look, ClipRow | Damaged | None]


def split(stem: str) -> tuple[str, str]:
    """`split_stem` of a name that is one."""
    found = split_stem(stem)
    assert found is not None
    return found


def rows_in_tables(output: str, tables: Iterable[str], *columns: str) -> Iterator[ClipRow]:
    """Rows of earlier tables that are also in done/; a damaged table has none, and is a finding of its own
    (`pipeline.run.state_files`).
    """
    for name in tables:
        with suppress(DamagedError):
            for row in table_rows(join(output, name), columns):
                if row["status"] == "done" and all(row.get(name) is not None for name in REQUIRED):
                    yield row


class DoneBefore:
    """The takes of each planned clip that are done. For one thread."""

    def __init__(self, ledger: Ledger, tables: Iterable[str]) -> None:
        """`tables` are the names of tables with rows of earlier runs; those that do not exist or are damaged have none.

        Raises StorageError.
        """
        self._ledger, self._tables = ledger, list(tables)
        self.findings: Spool[Finding] = Spool()
        self._local = is_local(ledger.output)
        self._sizes = DiskDict(self._listed())
        self._clips = DiskDict(map(split, self._stems))
        self._videos = DiskDict((name, str(size)) for name, size in ledger.videos()) if self._any else DiskDict()
        self._known = DiskDict(self._rows_known()) if self._any else DiskDict()
        self._read = DiskDict()
        self._lost: set[str] = set()
        self.unmeasured: set[str] = set()
        """`stem_of` the clips whose measurements are damaged."""

    def _listed(self) -> Iterator[tuple[str, str]]:
        self._any, self._stems = False, Spool[str]()
        for name, size in self._ledger.listed():
            stem = name.removesuffix(".json")
            if name.endswith(".json") and split_stem(stem):
                self._any = True
                self._stems.append(stem)
                yield stem, str(size)
            elif not name.startswith("."):
                uri = join(self._ledger.output, DONE, name)
                self.findings.append(Finding(uri, "is not the row of a clip", "it is passed over"))

    def _rows_known(self) -> Iterator[tuple[str, str]]:
        """(stem, name and size of its video) of the rows in the tables."""
        for row in rows_in_tables(self._ledger.output, self._tables, *REQUIRED, "bytes", "sha256"):
            yield (
                stem_of(row["clip_id"], row["fingerprint"]),
                json.dumps([video_name(row), row.get("bytes"), row.get("sha256")]),
            )

    # --- The planned clips -------------------------------------------------------------------------------------

    def has_another(self, clip: Clip, mark: str) -> bool:
        """Whether another version of a clip was done than the planned one."""
        return self._clips.get(shortened(clip.clip_id)) not in (None, mark)  # one of several

    def lists(self, clip_id: str, mark: str) -> bool:
        """Whether done/ lists a take with this fingerprint; its row and its video are not looked at."""
        return stem_of(clip_id, mark) in self._sizes

    def of(
        self, identified: Iterable[tuple[Chosen, Identity]], *, measured: bool = False
    ) -> Iterator[tuple[Chosen, Identity, int]]:
        """Each clip with the number of its takes that are done: 0 if it must be rendered.

        What is damaged or missing becomes a finding. With `measured`, the files of quality control are looked at too.
        """
        if not self._any:  # a first run needs no threads
            yield from ((chosen, identity, 0) for chosen, identity in identified)
            return
        wanted = ((one, list(self._looks(*one))) for one in identified)
        for ((chosen, identity), _), looked in mapped(
            lambda item: [self._look(look) for look in item[1]], wanted, 1 if self._local else REQUESTS
        ):
            standing = [self._stands(one, chosen[1]) for one in looked]
            takes = standing.index(False) if False in standing else len(standing)
            if measured and self._local:
                for look, _ in looked[:takes]:
                    self._check_measured(look.stem)
            yield chosen, identity, takes

    def row(self, stem: str) -> ClipRow | None:
        """The row of a take that no table has, if it was read."""
        found = self._read.get(stem)
        return None if found is None else json.loads(found)

    def _looks(self, chosen: Chosen, identity: Identity) -> Iterator[_Look]:
        for take in count(1):
            stem = stem_of(chosen[1].clip_id, mark_of_take(identity.fingerprint, take))
            if (size := self._sizes.get(stem)) is None:
                return
            yield _Look(stem, int(size), reads=self._local or stem not in self._known)

    def _look(self, look: _Look) -> Looked:
        clip_id, mark = split(look.stem)
        if look.size in (0, NO_FILE):
            uri = self._ledger.done_uri(clip_id, mark)
            return look, obstacle(uri) or Damaged(uri, "it is empty")
        return look, self._ledger.look(clip_id, mark) if look.reads else None

    def _stands(self, looked: Looked, clip: Clip) -> bool:
        """Whether a take is done; a finding says why not."""
        look, row = looked
        known = self._known.get(look.stem)
        name, size, digest = json.loads(known) if known else (f"{look.stem}.mp4", None, None)
        then = f"the clip {shown(clip.clip_id)} is rendered again"
        if isinstance(row, Damaged):
            kept = known and not self._trouble_of_video(name, size) and self._ledger.video_hash(name) == digest
            if kept:
                self._lost.add(look.stem)
                then = "the table has the same row, and its video is whole, so it is written again"
            self.findings.append(finding_of(row, then))
            return bool(kept)
        if row is not None:
            name, size = video_name(row), row.get("bytes")
        if trouble := self._trouble_of_video(name, size):
            video, record = self._ledger.video_uri(name), self._ledger.done_uri(*split(look.stem))
            aside = (record,) if trouble == "is missing" else (record, video)
            self.findings.append(Finding(video, trouble, then, aside))
            return False
        if row is not None and known is None:
            self._read.add(look.stem, json.dumps(row))
        return True

    def _trouble_of_video(self, name: str, size: int | None) -> str:
        """What is wrong with a video, if anything: it must be there, with the size that its row says."""
        there = self._videos.get(name)
        if there is None:
            return "is missing"
        if int(there) == NO_FILE:
            return "is not a file"
        if size is not None and int(there) != size:
            return f"has {there} bytes instead of {size}"
        return "" if int(there) else "is empty"

    def _check_measured(self, stem: str) -> None:
        damaged = list(self._ledger.damaged_measurements(*split(stem)))
        if damaged:
            self.unmeasured.add(stem)
        for found in damaged:  # both files are measured anew only if neither is there
            measurements = self._ledger.qc_uri(*split(stem), "json")
            aside = tuple(sorted({found.uri, measurements}))
            then = "the video is measured again"
            self.findings.append(Finding(found.uri, f"is damaged ({found.why})", then, aside))

    # --- Restoring ---------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Write the rows of done/ that were damaged, but that a table has; after the damaged ones were moved."""
        for row in rows_in_tables(self._ledger.output, self._tables) if self._lost else ():
            if stem_of(row["clip_id"], row["fingerprint"]) in self._lost:
                self._ledger.restore(record_of(row))
