"""What each emotion changes in the landmarks of generated faces, and whether spans of a model's clips show it.

`pipeline/measure/expressions.json`, by which quality control judges spans of emotions, is made here: each person says
the same words seven times, with the same mouth, blinks and glances, and a face of another emotion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from models import EMOTIONS, MOTION_FPS, SAMPLE_RATE
from models.config import POSE_DIM
from pipeline.common.options import SettingError, check_ranges, option
from pipeline.evaluation.bootstrap import Estimate, mean
from pipeline.face.detector import FaceDetector
from pipeline.manifest.emotion_spans import emotions_of
from pipeline.measure.emotion_span import CLEAR, places_of, span_shares
from pipeline.measure.expression import FEATURES, Expressions, expression
from pipeline.measure.video_pass import Feelings
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.look import Look
from pipeline.research.corpus.motion import move
from pipeline.research.corpus.renderer import Renderer
from pipeline.research.corpus.text import draw_text
from pipeline.research.corpus.units import ARKIT
from pipeline.research.corpus.voice import LANGUAGES, Utterance, draw_voice, speak
from pipeline.research.study.metric import value_text

FIRST_SEED = 6000
DRAWN = 256
"""Side of the frames as they are drawn, px; smaller ones are made from them."""
FOLDS = 3
"""People are measured by what was fitted on the other parts of them."""
OWN = 0.5
"""Share of the variances alone in the covariance (regularised discriminant analysis, Friedman 1989). Without it a smile
would be seen by the difference of two features of the brows; recognition on held-out people stays the same.
"""
NEUTRAL = EMOTIONS.index("neutral")
TIMES = ((0.6, 2.2), (2.8, 4.4), (5.0, 6.6))
"""Spans of the rendered clips, s."""
SECONDS = 7.2


Render = Callable[[np.ndarray, np.ndarray, Mapping[str, float] | Sequence[Mapping[str, Any]], int], np.ndarray]
"""(portrait (S,S,3) uint8 RGB, speech (n,) float32 at 16 kHz, emotion or its spans, seed) -> frames (T,s,s,3) uint8."""


@dataclass
class ExpressionSettings:
    """Who is drawn, and what is rendered."""

    people: int = option(36, "Number of generated people.", least=FOLDS, most=1000)
    frames: int = option(12, "Frames of each person with each emotion, at random moments.", least=4, most=200)
    sizes: list[int] = option([256, 64], "Side lengths at which the faces are measured, px.")
    model: str = option("", "Folder of a model, or pocket: clips of it with three spans each are measured too.")
    clips: int = option(10, "Number of these clips, each of another generated person.", least=2, most=1000)
    scale: float = option(2.0, "Guidance by emotion (e_cfg_scale) of these clips.", least=0, most=20)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.sizes or min(self.sizes) < 32 or max(self.sizes) > DRAWN:
            raise SettingError("sizes", f"give at least one size, each from 32 to {DRAWN}")


# --- Generated faces -------------------------------------------------------------------------------------------


def draw_expressions(seed: int, settings: ExpressionSettings, detector: FaceDetector) -> np.ndarray:
    """`FEATURES` of a person's frames (sizes,7,frames,8); NaN where no face is found."""
    spoken = _spoken(seed, seed + 50_000)
    head = Head(seed)
    renderer = Renderer(head, Look.drawn(seed, head), DRAWN)
    at = np.sort(np.random.default_rng(seed).choice(spoken.frames, settings.frames, replace=False))
    found = np.full((len(settings.sizes), len(EMOTIONS), settings.frames, len(FEATURES)), np.nan)
    for number, emotion in enumerate(EMOTIONS):
        motion = move(replace(spoken, emotion=emotion), seed)
        frames = renderer.render(motion.action_units[at], motion.pose[at], motion.gaze[at]).frames
        for place, side in enumerate(settings.sizes):
            for i, frame in enumerate(frames):
                small = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))
                faces = detector.detect(small)
                if faces:
                    found[place, number, i] = expression(faces[0].landmarks)
    return found


def _spoken(seed: int, *more: int) -> Utterance:
    """Sentences of a person without emotion."""
    language = list(LANGUAGES)[seed % len(LANGUAGES)]
    text = " ".join(draw_text(language, one) for one in (seed, *more))
    return speak(text, draw_voice(language, seed), emotion="neutral", seed=seed)


def fit_expressions(features: np.ndarray) -> Expressions:
    """Features (N,7,frames,8) of N people and sizes -> the mean changes, and the covariance of single frames."""
    changes = np.nanmean(features - features[:, NEUTRAL, None], axis=2)
    around = (features - np.nanmean(features, axis=2, keepdims=True)).reshape(-1, features.shape[-1])
    covariance = np.cov(around[np.isfinite(around).all(1)].T)
    return Expressions(changes.mean(0), (1 - OWN) * covariance + OWN * np.diag(np.diag(covariance)))


@dataclass
class Compared:
    """Values of the metric for faces whose emotions are known, by people who are not in the fit."""

    right: list[float]
    """One half of the frames shows the emotion that is asked for, the other one another emotion."""
    wrong: list[float]
    """The emotion is asked for and not shown: both halves have the other one."""
    people: list[int]

    def alarms(self, limit: float) -> Estimate:
        """Share of right ones below the limit."""
        return mean((np.array(self.right) < limit).astype(float), self.people)

    def misses(self, limit: float) -> Estimate:
        """Share of wrong ones that are not below the limit."""
        return mean((np.array(self.wrong) >= limit).astype(float), self.people)


def compare(features: np.ndarray, seed: int = 0) -> tuple[Compared, float]:
    """Features (people,sizes,7,frames,8) -> the values of all pairs of emotions that can be told apart, and the share
    of those differences whose emotion `nearest` finds.
    """
    draw, half = np.random.default_rng(seed), features.shape[3] // 2
    found, seen = Compared([], [], []), []
    for fold in range(FOLDS):
        held_out = np.arange(len(features)) % FOLDS == fold
        fitted = fit_expressions(features[~held_out].reshape(-1, *features.shape[2:]))
        for person, size in product(np.flatnonzero(held_out).tolist(), range(features.shape[1])):
            for wanted, other in product(range(len(EMOTIONS)), repeat=2):
                direction, clear = fitted.towards({EMOTIONS[wanted]: 1.0}, {EMOTIONS[other]: 1.0})
                if wanted == other or clear < CLEAR:
                    continue
                order = draw.permutation(features.shape[3])
                inside, beside = order[:half], order[half:]
                face = features[person, size]
                around = np.nanmean(face[other, beside], axis=0)
                right = np.nanmean(face[wanted, inside], axis=0) - around
                found.right.append(float(direction @ right))
                found.wrong.append(float(direction @ (np.nanmean(face[other, inside], axis=0) - around)))
                found.people.append(person)
                if other == NEUTRAL:
                    seen.append(nearest(fitted, right) == wanted)
    return found, float(np.mean(seen))


def nearest(known: Expressions, difference: np.ndarray) -> int:
    """Which emotion of `models.EMOTIONS` a face shows that differs from the same face without emotion by this (8,).

    The nearest of the seven changes, by Mahalanobis' distance: Fisher's linear discriminant.
    """
    away = difference - known.change
    return int(np.einsum("ij,jk,ik->i", away, np.linalg.inv(known.covariance), away).argmin())


# --- Clips of a model ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpanSeen:
    """One span of a rendered clip."""

    clip: int
    wanted: int
    seen: int
    """`nearest`, against the frames without emotion around the spans."""
    share: float | None
    """The metric."""
    unasked: int
    """`nearest` at the same time of the clip that is rendered without spans."""


def seen_spans(render: Render, seed: int, known: Expressions, scale: float, detector: FaceDetector) -> list[SpanSeen]:
    """A clip of a generated person with three spans of different emotions and none elsewhere, and one without spans.

    `scale` is that of the guidance by emotion with which `render` renders.
    """
    head = Head(seed)
    still, ahead = np.zeros((1, len(ARKIT)), np.float32), np.zeros((1, 2), np.float32)
    drawn = Renderer(head, Look.drawn(seed, head), DRAWN).render(still, np.zeros((1, POSE_DIM), np.float32), ahead)
    speech = _long_enough(seed)
    wanted = [[n for n in range(len(EMOTIONS)) if n != NEUTRAL][(seed + 2 * i) % (len(EMOTIONS) - 1)] for i in range(3)]
    cell: list[dict[str, Any]] = [
        {"start": start, "end": end, "emotion": EMOTIONS[emotion]}
        for (start, end), emotion in zip(TIMES, wanted, strict=True)
    ]

    def rendered(emotion: Mapping[str, float] | Sequence[Mapping[str, Any]]) -> np.ndarray:
        return _features(render(drawn.frames[0], speech, emotion, seed), detector)

    with_spans, without = rendered([*cell, {"emotion": "neutral"}]), rendered({"neutral": 1.0})
    feelings = Feelings(emotions_of(cell, scale).spans, 0.3, {"neutral": 1.0})
    places = places_of(feelings, len(with_spans), MOTION_FPS)
    shares = span_shares(with_spans, feelings, MOTION_FPS)

    def shown(features: np.ndarray, span: int) -> int:
        return nearest(known, features[places == span].mean(0) - features[places == -1].mean(0))

    return [
        SpanSeen(seed, emotion, shown(with_spans, span), shares[span][3], shown(without, span))
        for span, emotion in enumerate(wanted)
    ]


def _long_enough(seed: int) -> np.ndarray:
    """Speech (n,) float32 at 16 kHz of `SECONDS`, without emotion."""
    more: list[int] = []
    while (spoken := _spoken(seed, *more)).frames < SECONDS * MOTION_FPS:
        more.append(seed + 50_000 + len(more))
    return spoken.wave[: round(SECONDS * SAMPLE_RATE)]


def _features(frames: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Frames (T,S,S,3) uint8 of one person -> (T,8); NaN where no face is found."""
    found, face = np.full((len(frames), len(FEATURES)), np.nan), None
    for place, frame in enumerate(frames):
        face = None if face is None else detector.follow(frame, face)
        face = face or next(iter(detector.detect(frame)), None)
        if face is not None:
            found[place] = expression(face.landmarks)
    return found


# --- Tables ----------------------------------------------------------------------------------------------------


def seen_table(seen: Sequence[SpanSeen], limit: float) -> str:
    """What was seen in the spans, in lines."""
    clips = [one.clip for one in seen]
    asked, unasked = (
        mean(np.array([getattr(one, name) == one.wanted for one in seen], dtype=float), clips)
        for name in ("seen", "unasked")
    )
    known = [one for one in seen if one.share is not None]
    below = mean(np.array([(one.share or 0.0) < limit for one in known], dtype=float), [one.clip for one in known])
    shares = np.array([one.share for one in known])
    lines = [
        f"spans whose emotion is seen: {value_text(asked)} of {asked.count} in {asked.speakers} clips; chance "
        f"{1 / len(EMOTIONS):.3f}",
        f"the same without spans: {value_text(unasked)}",
        f"emotion_span: median {np.median(shares):.2f}, 5 % {np.quantile(shares, 0.05):.2f}; below {limit:g}: "
        f"{value_text(below)} of {below.count}",
    ]
    for number, emotion in enumerate(EMOTIONS):
        of = [one for one in seen if one.wanted == number]
        if of:
            told = ", ".join(EMOTIONS[one.seen] for one in of)
            lines.append(f"  {emotion}: {sum(one.seen == number for one in of)} of {len(of)} ({told})")
    return "\n".join(lines)


def compared_table(found: Compared, recognised: float, limits: Sequence[float]) -> str:
    """What the metric says of faces whose emotion is known, as Markdown."""
    lines = [
        f"{len(found.right)} comparisons of {len(set(found.people))} people; nearest finds {recognised:.2f} of the "
        "emotions against none",
        "| limit | right spans below it | spans without their emotion above it |",
        "|---|---|---|",
    ]
    lines += [f"| {x:g} | {value_text(found.alarms(x))} | {value_text(found.misses(x))} |" for x in limits]
    return "\n".join(lines)
