"""What each row of a programme continues from: the row before it, whose fingerprint is part of its own.

A row that follows a rejected one starts anew. A row that fails while it is rendered is known by the workers alone, and
they start the next one anew (`pipeline.render.continuation`).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from pipeline.ledger.clip_row import mark_of_take, take_of
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.done_record import stem_of
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Member, Programme, ordered
from pipeline.manifest.reader import Rejected
from pipeline.manifest.values import number_of
from pipeline.qc.review import Review, take_that_counts
from pipeline.run.plan_rows import Chosen, Identity

IsDone = Callable[[str, str], bool]
"""Is asked by clip_id and fingerprint."""

Identify = Callable[[Iterable[Chosen]], Iterator[tuple[Chosen, Identity]]]


class Programmes:
    """The programmes of a manifest. Needs some 2 kB of memory for each of their rows."""

    def __init__(
        self,
        clips: Sequence[Clip] = (),
        rejected: Iterable[Rejected] = (),
        reviews: Mapping[str, Sequence[Review]] | None = None,
    ) -> None:
        """With `reviews` (by clip_id), rows that follow go on from the take for which these ask."""
        self.places: dict[int, Programme] = {}
        """Row number -> its place, once `identities` has been called."""
        self._positions: dict[int, int] = {}
        self._lengths: dict[int, float] = {}
        """Row number of each clip that fills a gap -> its seconds."""
        self._before: dict[int, int] = {}
        """Row number -> that of the row that it continues from."""
        members: dict[str, list[Member]] = defaultdict(list)
        for position, clip in enumerate(clips):
            if clip.programme is not None:
                members[clip.programme.key].append(Member(clip.row, clip.clip_id, clip.programme))
                self._positions[clip.row] = position
                if clip.gap_after is not None:
                    self._lengths[clip.row] = clip.seconds or 0.0
        self._clips, self._reviews = clips, reviews or {}
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

    def identities(self, identify: Identify, is_done: IsDone = lambda clip_id, mark: False) -> dict[int, Identity]:
        """Row number -> identity of each row, with what it continues from. Also of rows that a run does not take.

        `is_done` says whether there is a take of a clip.
        """
        positions = sorted(self._positions.items())
        chosen = [(position, self._clips[position]) for row, position in positions if row not in self._lengths]
        own = {clip.row: identity for (_, clip), identity in identify(chosen)}
        found = {}
        for rows in self._programmes:
            before: Member | None = None
            for member in rows:
                if member.row in self._lengths and before is not None:
                    own[member.row] = _of_gap(own[before.row], self._lengths[member.row])
                place = replace(member.programme, own=own[member.row].fingerprint)
                if before is not None and (lost := self._lost(before, member)):
                    place = place.anew(f"the row before it, {lost}, was rejected")
                elif before is not None:
                    place = replace(place, after_clip=before.clip_id, after=self._take_before(before, is_done))
                    self._before[member.row] = before.row
                self.places[member.row], before = place, member
                parts = json.loads(own[member.row].parts) | {
                    "programme.after": place.after,
                    "programme.room": place.room,
                }
                seconds = own[member.row].seconds
                if place.fills:
                    parts["programme.gaps"] = f"filled until {place.until}"
                    rate = place.timecode.rate if place.timecode is not None else 1
                    seconds = max(seconds, (place.room or 0) / rate)
                found[member.row] = Identity(place.mark, json.dumps(parts), seconds)
        return found

    def _take_before(self, before: Member, is_done: IsDone) -> str:
        """Fingerprint of the take of a row from which the next one goes on."""
        mark, reviews = self.places[before.row].mark, self._reviews.get(before.clip_id, ())
        return mark_of_take(mark, take_that_counts(reviews, mark, lambda take: is_done(before.clip_id, take)))

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
    ) -> dict[int, int]:
        """Row -> the take of it that is done and has to be rendered again, because a row that is to be rendered
        continues from it and nothing is left of how it ended. `has_state` is asked by clip_id and fingerprint.
        """
        found: dict[int, int] = {}
        for rows in self._programmes:
            for member, before in pairwise(reversed(rows)):
                place = self.places[member.row]
                wanted = todo(member.row) or found.get(member.row) == 1  # of later takes it is not known what they need
                if wanted and place.after and done(before.row) and not has_state(before.clip_id, place.after):
                    found[before.row] = take_of({"fingerprint": place.after})
        return found


def _of_gap(before: Identity, seconds: float) -> Identity:
    """Identity of the clip that fills the gap after a row: it has the row's picture and settings."""
    text = f"{before.fingerprint} gap of {seconds!r} s"
    parts = json.loads(before.parts) | {"audio": f"seconds:{seconds!r}"}
    return Identity(hashlib.sha256(text.encode()).hexdigest()[:12], json.dumps(parts), seconds)


def begun_otherwise(rows: Iterable[ClipRow]) -> set[str]:
    """`stem_of` those rows that have other fingerprints than were planned because a row before them in their programme
    failed: they were begun anew, or go on from one that was. `rows` are those that no plan has.
    """
    found, following = set[str](), defaultdict[str, list[str]](list)
    anew: list[str] = []
    for row in rows:
        stem = stem_of(row["clip_id"], row["fingerprint"])
        if "programme_broken" in (row.get("input_notes") or ()):
            anew.append(stem)
        elif before := row.get("continues"):
            following[stem_of(*before.rsplit(".", 1))].append(stem)
    while anew:
        found.add(stem := anew.pop())
        anew += following[stem]
    return found
