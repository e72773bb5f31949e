"""Programmes: rows of one speaker that go on from one to the next, and the order in which they do.

The rows of a programme are ordered by the column `order` or, if none of them has one, by their time codes. What each
row continues from is decided by the plan (`pipeline.run.programmes`), which knows all of them.
"""

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted
from pipeline.manifest.clip_ids import file_name_problem
from pipeline.manifest.values import Values
from pipeline.media.timecode import Timecode, parse_timecode

PASSED_ON = ("order",)
"""Columns that mean something to us in some rows, and are the manifest's own all the same."""

LAST_ORDER = 1e9
"""Largest value of the column `order`."""


@dataclass(frozen=True)
class Programme:
    """The place of a clip in its programme. Without what the plan adds, it is the first clip of one."""

    name: str
    order: float | None = None
    """The row's column `order`."""
    timecode: Timecode | None = None
    """The row's own time code."""
    number: int = 0
    """Position among the rows of the programme, from 0. From here on by the plan."""
    first: Timecode | None = None
    """Time code of the first row, if it has one."""
    room: int | None = None
    """Number of frames until the next row begins, if both have time codes."""
    own: str = ""
    """Fingerprint of the clip's own inputs and settings."""
    after_clip: str = ""
    """clip_id of the row that this one continues from; empty if it starts anew."""
    after: str = ""
    """Fingerprint of that row, or of the take of it that is continued."""
    broken: str = ""
    """Why this row starts anew although it is not the first one, as a clause; empty if it does not."""
    fills: bool = False
    """Whether the row lasts until the next one begins (`pipeline.manifest.programme_gaps`)."""
    until: int | None = None
    """Number of frames from the programme's start to the next row's, if that and the first row have a time code."""
    gap: bool = False
    """Whether no row gives the clip, because it fills a gap."""

    @property
    def key(self) -> str:
        """What all rows of the programme have in common: two names that differ in case would be the same file."""
        return self.name.casefold()

    @property
    def start(self) -> int | None:
        """Number of frames from the programme's start to this row's, by their time codes; None if one has none."""
        return None if self.first is None or self.timecode is None else self.first.until(self.timecode)

    @property
    def mark(self) -> str:
        """Fingerprint of the clip: of its own part, of what it continues from, and of the room that it has."""
        filled = f" filled until {self.until}" if self.fills else ""
        text = f"{self.own} after {self.after or 'nothing'} room {self.room}{filled}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def anew(self, why: str) -> "Programme":
        """The same place without anything to continue from."""
        return replace(self, after_clip="", after="", broken=why)


def programme_of(read: Values, timecode: str | None, fps: Fraction) -> Programme | None:
    """The place that a row gives, which has this valid time code; None without a programme. Raises ClipError."""
    name = read.text("programme")
    if name is None:
        return None
    name = unicodedata.normalize("NFC", name)
    if problem := file_name_problem(name):
        raise read.invalid("programme", f"{quoted(name)} {problem}")
    given = read.number("order", -LAST_ORDER, LAST_ORDER, math.inf)
    order = None if given == math.inf else given
    if order is None and timecode is None:
        raise ClipError(
            "value_missing", f"{read.place}, column order: a row of a programme needs an order or a time code"
        )
    return Programme(name, order, None if timecode is None else parse_timecode(timecode, fps))


@dataclass(frozen=True)
class Member:
    """A row of a programme, and what its order needs."""

    row: int
    clip_id: str
    programme: Programme


def ordered(members: Iterable[Member]) -> list[Member]:
    """The rows of one programme in their order; their numbers and what follows from the time codes are filled in."""
    rows = sorted(members, key=_order)
    first, found = rows[0].programme.timecode, []
    for number, member in enumerate(rows):
        own, room, until = member.programme.timecode, None, None
        others = (
            one.programme for one in rows[number + 1 :] if not one.programme.gap
        )  # gaps change no row before them
        following = after.timecode if (after := next(others, None)) is not None else None
        if own is not None and following is not None:
            room = own.until(following)
        elif first is not None and following is not None:
            until = first.until(following)
        place = replace(member.programme, number=number, first=first, room=room, until=until)
        found.append(replace(member, programme=place))
    return found


def _order(member: Member) -> tuple[float, int]:
    order, timecode = member.programme.order, member.programme.timecode
    return (timecode.frame if timecode is not None and order is None else order or 0.0), member.row


def problems(members: Iterable[Member]) -> dict[int, str]:
    """Row number -> why it cannot be put in order with the others of its programme, as `column order: ...`."""
    programmes: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        programmes[member.programme.key].append(member)
    found: dict[int, str] = {}
    for rows in programmes.values():
        found |= _problems(rows)
    return found


def _problems(rows: list[Member]) -> dict[int, str]:
    """The same for the rows of one programme."""
    if len({member.programme.order is None for member in rows}) > 1:
        text = "other rows of this programme have an order, and this one has none: give each of them one, or none"
        return {member.row: f"column order: {text}" for member in rows if member.programme.order is None}
    places: dict[float, list[int]] = defaultdict(list)
    for member in rows:
        places[_order(member)[0]].append(member.row)
    column = "timecode" if rows[0].programme.order is None else "order"
    found = {
        row: f"column {column}: rows {', '.join(map(str, same[:20]))} of this programme have the same, so give others"
        for same in places.values()
        if len(same) > 1
        for row in same
    }
    timed = [member for member in sorted(rows, key=_order) if member.programme.timecode is not None]
    for before, member in pairwise(timed):
        earlier, later = before.programme.timecode, member.programme.timecode
        assert earlier is not None
        assert later is not None
        frames = earlier.until(later)
        if (frames == 0 or frames > later.until(earlier)) and member.row not in found:
            found[member.row] = (
                f"column timecode: {later} is not after {earlier}, the time code of row {before.row}, which comes "
                "before it in this programme: correct the time code or the order"
            )
    return found
