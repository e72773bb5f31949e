"""Rendered speech compared with the real video: does the mouth open when the speaker's did, and with which lag?

The mouth opening is measured on pixels, of the rendered and of the real video alike, by two instruments: face landmarks
(`pipeline.measure.face_track`) on enlarged frames, and the reader (`pipeline.research.study.reader`). Both are also
compared with the ground-truth jawOpen on the real video's pixels, which is the upper bound for each instrument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from models import MOTION_FPS
from pipeline.evaluation.bootstrap import mean, median
from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import LEFT_EYE, RIGHT_EYE
from pipeline.measure.face_track import LOWER_LIP, UPPER_LIP, FaceTrack
from pipeline.measure.lip_correlation import correlation
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.report.charts import line_chart
from pipeline.research.study.clips import (
    PLACE,
    StudyError,
    Watch,
    every,
    frames_of,
    read_curves,
    speaker_of,
    spread,
    unwatched,
)
from pipeline.research.study.metric import Metric
from pipeline.research.study.reader import Reader
from pipeline.research.study.rendering import Renderer
from pipeline.research.study.settings import SpeechSettings
from pipeline.training_data.shards import Shards

REACH = 10
"""Number of frames within which a lag is searched, in either direction."""
LAGS = tuple(range(-REACH, REACH + 1))

STRANGERS = 8
"""Number of other clips that a rendered one is compared with, as a control."""

WORST = 8
"""Number of clips that are listed as the worst."""

SHOWN = 8
"""Number of frames in the strip."""


@dataclass
class Spoken:
    """One clip: mouth openings (T,) by each instrument; NaN is a frame without a face."""

    name: str
    speaker: str
    series: dict[str, np.ndarray]
    """`rendered`, `driven` and `film` by `landmarks` and `reader` (rendered.landmarks, ...), and `rig`. film is the
    real video, driven is its reconstruction from its first frame and its own motion codes, and rig is the ground truth.
    """


@dataclass
class Speaking:
    """All clips, and a strip of the first ones: label -> frames."""

    clips: list[Spoken] = field(default_factory=list)
    strip: dict[str, list[np.ndarray]] = field(default_factory=dict)


LIPS = ((UPPER_LIP, LOWER_LIP), (82, 87), (312, 317))
"""Inner edges of the lips, upper and lower: in the middle, and on both sides of it."""


def openings(pictures: np.ndarray, detector: FaceDetector, side: int = 256) -> np.ndarray:
    """(T,S,S,3) uint8 -> (T,) distance between the lips relative to that between the eyes; NaN without a face.

    It is the mean over three places and over the frame and its mirror image, between which errors of landmarks in small
    frames differ. Its upper bound is 0.86 (`speech.ceiling.landmarks`, 24 clips, 64 px); that of the single distance
    which quality control measures (`measure.face_track.mouth_opening`) was 0.83, on an earlier version of the corpus.
    Frames that are smaller than `side` are enlarged by bicubic interpolation, because the detector does not find
    smaller faces.
    """
    seen, mirrored = _gaps(pictures, detector, side), _gaps(pictures[:, :, ::-1], detector, side)
    seen = np.where(np.isnan(seen), mirrored, seen)
    return (seen + np.where(np.isnan(mirrored), seen, mirrored)) / 2


def _gaps(pictures: np.ndarray, detector: FaceDetector, side: int) -> np.ndarray:
    frames, size = pictures.shape[:2]
    track = FaceTrack(Delivery(Path(), Fraction(MOTION_FPS), frames, max(side, size)), detector)
    found = np.full(frames, np.nan)
    for number, picture in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(picture))
        if size < side:
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        track.frame(Frame(number, av.VideoFrame.from_ndarray(np.asarray(image), "rgb24")))
        if track.face is not None:
            points = track.face.landmarks
            gaps = np.linalg.norm(points[[upper for upper, _ in LIPS]] - points[[lower for _, lower in LIPS]], axis=1)
            found[number] = gaps.mean() / np.linalg.norm(points[RIGHT_EYE] - points[LEFT_EYE])
    return found


def lag_curve(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(21,) Pearson correlation of two series at each of `LAGS`, over their common frames.

    A lag is positive if `found` is late.
    """
    frames = min(len(found), len(true))
    return np.array([correlation(found[:frames], true[:frames], lag) for lag in LAGS])


def best_lag(curve: np.ndarray) -> int:
    """Lag of the highest correlation, the shortest among equals."""
    order = sorted(range(len(LAGS)), key=lambda place: abs(LAGS[place]))
    return LAGS[max(order, key=lambda place: curve[place])]


def speak_clips(
    renderer: Renderer,
    shards: Shards,
    settings: SpeechSettings,
    reader: Reader | None,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Speaking:
    """Render held-out clips from their first frame and their audio, and measure the mouths, clip by clip."""
    found, detector = Speaking(), FaceDetector()
    size = renderer.model.config.image_size
    for clip in watch(spread(shards, settings.clips, seed), "clips to render and measure"):
        row = shards.read(clip, "wave", "pose")
        frames = min(int(shards.frames[clip]), int(settings.seconds * MOTION_FPS))
        true_frames = frames_of(shards, clip, None, size)[:frames]
        made = renderer.frames(true_frames[0], row["wave"][: frames * 640], seed=seed, pose=row["pose"][:frames])
        series = {"rig": read_curves(shards, clip)[:frames, PLACE["jawOpen"]]}
        for label, pictures in (("rendered", made), ("driven", renderer.driven(true_frames)), ("film", true_frames)):
            series[f"{label}.landmarks"] = openings(pictures, detector, settings.side)
            if reader is not None:
                series[f"{label}.reader"] = reader.read(pictures)[:, PLACE["jawOpen"]]
        found.clips.append(Spoken(shards.rows[clip]["clip_id"], speaker_of(shards, clip), series))
        if len(found.clips) <= 3:
            numbers = every(frames, SHOWN)
            found.strip[f"real video of {found.clips[-1].name}"] = list(true_frames[numbers])
            found.strip[f"rendered from its first frame and its audio ({len(found.clips)})"] = list(made[numbers])
    return found


@dataclass(frozen=True)
class Comparison:
    """Series of clips compared with series of the same clips, and of others."""

    own: np.ndarray
    """(clips,21): lag curves."""
    strangers: np.ndarray
    """(clips,21): mean lag curves with other clips."""
    speakers: list[str]
    names: list[str]


def compare(clips: Sequence[Spoken], found: str, true: str) -> Comparison:
    """The series `found` of each clip compared with its `true`, and with that of up to eight other clips.

    Clips in which one of the two is NaN throughout are left out. Raises StudyError if fewer than two are left.
    """
    there = [c for c in clips if all(np.isfinite(c.series[name]).sum() > MOTION_FPS for name in (found, true))]
    if len(there) < 2:
        raise StudyError(
            "too_few_clips",
            f"{found} and {true} are known for {len(there)} clips, but at least two are needed to swap them",
        )
    own = [lag_curve(clip.series[found], clip.series[true]) for clip in there]
    others = []
    for place, clip in enumerate(there):
        far = [there[(place + step) % len(there)] for step in range(1, min(STRANGERS, len(there) - 1) + 1)]
        others.append(np.mean([lag_curve(clip.series[found], other.series[true]) for other in far], axis=0))
    return Comparison(np.array(own), np.array(others), [c.speaker for c in there], [c.name for c in there])


def speech_metrics(spoken: Speaking, seed: int = 0) -> tuple[list[Metric], list[str], list[str]]:
    """Correlations, lags and controls of both instruments, the instruments' own upper bounds, and what went wrong."""
    metrics: list[Metric] = []
    plots: list[str] = []
    notes: list[str] = []
    clips = spoken.clips
    instruments = [name for name in ("landmarks", "reader") if f"film.{name}" in clips[0].series]
    speakers = [clip.speaker for clip in clips]
    for instrument in instruments:
        pairs = {"": f"film.{instrument}", "_rig": "rig"}
        for suffix, true in pairs.items():
            against = "the real video measured by the same" if not suffix else "the ground-truth jawOpen"
            text = f"rendered mouth, measured by {instrument}, against {against}"
            try:
                found = compare(clips, f"rendered.{instrument}", true)
            except StudyError as error:
                notes.append(f"NOTE: {text}: {error}")
                continue
            metrics += _agreement(f"speech.{instrument}{suffix}", text, found, seed)
            caption = f"Correlation over lag: {text}"
            curves = {"own audio": found.own.mean(0).tolist(), "another clip": found.strangers.mean(0).tolist()}
            plots.append(line_chart(caption, LAGS, curves, "frames by which the rendered mouth is late", zero=True))
        for label in ("film", "rendered"):
            there = np.array([np.isfinite(clip.series[f"{label}.{instrument}"]).mean() for clip in clips])
            if instrument == "landmarks":
                told = f"share of the frames of the {label} in which landmarks find a face"
                metrics.append(Metric(f"speech.landmarks.{label}_faces", told, mean(there, speakers, seed)))
        ceilings = {
            "": (f"ceiling: {instrument} on the real video's own frames, against jawOpen", f"film.{instrument}", "rig"),
            "_codes": (
                f"ceiling: {instrument} on the video reconstructed from its motion codes, against the real video",
                f"driven.{instrument}",
                f"film.{instrument}",
            ),
        }
        for suffix, (text, made, true) in ceilings.items():
            if any(name not in clips[0].series for name in (made, true)):
                continue
            try:
                found = compare(clips, made, true)
            except StudyError as error:
                notes.append(f"NOTE: {text}: {error}")
                continue
            metrics += _agreement(f"speech.ceiling.{instrument}{suffix}", text, found, seed, ceiling=True)
        spread_ = np.array([_spread(clip, instrument) for clip in clips])
        text = f"rendered mouth, measured by {instrument}: spread relative to that of the real video"
        metrics.append(Metric(f"speech.{instrument}.spread", text, median(spread_, speakers, seed)))
    return metrics, plots, notes


def worst_clips(spoken: Speaking) -> list[tuple[str, list[list[str]]]]:
    """(caption, head and rows) per instrument: the clips whose rendered mouth agrees least with the real video's."""
    tables = []
    for instrument in ("landmarks", "reader"):
        if f"film.{instrument}" not in spoken.clips[0].series:
            continue
        try:
            found = compare(spoken.clips, f"rendered.{instrument}", f"film.{instrument}")
        except StudyError:
            continue  # `speech_metrics` has a note about it
        rows = [["clip", "speaker", "correlation", "best lag, frames"]]
        for i in np.argsort(found.own[:, REACH])[:WORST]:
            rows.append([found.names[i], found.speakers[i], f"{found.own[i, REACH]:.3f}", str(best_lag(found.own[i]))])
        tables.append((f"Worst clips by {instrument}", rows))
    return tables


def _spread(clip: Spoken, instrument: str) -> float:
    made, true_frames = (clip.series[f"{label}.{instrument}"] for label in ("rendered", "film"))
    if not (np.isfinite(made).any() and np.isfinite(true_frames).any()):
        return float("nan")
    return float(np.nanstd(made) / max(1e-6, float(np.nanstd(true_frames))))


def _agreement(key: str, text: str, found: Comparison, seed: int, ceiling: bool = False) -> list[Metric]:
    lags = np.array([best_lag(curve) for curve in found.own], dtype=np.float64)
    here, speakers = found.own[:, REACH], found.speakers
    metrics = [
        Metric(f"{key}.correlation", f"{text}: correlation (median)", median(here, speakers, seed)),
        Metric(f"{key}.lag", f"{text}: best lag (median)", median(lags, speakers, seed), "frames"),
    ]
    if ceiling:
        return metrics
    near = (np.abs(lags) <= 1).astype(np.float64)
    strangers, best = found.strangers[:, REACH], found.own.max(1)
    return [
        *metrics,
        Metric(f"{key}.shuffled", f"{text} of other clips: correlation (mean)", mean(strangers, speakers, seed)),
        Metric(f"{key}.best", f"{text}: correlation at the best lag (median)", median(best, speakers, seed)),
        Metric(f"{key}.near", f"{text}: clips whose best lag is within a frame", mean(near, speakers, seed), "share"),
    ]
