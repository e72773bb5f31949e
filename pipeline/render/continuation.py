"""How a clip of a programme ends, and how the next one goes on from there.

What goes on is what a window knows of the one before it: the last frames of motion, speech and head poses. The number
of the window goes on as well, so that the noise is that of one long clip, and so do the emotion, which fades over from
the row before, and the count of frames (`pipeline.media.budget`).

A clip may end between two motion latents, because a frame of the video is not always one of the motion. Its last
latents are therefore interpolated at the times before its end, and the next clip begins exactly one step after them.
"""

import io
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from models import MOTION_FPS
from models.config import POSE_DIM, FloatConfig
from pipeline.common.errors import ClipError
from pipeline.ledger.clip_row import mark_of_take, take_of
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip
from pipeline.media.budget import Budget
from pipeline.media.slot import Slot
from pipeline.render.emotion_track import EmotionTrack
from pipeline.render.span_shares import SHORTEST_FADE

_NUMBERS = ("emotion", "speech", "pose", "motion")


@dataclass(frozen=True, eq=False)
class Ending:
    """Where a programme is after a clip. The motion is known last, when the clip is rendered."""

    seconds: Fraction
    """Exact length of the programme's audio so far."""
    frames: int
    """Number of its frames so far."""
    windows: int
    """Number of its motion windows so far."""
    emotion: np.ndarray
    """(8,) float32: w_e of the last frame, and the strength of its guidance."""
    speech: np.ndarray
    """w_a (P,D) float32 of the last P frames, and their head poses (P,6), zeros without that condition."""
    pose: np.ndarray
    motion: np.ndarray | None = None
    """Motion latents (P,D) float32 of these frames."""

    def packed(self) -> bytes:
        """As it is stored."""
        buffer = io.BytesIO()
        counts = np.array([str(self.seconds), str(self.frames), str(self.windows)])
        np.savez(buffer, counts=counts, **{name: getattr(self, name) for name in _NUMBERS})
        return buffer.getvalue()


def unpacked(data: bytes, config: FloatConfig) -> Ending:
    """What `Ending.packed` has stored. Raises ValueError for anything else, and for that of a model of another size."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            values: dict[str, Any] = {name: file[name] for name in ("counts", *_NUMBERS)}
        seconds, frames, windows = map(str, values.pop("counts"))
        ending = Ending(Fraction(seconds), int(frames), int(windows), **values)
    except Exception as error:  # whatever a damaged archive raises
        raise ValueError("it is damaged") from error
    latents = (config.previous, config.latent_dim)
    shapes = {"emotion": (8,), "speech": latents, "pose": (config.previous, POSE_DIM), "motion": latents}
    for name, shape in shapes.items():
        value = values[name]
        if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
            raise ValueError(f"its {name} is not that of this model")
    return ending


@dataclass(frozen=True, eq=False)
class Continued:
    """What the render stage must know of a clip in a programme."""

    clip: Clip
    """The clip as it was planned, for another try."""
    before: Ending | None
    """Where the programme is before the clip; None at its start. Without motion, that is the motion of the clip before
    it in its work unit.
    """
    after: Ending
    """Where it is afterwards, without the motion."""
    motions: int
    """Number of the clip's motion latents."""
    end: Fraction
    """When the clip ends, in latents from its start."""


# --- Before the features ---------------------------------------------------------------------------------------


def anew(clip: Clip, why: str) -> Clip:
    """The clip without anything to continue from. It then has the fingerprint of a programme's first row."""
    assert clip.programme is not None
    return _marked(clip, replace(clip, programme=clip.programme.anew(why)))


def following(clip: Clip, mark: str) -> Clip:
    """The clip, continued from another version or take of the row before than was planned."""
    assert clip.programme is not None
    if clip.programme.after == mark:
        return clip
    return _marked(clip, replace(clip, programme=replace(clip.programme, after=mark)))


def _marked(before: Clip, clip: Clip) -> Clip:
    assert clip.programme is not None
    take = take_of({"fingerprint": before.fingerprint})
    return replace(clip, fingerprint=mark_of_take(clip.programme.mark, take))


def stored_ending(ledger: Ledger, clip_id: str, mark: str, config: FloatConfig) -> Ending | None:
    """How a clip ended, from the storage; None if the clip is not done.

    Raises ClipError: programme_state_lost, storage_error.
    """
    data, problem = ledger.read_motion(clip_id, mark), "is gone"
    if data is None and ledger.read(clip_id, mark) is None:
        return None
    try:
        if data is not None:
            return unpacked(data, config)
    except ValueError as error:
        problem = f"cannot be used: {error}"
    raise ClipError(
        "programme_state_lost",
        f"this row goes on from {clip_id}, but {ledger.motion_uri(clip_id, mark)} {problem}: remove that file if it is "
        f"there, and run the same command again, which renders {clip_id} once more",
    )


def budgeted(clip: Clip, before: Ending | None, fps: Fraction) -> tuple[Clip, Budget]:
    """The clip with its time code, if that of the programme's first row is known, and its budget of frames, which holds
    unless its row gives a number of frames. Raises ClipError programme_overlaps.
    """
    place = clip.programme
    assert place is not None
    start = place.start if before is not None else None
    seconds, frames = (Fraction(0), 0) if before is None else (before.seconds, before.frames)
    if start is not None:
        if start < frames:
            raise ClipError(
                "programme_overlaps",
                f"the row's time code is {start} frames after the start of its programme, but the rows before it have "
                f"{frames} frames: correct its time code, or give shorter audio before it",
            )
        seconds, frames = start / fps, start
    room = place.room
    if place.fills and place.until is not None and before is not None:  # its time code follows from the rows before
        room = place.until - frames
    budget = Budget(fps, seconds, frames, room, place.fills)
    timecode = None if place.timecode is None else str(place.timecode)
    if timecode is None and place.first is not None and before is not None:
        timecode = str(place.first.after(frames))
    if clip.slot is not None:
        budget.check(clip.slot.frames)
    return replace(clip, timecode=timecode), budget


# --- After the features ----------------------------------------------------------------------------------------


def ending_of(
    budget: Budget,
    slot: Slot,
    audio: Fraction,
    before: Ending | None,
    track: EmotionTrack,
    values: tuple[np.ndarray, np.ndarray | None],
    config: FloatConfig,
) -> Ending:
    """Where the programme is after a clip with so many seconds of `audio` and these (speech (T,D), pose (T,6))."""
    speech, pose = values
    end = slot.frames * MOTION_FPS / budget.fps
    turned = np.zeros((len(speech), POSE_DIM), np.float32) if pose is None else pose
    return Ending(
        budget.after(slot, audio),
        budget.frames + slot.frames,
        (0 if before is None else before.windows) + -(-len(speech) // config.window),
        np.append(track.emotion[-1], track.strength[-1]).astype(np.float32),
        last_frames(None if before is None else before.speech, speech, end, config.previous),
        last_frames(None if before is None else before.pose, turned, end, config.previous),
    )


def last_frames(before: np.ndarray | None, values: np.ndarray, end: Fraction, count: int) -> np.ndarray:
    """The last `count` frames before the time `end`, one step apart, of `values` (T,C) at the times 0, 1, 2 ...

    Before time 0 there are the frames `before` (count,C), or zeros.
    """
    before = np.zeros((count, values.shape[1]), np.float32) if before is None else before
    whole = np.concatenate([before, values])
    found = []
    for i in range(count):
        place = min(max(end - count + i, Fraction(-count)), Fraction(len(values) - 1)) + count
        first, share = int(place), np.float32(place - int(place))
        after = min(first + 1, len(whole) - 1)
        found.append(whole[first] if share == 0 else whole[first] + share * (whole[after] - whole[first]))
    return np.stack(found).astype(np.float32)


def faded(
    track: EmotionTrack | None, emotion: np.ndarray, frames: int, before: Ending | None, fade: float
) -> EmotionTrack:
    """The emotion of a clip of so many frames, which within `fade` seconds passes over from that of the row before."""
    own = track or EmotionTrack(np.repeat(emotion[None], frames, axis=0), np.ones(frames, np.float32))
    if before is None or fade < SHORTEST_FADE:
        return own
    share = (((np.arange(frames) + 0.5) / MOTION_FPS) / fade).clip(0, 1).astype(np.float32)

    def mixed(last: Any, values: np.ndarray, share: np.ndarray) -> np.ndarray:
        return np.asarray(last * (1 - share) + values * share, dtype=np.float32)

    return EmotionTrack(
        mixed(before.emotion[:-1], own.emotion, share[:, None]), mixed(before.emotion[-1], own.strength, share)
    )


def is_still(track: EmotionTrack) -> bool:
    """Whether all frames have the same emotion, with a strength of 1: a track is not needed then."""
    return bool((track.emotion == track.emotion[0]).all() and (track.strength == 1).all())
