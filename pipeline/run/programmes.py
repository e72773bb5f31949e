"""What each row of a programme continues from: the row before it, whose fingerprint is part of its own.

A row that follows a rejected one starts anew. A row that fails while it is rendered is known by the workers alone, and
they start the next one anew (`pipeline.render.continuation`).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Member, Programme, ordered
from pipeline.manifest.reader import Rejected
from pipeline.manifest.values import number_of
from pipeline.run.plan_rows import Chosen, Identity

Identify = Callable[[Iterable[Chosen]], Iterator[tuple[Chosen, Identity]]]


class Programmes:
    """The programmes of a manifest. Needs some 2 kB of memory for each of their rows."""

    def __init__(self, clips: Sequence[Clip] = (), rejected: Iterable[Rejected] = ()) -> None:
        self.places: dict[int, Programme] = {}
        """Row number -> its place, once `identities` has been called."""
        self._positions: dict[int, int] = {}
        self._before: dict[int, int] = {}
        """Row number -> that of the row that it continues from."""
        members: dict[str, list[Member]] = defaultdict(list)
        for position, clip in enumerate(clips):
            if clip.programme is not None:
                members[clip.programme.key].append(Member(clip.row, clip.clip_id, clip.programme))
                self._positions[clip.row] = position
        self._clips = clips
        self._programmes = [ordered(rows) for rows in members.values()]
        self._missing: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for one in rejected:
            name, order = one.values.get("programme"), number_of(one.values.get("order"))
            if isinstance(name, str) and isinstance(order, int | float) and name.strip().casefold() in members:
                self._missing[name.strip().casefold()].append((float(order), one.clip_id))

    def __bool__(self) -> bool:
        return bool(self._programmes)

    def __iter__(self) -> Iterator[list[Member]]:
        """The rows of each programme in their order."""
        return iter(self._programmes)

    def identities(self, identify: Identify) -> dict[int, Identity]:
        """Row number -> identity of each row, with what it continues from. Also of rows that a run does not take."""
        positions = sorted(self._positions.items())
        chosen = [(position, self._clips[position]) for _, position in positions]
        own = {clip.row: identity for (_, clip), identity in identify(chosen)}
        found = {}
        for rows in self._programmes:
            before: Member | None = None
            for member in rows:
                place = replace(member.programme, own=own[member.row].fingerprint)
                if before is not None and (lost := self._lost(before, member)):
                    place = place.anew(f"the row before it, {lost}, was rejected")
                elif before is not None:
                    place = replace(place, after_clip=before.clip_id, after=self.places[before.row].mark)
                    self._before[member.row] = before.row
                self.places[member.row], before = place, member
                parts = json.loads(own[member.row].parts) | {
                    "programme.after": place.after,
                    "programme.room": place.room,
                }
                found[member.row] = replace(own[member.row], fingerprint=place.mark, parts=json.dumps(parts))
        return found

    def continued(self, clip: Clip, marks: Mapping[int, str]) -> Clip:
        """A later take of a clip, which goes on from the take with this mark (by row number) of the row before it."""
        before = self._before.get(clip.row)
        if clip.programme is None or before is None or not clip.programme.after:
            return clip
        after = marks.get(before, clip.programme.after)
        return replace(clip, programme=replace(clip.programme, after=after))

    def _lost(self, before: Member, member: Member) -> str:
        """clip_id of a rejected row between two neighbours; empty if there is none."""
        first, last = before.programme.order, member.programme.order
        if first is None or last is None:
            return ""
        return next((clip for order, clip in self._missing[member.programme.key] if first < order < last), "")

    def to_redo(
        self, done: Callable[[int], bool], todo: Callable[[int], bool], has_state: Callable[[str, str], bool]
    ) -> set[int]:
        """Rows that are done and have to be rendered again, because a row that is to be rendered continues from them
        and nothing is left of how they ended. `has_state` is asked by clip_id and fingerprint.
        """
        found: set[int] = set()
        for rows in self._programmes:
            for member, before in pairwise(reversed(rows)):
                place = self.places[member.row]
                wanted = todo(member.row) or member.row in found
                if wanted and place.after and done(before.row) and not has_state(before.clip_id, place.after):
                    found.add(before.row)
        return found
