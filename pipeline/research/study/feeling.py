"""The emotion of rendered videos, given or predicted, as the instruments recognise it in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models import EMOTIONS, MOTION_FPS
from pipeline.evaluation.bootstrap import Estimate, mean, of_sums
from pipeline.research.study.clips import StudyError, Watch, every, frames_of, speaker_of, spread, unwatched
from pipeline.research.study.emotions import (
    EmotionClassifier,
    accuracy,
    clip_statistics,
    confusion,
    confusion_table,
    fit_classifier,
    recognised,
    smile,
)
from pipeline.research.study.metric import Metric
from pipeline.research.study.reader import FINE, Reader
from pipeline.research.study.rendering import Renderer, one_hot
from pipeline.research.study.settings import EmotionSettings
from pipeline.training_data.shards import Shards

READ = 50
"""Number of frames of a true clip that are read."""

SHOWN = 3
"""Number of portraits in the strip."""


@dataclass
class Readings:
    """Readings of N clips."""

    statistics: list[np.ndarray] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    """The intended emotion, whether shown, given or spoken, as an index in `EMOTIONS`."""
    speakers: list[str] = field(default_factory=list)
    smiles: list[float] = field(default_factory=list)

    def add(self, curves: np.ndarray, emotion: int, speaker: str) -> None:
        """Add a clip's readings (T,60)."""
        self.statistics.append(clip_statistics(curves))
        self.wanted.append(emotion)
        self.speakers.append(speaker)
        self.smiles.append(smile(curves))

    def found(self, classifier: EmotionClassifier) -> tuple[np.ndarray, np.ndarray]:
        """(intended (N,), recognised (N,))."""
        return np.array(self.wanted), classifier(np.array(self.statistics))


def with_emotion(shards: Shards, names: Sequence[str] = EMOTIONS) -> list[int]:
    """Numbers of the clips with a known emotion that is among `names`."""
    return [index for index, row in enumerate(shards.rows) if row["emotion"] in names]


def read_videos(shards: Shards, reader: Reader, clips: Sequence[int], watch: Watch = unwatched) -> Readings:
    """What the reader recognises in true clips."""
    found = Readings()
    for clip in watch(clips, "true clips to read"):
        pictures = frames_of(shards, clip, every(int(shards.frames[clip]), READ), FINE)
        found.add(reader.read(pictures), EMOTIONS.index(shards.rows[clip]["emotion"]), speaker_of(shards, clip))
    return found


@dataclass
class Feeling:
    """All readings."""

    train: Readings
    real_videos: Readings
    redirected: Readings
    predicted: Readings
    classifier: EmotionClassifier
    """Fitted on `train`."""
    model_predictions: list[int] = field(default_factory=list)
    """What the model's own classifier predicts for the clips of `predicted`; empty without such a condition."""
    strip: dict[str, list[np.ndarray]] = field(default_factory=dict)


def neutral_clips(shards: Shards, count: int, seed: int) -> list[int]:
    """A neutral clip of each of at most `count` speakers. Raises StudyError neutral_missing if there is none."""
    first: dict[str, int] = {}
    for clip in with_emotion(shards, ["neutral"]):
        first.setdefault(speaker_of(shards, clip), clip)
    if not first:
        raise StudyError("neutral_missing", f"{shards.folder}: no held-out clip is neutral: prepare more speakers")
    names = np.random.default_rng([seed, 5]).permutation(sorted(first)).tolist()
    return sorted(first[name] for name in names[:count])


def render_feelings(
    renderer: Renderer,
    reader: Reader,
    train: Shards,
    held_out: Shards,
    settings: EmotionSettings,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Feeling:
    """Render neutral portraits, redirected to each emotion, and with the speech of clips of every emotion.

    Raises StudyError if no held-out clip is neutral, or no training clip has an emotion.
    """
    known = with_emotion(train)
    if len({train.rows[clip]["emotion"] for clip in known}) < 2:
        raise StudyError("emotions_missing", f"{train.folder}: its clips have no emotions to tell apart")
    neutral = neutral_clips(held_out, settings.portraits, seed)
    learnt = read_videos(train, reader, known, watch)
    real_videos = read_videos(held_out, reader, with_emotion(held_out), watch)
    classifier = fit_classifier(np.array(learnt.statistics), np.array(learnt.wanted))
    found = Feeling(learnt, real_videos, Readings(), Readings(), classifier)
    size, most = renderer.model.config.image_size, int(settings.seconds * MOTION_FPS)
    for clip in watch(neutral, "portraits, each with seven emotions"):
        portrait, wave, pose = _inputs(held_out, clip, size, most)
        shown = []
        for number, name in enumerate(EMOTIONS):
            frames = renderer.frames(
                portrait, wave, seed=seed, emotion=one_hot(name), emotion_scale=settings.scale, pose=pose
            )
            found.redirected.add(reader.read(frames), number, speaker_of(held_out, clip))
            shown.append(frames[len(frames) // 2])
        if len(found.strip) < SHOWN:
            label = f"{held_out.rows[clip]['clip_id']}: portrait, {', '.join(EMOTIONS)}"
            found.strip[label] = [portrait, *shown]
    # Portraits with neutral faces, so that only the audio can reveal the emotion; of another speaker if this one has
    # none.
    portraits = {speaker_of(held_out, clip): clip for clip in neutral}
    said = [clip for clip in spread(held_out, len(held_out), seed) if held_out.rows[clip]["emotion"] in EMOTIONS]
    said = _alike(held_out, said, settings.heard_clips)
    for place, clip in enumerate(watch(said, "clips to render with the predicted emotion")):
        other = portraits.get(speaker_of(held_out, clip), neutral[place % len(neutral)])
        portrait, _, _ = _inputs(held_out, other, size, most)
        row, length = held_out.read(clip, "wave", "pose"), min(most, int(held_out.frames[clip]))
        predicted = None
        if renderer.model.config.emotion == "speech":
            predicted = renderer.predicted_emotion(row["wave"])  # of the whole clip, like jobs.render
            found.model_predictions.append(int(predicted.argmax()))
        wave, pose = row["wave"][: length * 640], row["pose"][:length]
        frames = renderer.frames(portrait, wave, seed=seed, emotion=predicted, emotion_scale=settings.scale, pose=pose)
        emotion = EMOTIONS.index(held_out.rows[clip]["emotion"])
        found.predicted.add(reader.read(frames), emotion, speaker_of(held_out, clip))
    return found


def _alike(shards: Shards, clips: Sequence[int], count: int) -> list[int]:
    """At most `count` clips, with as equal numbers per emotion as possible."""
    taken: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for clip in clips:
        emotion = shards.rows[clip]["emotion"]
        taken[emotion] = taken.get(emotion, 0) + 1
        ranked.append((taken[emotion], clip))
    return sorted(clip for _, clip in sorted(ranked)[:count])


def _inputs(shards: Shards, clip: int, size: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first frame (S,S,3), its audio and poses, for at most `most` frames)."""
    row = shards.read(clip, "wave", "pose")
    frames = min(most, int(shards.frames[clip]))
    return frames_of(shards, clip, [0], size)[0], row["wave"][: frames * 640], row["pose"][:frames]


def feeling_metrics(found: Feeling, seed: int = 0) -> tuple[list[Metric], list[tuple[str, list[list[str]]]]]:
    """What was recognised, and confusion tables."""
    metrics: list[Metric] = []
    tables = []
    for key, readings, text in (
        ("ceiling", found.real_videos, "real videos of held-out speakers"),
        ("redirected", found.redirected, "rendered, emotion given"),
        ("heard", found.predicted, "rendered from speech alone"),
    ):
        wanted, seen = readings.found(found.classifier)
        right = accuracy(wanted, seen, readings.speakers, seed)
        count = recognised(wanted, seen, readings.speakers, seed)
        if key == "heard":
            metrics.append(
                Metric("emotion.heard.agrees", f"{text}: the recognised emotion is that of the speech", right, "share")
            )
        else:
            metrics.append(Metric(f"emotion.{key}.recognised", f"{text}: emotions recognised", count, "of 7"))
            metrics.append(Metric(f"emotion.{key}.accuracy", f"{text}: clips recognised", right, "share"))
        tables.append((f"Emotions, {text}: intended and recognised", confusion_table(confusion(wanted, seen), "")))
    if found.model_predictions:
        model_predictions, wanted = np.array(found.model_predictions), np.array(found.predicted.wanted)
        right = accuracy(wanted, model_predictions, found.predicted.speakers, seed)
        metrics.append(
            Metric("emotion.heard.ears", "the emotion that the model predicts is that of the speech", right, "share")
        )
        _, seen = found.predicted.found(found.classifier)
        same = accuracy(model_predictions, seen, found.predicted.speakers, seed)
        metrics.append(
            Metric("emotion.heard.shown", "the recognised emotion is the one that the model predicted", same, "share")
        )
    raised = smiles_over_neutral(found.redirected)
    names = [found.redirected.speakers[place] for place in range(0, len(found.redirected.speakers), len(EMOTIONS))]
    text = "smile if happy is given, minus the smile if neutral is given"
    metrics.append(Metric("emotion.happy.smile", text, mean(raised, names, seed)))
    text = "smile in happy videos, minus the smile in neutral videos"
    metrics.append(Metric("emotion.happy.film", text, smile_of_videos(found.real_videos, seed)))
    return metrics, tables


def smile_of_videos(real_videos: Readings, seed: int = 0) -> Estimate:
    """Mean smile in happy clips minus that in neutral clips, whoever speaks."""
    wanted, smiles = np.array(real_videos.wanted), np.array(real_videos.smiles)
    columns = []
    for name in ("happy", "neutral"):
        there = (wanted == EMOTIONS.index(name)).astype(np.float64)
        columns += [there * smiles, there]
    return of_sums(
        lambda s: s[..., 0] / s[..., 1] - s[..., 2] / s[..., 3], np.stack(columns, 1), real_videos.speakers, seed
    )


def smiles_over_neutral(redirected: Readings) -> np.ndarray:
    """(portraits,): smile with happy minus smile with neutral, for readings in groups of seven in the order of
    `EMOTIONS`.
    """
    smiles = np.array(redirected.smiles).reshape(-1, len(EMOTIONS))
    return smiles[:, EMOTIONS.index("happy")] - smiles[:, EMOTIONS.index("neutral")]
