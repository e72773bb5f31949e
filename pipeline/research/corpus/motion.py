"""How a face moves while it speaks: mouth, expression, blinks, gaze, brows and head, from an utterance and seeds.

Everything consists of rules with random numbers, set by hand from what has been published about people; nothing was
learned from video.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models import MOTION_FPS
from pipeline.research.corpus.expression import EXPRESSIONS, PARTING, WIDENING
from pipeline.research.corpus.prosody import levels, pitches
from pipeline.research.corpus.units import ARKIT, columns, weights
from pipeline.research.corpus.visemes import PRIMARY_STRESS, MouthStyle, lip_closure, mouth_curves
from pipeline.research.corpus.voice import Phoneme, Utterance

POSE_LIMITS = np.array([0.35, 0.22, 0.18, 0.06, 0.06, 0.06])
"""Limits of head movement in radians and head sizes, in either direction."""
GAZE_LIMIT = 0.45
"""Limit of the gaze in radians, in either direction; people turn their head for more."""
EYE_FULL = 0.6
"""Radians of gaze at which an eyeLook unit is 1. A round number: what a head does at 1 differs between heads."""

BLINK_SECONDS = (0.20, 0.30)
BLINKS_A_MINUTE = (17.0, 27.0)
"""People in conversation blink 15 to 30 times a minute (Bentivoglio et al. 1997 give a mean of 26)."""
CAMERA_SHARE = 0.65
"""Share of the fixations that look into the camera."""


@dataclass(frozen=True)
class FaceMotion:
    """What a head shows in each of T frames at 25 fps."""

    action_units: np.ndarray
    """(T,52) float32 in [0,1], in the order of `ARKIT`. The eyeLook units are the same movement as `gaze`: a head
    that turns its eyeballs by `gaze` must not add what those units turn."""
    pose: np.ndarray
    """(T,6) float32: yaw (positive where the face turns to the right of the image), pitch (it looks up), roll (it
    leans clockwise, as seen), radians, in the order that `pipeline.face.head_pose.pose_of` has them, about the neck;
    then how far the whole person moves, x right, y down, z towards the camera, in head sizes, as `head.Head.vertices`
    takes it."""
    gaze: np.ndarray
    """(T,2) float32: yaw and pitch of both eyes against the head, radians, signed as the pose."""


@dataclass(frozen=True)
class Habits:
    """What stays the same for a speaker in all clips."""

    mouth: MouthStyle
    blinks: float
    """Blinks per minute."""
    sway: float
    """Standard deviation of the yaw in radians; pitch and roll have about half of it."""
    nod: float
    """How far the head goes down from a quiet to a loud frame, in radians; negative: up."""
    brows: float
    """Share of stressed syllables that raise the brows."""
    home: tuple[float, float, float]
    """Yaw, pitch and roll that the head returns to."""
    sides: np.ndarray
    """(52,) factors on expression and brows: faces are not symmetric."""


def draw_habits(speaker: int) -> Habits:
    """A speaker's habits from a seed."""
    rng = np.random.default_rng([speaker, 4])
    sides = np.ones(len(ARKIT))
    for i, name in enumerate(ARKIT):
        if name.endswith(("Left", "Right")):
            sides[i] = rng.uniform(0.82, 1.0)
    return Habits(
        mouth=MouthStyle(jaw=float(rng.uniform(0.27, 0.36)), lips=float(rng.uniform(0.7, 1.0))),
        blinks=float(rng.uniform(*BLINKS_A_MINUTE)),
        sway=float(rng.uniform(0.03, 0.10)),
        nod=float(rng.uniform(0.01, 0.05) * rng.choice([1, 1, 1, -1])),
        brows=float(rng.uniform(0.1, 0.4)),
        home=(float(rng.normal(0, 0.08)), float(rng.normal(0, 0.04)), float(rng.normal(0, 0.03))),
        sides=sides,
    )


def move(utterance: Utterance, speaker: int, seed: int = 0) -> FaceMotion:
    """The face that says an utterance.

    Args:
        utterance: dry, from `voice.speak`; its emotion and intensity are shown.
        speaker: seed of the habits (`draw_habits`).
        seed: of this take; another seed gives other blinks, glances and sway for the same words.

    The same arguments give the same values.
    """
    habits, expression = draw_habits(speaker), EXPRESSIONS[utterance.emotion]
    frames, intensity = utterance.frames, utterance.intensity
    rng = np.random.default_rng([speaker, seed, 5])
    jaw = habits.mouth.jaw * expression.articulation**intensity
    mouth = mouth_curves(utterance.phonemes, frames, MouthStyle(jaw, habits.mouth.lips))

    pose = _pose(utterance, habits, rng)
    gaze = _gaze(pose, rng)
    units = mouth + _expression(utterance, mouth, rng) * habits.sides
    units += _brows(utterance.phonemes, frames, habits.brows, rng) * habits.sides
    units[:, columns("mouthSmile")] += 0.05 * np.abs(_drift(frames, 1.0, rng))[:, None]  # no face is ever quite still
    for name, value in _looks(gaze).items():
        units[:, columns(name)] = value[:, None]
    blink = columns("eyeBlink")
    lids = _blinks(frames, habits.blinks, rng)[:, None]
    units[:, blink] = np.maximum(units[:, blink], lids)
    units[:, columns("eyeWide")] *= 1 - lids
    return FaceMotion(units.clip(0, 1).astype(np.float32), pose.astype(np.float32), gaze.astype(np.float32))


def _drift(frames: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) of smooth noise: mean 0, standard deviation 1, and a memory of so many seconds."""
    sigma = seconds * MOTION_FPS / 2
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(rng.standard_normal(frames + 2 * reach), kernel / np.linalg.norm(kernel), "valid")


def _smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """(T,), a mean of neighbours by a Gaussian."""
    sigma = seconds * MOTION_FPS
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid")


# --- Head ------------------------------------------------------------------------------------------------------


def _pose(utterance: Utterance, habits: Habits, rng: np.random.Generator) -> np.ndarray:
    """(T,6) float64. Speakers' heads move with loudness and melody (Munhall et al. 2004)."""
    frames, expression = utterance.frames, EXPRESSIONS[utterance.emotion]
    sway = habits.sway * expression.sway**utterance.intensity
    loud, melody = _loudness(utterance.wave), _melody(utterance.wave)
    turns = sway * np.stack([_drift(frames, s, rng) * share for s, share in ((1.6, 1.0), (1.2, 0.5), (1.6, 0.45))], 1)
    turns += habits.home
    turns[:, 1] += expression.tilt * utterance.intensity - habits.nod * loud + 0.5 * abs(habits.nod) * melody
    turns[:, 0] += 0.4 * habits.nod * rng.choice([-1, 1]) * loud
    turns[:, 2] += 0.3 * habits.nod * rng.choice([-1, 1]) * loud
    places = 0.012 * np.stack([_drift(frames, 2.0, rng) for _ in range(3)], 1)
    moved = np.concatenate([turns, places], 1)
    return POSE_LIMITS * np.tanh(moved / POSE_LIMITS)


def _loudness(wave: np.ndarray) -> np.ndarray:
    """(T,) from -1 to 1, smooth: quiet to loud."""
    level = levels(wave)
    return _smooth(((level - level.max() + 20) / 20).clip(-1, 1), 0.12)


def _melody(wave: np.ndarray) -> np.ndarray:
    """(T,) smooth: octaves above the voice's own median times 3, within -1 to 1; 0 where there is no voice."""
    pitch = pitches(wave)
    if np.isnan(pitch).all():
        return np.zeros(len(pitch))
    return _smooth(np.nan_to_num(3 * np.log2(pitch / np.nanmedian(pitch))).clip(-1, 1), 0.2)


# --- Eyes ------------------------------------------------------------------------------------------------------


def _gaze(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T,2): fixations of the camera and of points next to it; during a fixation, the eyes compensate for the head."""
    targets = np.zeros((len(pose), 2))
    frame = 0
    while frame < len(pose):
        target = np.zeros(2) if rng.random() < CAMERA_SHARE else rng.normal(0, (0.16, 0.07))
        lasts = int(MOTION_FPS * rng.lognormal(np.log(1.0), 0.5)) + 8
        targets[frame : frame + lasts] = target
        frame += lasts
    # A saccade takes 30 to 60 ms: one frame is between the two.
    targets[1:-1] = np.where(targets[1:-1] != targets[:-2], (targets[:-2] + targets[1:-1]) / 2, targets[1:-1])
    return GAZE_LIMIT * np.tanh((targets - pose[:, :2]) / GAZE_LIMIT)


def _looks(gaze: np.ndarray) -> dict[str, np.ndarray]:
    """The eyeLook units (T,) of a gaze. The right of the image is the person's left."""
    left, up = gaze.T / EYE_FULL
    towards_left, towards_right = np.maximum(left, 0), np.maximum(-left, 0)
    return {
        "eyeLookOutLeft": towards_left,
        "eyeLookInRight": towards_left,
        "eyeLookInLeft": towards_right,
        "eyeLookOutRight": towards_right,
        "eyeLookUp": np.maximum(up, 0),
        "eyeLookDown": np.maximum(-up, 0),
    }


def _blinks(frames: int, a_minute: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) from 0 to 1: closing takes a third of the time, and opening two thirds."""
    lids = np.zeros(frames)
    times = (np.arange(frames) + 0.5) / MOTION_FPS
    for middle in _blink_times(frames / MOTION_FPS, a_minute, rng):
        lasts = rng.uniform(*BLINK_SECONDS)
        away = (times - middle) / lasts  # the lids are shut from -0.05 to 0.1
        closed = np.where(away < 0, (away + 1 / 3) / (1 / 3 - 0.05), (2 / 3 - away) / (2 / 3 - 0.1)).clip(0, 1)
        lids = np.maximum(lids, closed * closed * (3 - 2 * closed))
    return lids


def _blink_times(seconds: float, a_minute: float, rng: np.random.Generator) -> Iterator[float]:
    mean = 60 / a_minute
    time = rng.uniform(0, mean)
    while time < seconds:
        yield time
        time += mean * rng.uniform(0.55, 1.45)


# --- Face ------------------------------------------------------------------------------------------------------


def _expression(utterance: Utterance, mouth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T,52): the emotion's units, which vary slightly over time and give way to speech."""
    frames = utterance.frames
    strength = utterance.intensity * (0.88 + 0.06 * _drift(frames, 1.5, rng).clip(-2, 2))
    units = strength[:, None] * weights(EXPRESSIONS[utterance.emotion].face)
    apart = (1 - lip_closure(utterance.phonemes, frames))[:, None]
    narrow = 1 - mouth[:, columns("mouthPucker")]
    for names, factor in ((PARTING, apart), (WIDENING, narrow)):
        for name in names:
            units[:, columns(name)] *= factor
    return units


def _brows(phonemes: tuple[Phoneme, ...], frames: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(T,52): brows that rise with some of the stressed syllables (Cavé et al. 1996)."""
    rise = np.zeros(frames)
    times = (np.arange(frames) + 0.5) / MOTION_FPS
    for phoneme in phonemes:
        if PRIMARY_STRESS in phoneme.symbol and rng.random() < share:
            middle, lasts = (phoneme.start + phoneme.end) / 2, rng.uniform(0.4, 0.7)
            shape = 0.5 + 0.5 * np.cos(2 * np.pi * ((times - middle) / lasts).clip(-0.5, 0.5))
            rise = np.maximum(rise, rng.uniform(0.12, 0.4) * shape)
    return rise[:, None] * weights({"browInnerUp": 0.8, "browOuterUp": 1.0})


def different_frames(motion: FaceMotion, count: int) -> np.ndarray:
    """(count,) int64, in the order of time: frames that differ from each other in pose and expression.

    The next frame is always the one that is farthest from those chosen before (Gonzalez 1985). A shorter motion gives
    all its frames.
    """
    places = np.concatenate([motion.action_units, 3 * motion.pose, motion.gaze], axis=1)
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmax())]
    away = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
        away[chosen] = -1.0
        chosen.append(int(away.argmax()))
    return np.sort(chosen)
