"""Gaps between the rows of a programme, by their time codes, and what they are filled with: silence and idle motion.

A row without `frames` ends where the next one begins: the pause is a part of its clip. A row with `frames` has exactly
these, so a clip of its own, which no row gives, follows it; it is planned, rendered and judged as any other.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from pipeline.common.disk_collections import Spool
from pipeline.common.errors import ManifestError
from pipeline.common.quoted import quoted
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Member, ordered
from pipeline.manifest.reader import Manifest, Rejected
from pipeline.manifest.silence import Silence
from pipeline.manifest.values import number_of
from pipeline.media.slot import Slot
from pipeline.media.timecode import parse_timecode

SUFFIX = "-gap"
"""What the clip_id of a row is extended by to name the clip after it."""


@dataclass(frozen=True)
class _Gap:
    """A clip to be made: it follows this row, and has this place in the order."""

    before: Member
    order: float | None


class _Hidden(NamedTuple):
    """The place of a rejected row in its programme; None is unknown."""

    order: float | None
    frame: float | None
    """Of its time code."""


def with_gaps(manifest: Manifest, fps: Fraction) -> Manifest:
    """The manifest with programmes of which no gap is left that is known from time codes.

    A gap in which a rejected row may belong is left, because it is not idle. Clips that fill gaps have row numbers
    after all others. Raises ManifestError if one of them would have the clip_id of another clip.
    """
    members: dict[str, list[Member]] = defaultdict(list)
    for clip in manifest.clips:
        if clip.programme is not None:
            members[clip.programme.key].append(Member(clip.row, clip.clip_id, clip.programme))
    hidden = _hidden(manifest.rejected, fps)
    gaps = {
        gap.before.row: gap for key, rows in members.items() for gap in _between(ordered(rows), hidden.get(key, []))
    }
    if not gaps:
        return manifest
    clips: Spool[Clip] = Spool()
    made: list[Clip] = []
    number = max([clip.row for clip in manifest.clips] + [one.row for one in manifest.rejected])
    for clip in manifest.clips:
        gap = gaps.get(clip.row)
        if gap is not None and clip.slot is None:
            assert clip.programme is not None
            clip = replace(clip, programme=replace(clip.programme, fills=True))
        elif gap is not None and (filler := _filler(clip, gap, number + len(made) + 1)):
            made.append(filler)
        clips.append(clip)
    _check_names(clips, made)
    for clip in made:
        clips.append(clip)
    notes = manifest.notes
    if made:
        notes += (f"{len(made)} of them fill gaps after rows with frames (programme.gaps=idle): {made[0].clip_id} ...",)
    return replace(manifest, clips=clips, notes=notes)


def _between(rows: list[Member], hidden: list[_Hidden]) -> Iterator[_Gap]:
    """The rows of a programme after which its next row has a time code, where no rejected row can be between them."""
    for member, following in pairwise(rows):
        first, last = member.programme, following.programme
        if last.timecode is None:
            continue
        if first.order is not None and last.order is not None:
            places = [one.order for one in hidden]
            start, end = first.order, last.order
        else:  # all rows of the programme have time codes then
            assert first.timecode is not None
            places = [one.frame for one in hidden]
            start, end = first.timecode.frame, last.timecode.frame
        if all(place is not None and not start <= place <= end for place in places):
            yield _Gap(member, None if first.order is None else (start + end) / 2)


def _hidden(rejected: Spool[Rejected], fps: Fraction) -> dict[str, list[_Hidden]]:
    """The rejected rows by the key of their programme."""
    found: dict[str, list[_Hidden]] = defaultdict(list)
    for one in rejected:
        name, order = one.values.get("programme"), number_of(one.values.get("order"))
        if not isinstance(name, str):
            continue
        frame = None
        with suppress(ValueError):
            frame = parse_timecode(str(one.values.get("timecode")), fps).frame
        known = order if isinstance(order, int | float) and not isinstance(order, bool) else None
        found[name.strip().casefold()].append(_Hidden(known, frame))
    return found


def _filler(clip: Clip, gap: _Gap, row: int) -> Clip | None:
    """The clip that follows one with `frames`, up to the next row; None if there is no gap, or its start is unknown."""
    place, slot = gap.before.programme, clip.slot
    assert slot is not None
    if place.room is None or place.timecode is None or place.room <= slot.frames:
        return None
    rest = Slot(place.room - slot.frames, slot.fps, "pad")
    start = place.timecode.after(slot.frames)
    return replace(
        clip,
        row=row,
        line=0,
        clip_id=f"{clip.clip_id}{SUFFIX}",
        gap_after=clip.clip_id,
        audio="",
        audio_stream=None,
        audio_tracks=(),
        seconds=float(rest.seconds),
        slot=rest,
        emotion_from="neutral" if clip.emotion_from == "speech" else clip.emotion_from,
        spans=(),
        pose=None,
        pose_spans=(),
        silence=Silence("idle") if clip.silence.changes else Silence(),
        title=None,
        tags=None,
        extra={} if gap.order is None else {"order": gap.order},
        timecode=str(start),
        programme=replace(place, order=gap.order, timecode=start, gap=True),
    )


def _check_names(clips: Spool[Clip], made: list[Clip]) -> None:
    names = {clip.clip_id.casefold(): clip for clip in made}
    for clip in clips if names else ():
        if (filler := names.get(clip.clip_id.casefold())) is not None:
            raise ManifestError(
                f"{clip.place}: its clip_id {quoted(clip.clip_id)} is that of the clip which fills the gap after "
                f"{quoted(filler.gap_after or '')} (programme.gaps=idle): give the row another clip_id"
            )
