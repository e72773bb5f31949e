"""The features of a programme's clips, one after another, each from where the one before it ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.config import POSE_DIM, FloatConfig
from pipeline.common.attempts import PutOff
from pipeline.common.errors import ClipError
from pipeline.common.notes import Note
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip
from pipeline.manifest.programme import Programme
from pipeline.media.budget import ON_LENGTH, Budget
from pipeline.media.slot import Slot
from pipeline.render.continuation import (
    Continued,
    Ending,
    anew,
    ending_of,
    faded,
    following,
    is_still,
    stored_ending,
)

if TYPE_CHECKING:
    from pipeline.render.feature_stage import ClipFeatures

Work = Callable[[Clip, Ending | None], "ClipFeatures | ClipRow | PutOff"]
"""Makes the features of a clip that goes on from somewhere, or begins anew."""


def in_order(items: Sequence[Any], config: FloatConfig, ledger: Ledger | None, work: Work) -> Iterator[Any]:
    """Results of the items of a work unit, those of a programme in its order.

    A clip after one that cannot be rendered begins anew. If a clip is left to another worker, so are all after it, as
    one `PutOff`.
    """
    before: tuple[Clip, Any] | None = None
    for number, item in enumerate(items):
        if not isinstance(item, Clip) or item.programme is None:
            yield item if not isinstance(item, Clip) else work(item, None)
            continue
        clip = item
        try:
            clip, start = _start(item, before, config, ledger)
            result = _known(clip, item, ledger) or work(clip, start)
            if isinstance(result, PutOff):  # once for the others of its unit, which cannot go first
                result = work(clip, start)
        except ClipError as error:  # of the storage, or how the clip before it ended is lost
            result = error_row(clip, error, "features")
        if isinstance(result, PutOff):
            yield PutOff(list(items[number:]))
            return
        before = clip, result
        yield result


def _start(
    clip: Clip, before: tuple[Clip, Any] | None, config: FloatConfig, ledger: Ledger | None
) -> tuple[Clip, Ending | None]:
    """The clip, with the fingerprint that it has after what became of the clip before it, and what it goes on from.

    `before` is the last clip of the unit, and its result. Raises ClipError: programme_state_lost, storage_error.
    """
    place = clip.programme
    assert place is not None
    if not place.after:
        return clip, None
    if before is not None and before[0].clip_id == place.after_clip:
        result = before[1]
        if isinstance(result, dict) and result["status"] != "done":
            return anew(clip, f"the row before it, {place.after_clip}, ended with {result['error_code']}"), None
        clip = following(clip, before[0].fingerprint)
        if not isinstance(result, dict):
            return clip, result.continued.after
    assert ledger is not None
    assert clip.programme is not None
    ending = stored_ending(ledger, place.after_clip, clip.programme.after, config)
    if ending is None:
        return anew(clip, f"the row before it, {place.after_clip}, is not rendered"), None
    return clip, ending


def _known(clip: Clip, planned: Clip, ledger: Ledger | None) -> ClipRow | None:
    """The row of a clip that the plan could not look for, because it begins otherwise than was planned."""
    assert clip.programme is not None
    if ledger is None or (clip.fingerprint == planned.fingerprint and not clip.programme.broken):
        return None
    return ledger.read(clip.clip_id, clip.fingerprint)


def broken_notes(place: Programme) -> tuple[Note, ...]:
    """What is said of a row that should go on from another one, and does not."""
    text = f"the row was begun anew, so that a seam may show at its start: {place.broken}"
    return (Note("programme_broken", text),) if place.broken else ()


def continued(
    features: "ClipFeatures", clip: Clip, before: Ending | None, budget: Budget, config: FloatConfig
) -> "ClipFeatures":
    """The features of a clip with what goes on through it. `clip` is as it was planned."""
    frames = len(features.speech)
    if config.pose != "none" and features.pose is None:  # nobody gives poses for a gap: the head stays as it was
        pose = np.zeros(POSE_DIM, np.float32) if before is None else before.pose[-1]
        features = replace(features, pose=np.repeat(pose[None], frames, axis=0))
    slot = features.clip.slot or Slot(features.frames, budget.fps, ON_LENGTH)
    track = faded(features.track, features.emotion, frames, before, clip.emotion_fade)
    values: tuple[np.ndarray, np.ndarray | None] = (features.speech, features.pose)
    after = ending_of(budget, slot, features.exact_seconds, before, track, values, config)
    still = features.track is None and is_still(track) and bool((track.emotion[0] == features.emotion).all())
    assert clip.programme is not None
    notes = (*features.notes, *broken_notes(clip.programme))
    return replace(
        features,
        track=None if still else track,
        notes=notes,
        continued=Continued(clip, before, after, frames, slot.frames * 25 / budget.fps),
    )
