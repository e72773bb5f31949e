"""Some clips of a manifest, as a run plans them: a million of them take little memory."""

from array import array
from bisect import bisect_left
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from pipeline.common.disk_collections import LazySequence
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Programme


class PlannedClips(LazySequence[Clip]):
    """Some clips of a manifest with their fingerprints, in 24 bytes of memory each."""

    def __init__(self, clips: Sequence[Clip] = (), places: Mapping[int, Programme] | None = None) -> None:
        """`places` are those of the rows in programmes."""
        self._clips, self._places = clips, places or {}
        self._positions, self._fingerprints = array("q"), array("Q")
        self.rows = array("q")

    def add(self, position: int, row: int, fingerprint: str) -> None:
        """Add the clip at `position` of the manifest's clips; call this in their order."""
        self._positions.append(position)
        self.rows.append(row)
        self._fingerprints.append(int(fingerprint, 16))

    def __len__(self) -> int:
        return len(self._positions)

    def _item(self, i: int) -> Clip:
        clip = replace(self._clips[self._positions[i]], fingerprint=f"{self._fingerprints[i]:012x}")
        return clip if clip.programme is None else replace(clip, programme=self._places[clip.row])

    def place(self, i: int) -> Programme | None:
        """The place of a clip in its programme, without reading the clip."""
        return self._places.get(self.rows[i])

    def has(self, row: int) -> bool:
        """Whether the clip of this row is one of them."""
        i = bisect_left(self.rows, row)
        return i < len(self.rows) and self.rows[i] == row

    def moved(self, other: "PlannedClips", rows: Container[int]) -> tuple["PlannedClips", "PlannedClips", list[int]]:
        """These clips without some rows, the other ones with them, and the positions that these had here."""
        kept, grown = PlannedClips(self._clips, self._places), PlannedClips(self._clips, self._places)
        gone = [i for i, row in enumerate(self.rows) if row in rows]
        both = [(self, i) for i in gone] + [(other, i) for i in range(len(other))]
        for source, i in sorted(both, key=lambda one: one[0].rows[one[1]]):
            grown._take(source, i)
        for i in range(len(self)):
            if self.rows[i] not in rows:
                kept._take(self, i)
        return kept, grown, gone

    def _take(self, source: "PlannedClips", i: int) -> None:
        self.add(source._positions[i], source.rows[i], f"{source._fingerprints[i]:012x}")
