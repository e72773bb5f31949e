"""A model's sampled motion against the truth, in the space of motion codes, without decoding images.

Motion of held-out clips is sampled from their content features (`latents/`), mapped to blendshapes by a linear probe on
true motion codes (`pipeline.research.study.probe`), and compared with the ground truth of the corpus. What the probe
cannot read is missing for every model; the same metrics for true motion show this upper bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models import EMOTIONS, FLOAT
from pipeline.evaluation.bootstrap import Estimate, Resampled, mean, median, ratio
from pipeline.evaluation.frechet import Moments, frechet_distance
from pipeline.research.corpus.units import CURVES
from pipeline.research.study.clips import PLACE
from pipeline.research.study.codes import LatentClip, Setting, sample_codes, shortened
from pipeline.research.study.emotions import (
    EmotionClassifier,
    accuracy,
    clip_statistics,
    fit_classifier,
    recognised,
    smile,
)
from pipeline.research.study.metric import Metric
from pipeline.research.study.probe import Probe, fit_probe
from pipeline.research.study.rendering import one_hot
from pipeline.research.study.speech import REACH, Comparison, Spoken, best_lag, compare

MOUTH = tuple(i for i, name in enumerate(CURVES) if name.startswith(("jaw", "mouth")))
HEAD = tuple(PLACE[name] for name in ("yaw", "pitch", "roll"))

RESAMPLES = 200
"""Number of resamples for the interval of the Frechet distance."""


@dataclass(frozen=True)
class Instrument:
    """What reads motion codes, fitted on true motion of training speakers."""

    probe: Probe
    classifier: EmotionClassifier | None
    """None if no clip's emotion is known."""


def fit_instrument(train: Sequence[LatentClip]) -> Instrument:
    """Probe and classifier from clips of training speakers."""
    probe = fit_probe(np.concatenate([c.codes for c in train]), np.concatenate([c.curves for c in train]))
    known = [(clip_statistics(probe(c.codes)), c.emotion) for c in train if c.emotion is not None]
    if len({emotion for _, emotion in known}) < 2:
        return Instrument(probe, None)
    statistics, labels = zip(*known, strict=True)
    return Instrument(probe, fit_classifier(np.array(statistics), np.array(labels)))


# --- Figures -----------------------------------------------------------------------------------------------------


def latent_metrics(
    model: FLOAT,
    instrument: Instrument,
    clips: Sequence[LatentClip],
    setting: Setting | None = None,
    *,
    portraits: int = 12,
    portrait_frames: int = 50,
    seed: int = 0,
    device: str = "cpu",
) -> list[Metric]:
    """All figures of one model and setting.

    Args:
        clips: of held-out speakers; each is sampled as jobs.render would.
        portraits: clips of these that are sampled seven times more, with each emotion named, for `portrait_frames`.
    """
    setting = setting or Setting()
    codes = sample_codes(model, clips, setting, seed, device)
    metrics = motion_metrics(instrument, clips, codes, seed)
    if instrument.classifier is None or model.config.emotion == "none":
        return metrics
    metrics += _spoken_emotion(instrument.classifier, instrument.probe, clips, codes, seed)
    neutral = [clip for clip in clips if clip.emotion == EMOTIONS.index("neutral")] or list(clips)
    shown = [shortened(clip, portrait_frames) for clip in neutral[:portraits]]
    return metrics + _redirected(model, instrument, shown, setting, seed, device)


BETTER: dict[str, Literal["higher", "lower"]] = {
    "jaw.correlation": "higher",
    "mouth.error": "lower",
    "head.correlation": "higher",
    "frechet": "lower",
}
"""Which values of a metric of motion are better; those of the others should be near 0, 1 or the truth."""


def truth_metrics(instrument: Instrument, clips: Sequence[LatentClip], seed: int = 0) -> list[Metric]:
    """The same metrics for true motion: the upper bound."""
    codes = [clip.codes for clip in clips]
    metrics = motion_metrics(instrument, clips, codes, seed)
    if instrument.classifier is not None:
        metrics += _spoken_emotion(instrument.classifier, instrument.probe, clips, codes, seed)
    return metrics


def motion_metrics(
    instrument: Instrument, clips: Sequence[LatentClip], codes: Sequence[np.ndarray], seed: int = 0
) -> list[Metric]:
    """Metrics of codes (T,M), one array per clip: mouth, head and distribution."""
    probe, speakers = instrument.probe, [clip.speaker for clip in clips]
    read = [probe(one) for one in codes]
    true = [probe(clip.codes) for clip in clips]
    metrics = []

    def add(key: str, text: str, estimate: Estimate, unit: str = "") -> None:
        metrics.append(Metric(key, text, estimate, unit, better=BETTER.get(key, "")))

    found = compare(_series(clips, read, "jawOpen"), "found", "true") if len(clips) > 1 else None
    if found is not None:
        add("jaw.correlation", "jawOpen against the real video: correlation (median)", _here(found, seed))
        lags = np.array([best_lag(curve) for curve in found.own], dtype=np.float64)
        add("jaw.lag", "jawOpen: best lag (median)", median(lags, found.speakers, seed), "frames")
        strangers = mean(found.strangers[:, REACH], found.speakers, seed)
        add("jaw.shuffled", "jawOpen against other real videos: correlation (mean)", strangers)
    jaw = PLACE["jawOpen"]
    spreads = np.array([one[:, jaw].std() / max(1e-6, t[:, jaw].std()) for one, t in zip(read, true, strict=True)])
    add("jaw.spread", "jawOpen: spread relative to that of the true motion (median)", median(spreads, speakers, seed))
    errors = [np.square(one[:, MOUTH] - clip.curves[:, MOUTH]).mean() for one, clip in zip(read, clips, strict=True)]
    squared = ratio(np.array(errors), np.ones(len(errors)), speakers, seed)
    add("mouth.error", "jaw and mouth blendshapes: RMS error", _root(squared))
    heads = [
        one[:, HEAD].std(0).mean() / max(1e-6, t[:, HEAD].std(0).mean()) for one, t in zip(read, true, strict=True)
    ]
    add(
        "head.range",
        "yaw, pitch and roll: spread relative to that of the true motion (median)",
        median(np.array(heads), speakers),
    )
    if len(clips) > 1:
        yaw = compare(_series(clips, read, "yaw"), "found", "true")
        add("head.correlation", "yaw against the real video: correlation (median)", _here(yaw, seed))
    add(
        "frechet",
        "Frechet distance between sampled and true codes, relative to the variance of the true codes",
        _frechet(clips, codes, seed),
    )
    return metrics


def _series(clips: Sequence[LatentClip], read: Sequence[np.ndarray], name: str) -> list[Spoken]:
    column = PLACE[name]
    return [
        Spoken(clip.name, clip.speaker, {"found": one[:, column], "true": clip.curves[:, column]})
        for clip, one in zip(clips, read, strict=True)
    ]


def _here(found: Comparison, seed: int) -> Estimate:
    return median(found.own[:, REACH], found.speakers, seed)


def _root(squared: Estimate) -> Estimate:
    def root(value: float | None) -> float | None:
        return None if value is None else float(np.sqrt(value))

    drawn = squared.resampled
    rooted = None if drawn is None else replace(drawn, values=np.sqrt(drawn.values))
    return replace(squared, value=root(squared.value), low=root(squared.low), high=root(squared.high), resampled=rooted)


def _frechet(clips: Sequence[LatentClip], codes: Sequence[np.ndarray], seed: int) -> Estimate:
    """Over all frames, scaled by the total variance of the true codes, so that 0 means equal and 1 is a large distance.

    The interval is from resampling whole speakers, which makes both sets smaller and the distance slightly larger.
    """
    speakers = sorted({clip.speaker for clip in clips})
    sets: dict[str, tuple[Moments, Moments]] = {}
    for clip, one in zip(clips, codes, strict=True):
        dimension = one.shape[1]
        true, made = sets.setdefault(clip.speaker, (Moments.zero(dimension), Moments.zero(dimension)))
        true.add(clip.codes)
        made.add(one)

    def distance(names: Sequence[str]) -> float:
        true, made = Moments.zero(dimension), Moments.zero(dimension)
        for name in names:
            true.merge(sets[name][0])
            made.merge(sets[name][1])
        return frechet_distance(true, made) / max(1e-12, float(np.trace(true.covariance)))

    value, frames = distance(speakers), sum(map(len, codes))
    if len(speakers) < 2:
        return Estimate(value, None, None, len(speakers), frames)
    draw = np.random.default_rng([seed, 3])
    drawn = [
        distance([speakers[i] for i in draw.integers(len(speakers), size=len(speakers))]) for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    resampled = Resampled(np.array(drawn), tuple(speakers), seed)
    return Estimate(value, low, high, len(speakers), frames, resampled)


def _spoken_emotion(
    classifier: EmotionClassifier, probe: Probe, clips: Sequence[LatentClip], codes: Sequence[np.ndarray], seed: int
) -> list[Metric]:
    known = [(c, one) for c, one in zip(clips, codes, strict=True) if c.emotion is not None]
    seen = classifier(np.array([clip_statistics(probe(one)) for _, one in known]))
    wanted = np.array([clip.emotion for clip, _ in known])
    right = accuracy(wanted, seen, [clip.speaker for clip, _ in known], seed)
    return [
        Metric(
            "emotion.heard",
            "the recognised emotion is that of the speech (which the first frame shows too)",
            right,
            "share",
            better="higher",
        )
    ]


def _redirected(
    model: FLOAT,
    instrument: Instrument,
    clips: Sequence[LatentClip],
    setting: Setting,
    seed: int,
    device: str,
) -> list[Metric]:
    probe, classifier = instrument.probe, instrument.classifier
    assert classifier is not None
    wanted, seen, speakers, smiles = [], [], [], {}
    for number, name in enumerate(EMOTIONS):
        named = [replace(clip, condition=one_hot(name)) for clip in clips]
        read = [probe(one) for one in sample_codes(model, named, setting, seed, device)]
        seen += classifier(np.array([clip_statistics(one) for one in read])).tolist()
        wanted += [number] * len(clips)
        speakers += [clip.speaker for clip in clips]
        smiles[name] = np.array([smile(one) for one in read])
    raised = mean(smiles["happy"] - smiles["neutral"], [clip.speaker for clip in clips], seed)
    found = np.array(wanted), np.array(seen)
    return [
        Metric(
            "emotion.recognised",
            "emotions given and recognised",
            recognised(*found, speakers, seed),
            "of 7",
            better="higher",
        ),
        Metric(
            "emotion.accuracy",
            "clips with a given emotion that are recognised",
            accuracy(*found, speakers, seed),
            "share",
            better="higher",
        ),
        Metric("happy.smile", "smile if happy is given, minus the smile if neutral is given", raised),
    ]
