"""One pair: the generated video compared with the reference, synchronised by time."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.evaluation.files import opened
from pipeline.evaluation.landmarks import best_lag, landmark_distance
from pipeline.evaluation.networks import DLIB_SECONDS
from pipeline.evaluation.pixel_metrics import WINDOW, luma, psnr, squared_error, ssim
from pipeline.evaluation.watch import frames_of
from pipeline.measure.lip_correlation import LEAST_SECONDS
from pipeline.measure.video_pass import Frame

OF_FACES = ("lmd", "m_lmd", "mouth_correlation", "mouth_lag_ms", "csim", "dlib_distance")
"""Metrics of a pair that need a face in both videos."""

Stored = Callable[[str], AbstractContextManager[np.ndarray]]
"""Kind -> features of a video."""


def compare(
    generated: Path,
    reference: Path,
    ours: Stored,
    theirs: Stored,
    fps: float,
    embedded: Collection[str],
    limits: Limits,
) -> tuple[dict[str, Any], list[str]]:
    """Metrics of a pair, and the reasons for those that are empty; memory does not grow with the number of frames.

    `ours` and `theirs` are the features of both videos, and `fps` is the generated one's; `embedded` says which of the
    features identity and dlib both have. Raises ClipError video_unreadable.
    """
    notes: list[str] = []
    with ours("times") as one, theirs("times") as other:
        partner = in_step(np.array(one), np.array(other))
        if len(partner) < len(one):
            notes.append(f"the reference ends sooner: only {len(partner)} of {len(one)} frames are compared")
        left = len(other) - 1 - int(partner[-1])
        if left > 1:
            notes.append(f"the generated video ends sooner: {left} frames of the reference are not compared")
    metrics: dict[str, Any] = {"frames_compared": len(partner)}
    metrics |= _pictures([generated, reference], partner, limits, notes)
    metrics |= dict.fromkeys(OF_FACES)
    if unseen := [name for name, video in (("generated", ours), ("reference", theirs)) if not _shows_a_face(video)]:
        reason = f"face_not_found: no frame of the {' and of the '.join(unseen)} video shows a face"
        notes += [f"{column}: {reason}" for column in OF_FACES]
        return metrics, notes
    metrics |= _faces(ours, theirs, partner, fps, notes)
    if "identity" in embedded:
        metrics["csim"] = _similarity(ours, theirs, partner, notes)
    if "dlib" in embedded:
        metrics["dlib_distance"] = face_distance(ours, theirs, partner, notes)
    return metrics, notes


def _shows_a_face(video: Stored) -> bool:
    with video("landmarks") as landmarks:
        return bool(np.isfinite(landmarks[:, 0, 0]).any())


def compared(
    generated: Path,
    reference: Path,
    ours: dict[str, str],
    theirs: dict[str, str],
    fps: float,
    embedded: Collection[str],
    limits: Limits,
) -> tuple[dict[str, Any], list[str]]:
    """`compare` for a child process, with the `files.local_features` of both videos."""
    return compare(generated, reference, partial(opened, ours), partial(opened, theirs), fps, embedded, limits)


def _pictures(paths: list[Path], partner: np.ndarray, limits: Limits, notes: list[str]) -> dict[str, Any]:
    errors: list[float] = []
    similar: list[float] = []
    numbers = [np.arange(len(partner)), partner]
    for number, (one, other) in enumerate(in_step_frames(paths, numbers, limits)):
        size = (one.av_frame.width, one.av_frame.height)
        if number == 0 and size != (theirs := (other.av_frame.width, other.av_frame.height)):
            notes.append(f"psnr, ssim: the reference was resized from {theirs[0]}x{theirs[1]} to {size[0]}x{size[1]}")
        a, b = luma(one), luma(other, size)
        errors.append(squared_error(a, b))
        if min(a.shape) >= WINDOW:
            similar.append(ssim(a, b))
    error = float(np.mean(errors))
    if not error:
        notes.append("psnr: all frames are identical, so it is infinite")
    if not similar:
        notes.append(f"ssim: the frames are smaller than its window of {WINDOW} px")
    return {"psnr": psnr(error) if error else None, "ssim": float(np.mean(similar)) if similar else None}


def in_step(generated: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Increasing times of both videos' frames in seconds -> for each generated frame the number of the reference frame.

    Both videos start at their first frame, and the nearest frame in time is taken. The result ends with the shorter
    video: a generated frame more than half a frame after the reference's last one has no partner.
    """
    if not len(generated) or not len(reference):
        return np.zeros(0, np.int64)
    ours, theirs = generated - generated[0], reference - reference[0]
    interval = (theirs[-1] / (len(theirs) - 1)) if len(theirs) > 1 else 0.0
    kept = ours[ours <= theirs[-1] + interval / 2 + 1e-6]
    if len(theirs) == 1:
        return np.zeros(len(kept), np.int64)
    after = np.searchsorted(theirs, kept).clip(1, len(theirs) - 1)
    nearer = kept - theirs[after - 1] <= theirs[after] - kept
    return np.where(nearer, after - 1, after)


def in_step_frames(paths: list[Path], numbers: list[np.ndarray], limits: Limits) -> Iterator[list[Frame]]:
    """Frames of several videos at once: from video k the frames `numbers[k]`, which do not decrease and are equally
    many.
    """
    with ExitStack() as stack:
        videos = []
        for path in paths:
            video = frames_of(path, limits)
            stack.callback(video.close)  # type: ignore[attr-defined]
            videos.append(video)
        now: list[Frame | None] = [None] * len(videos)
        for wanted in zip(*numbers, strict=True):
            for k, number in enumerate(wanted):
                while (frame := now[k]) is None or frame.number < number:
                    now[k] = next(videos[k], None)
                    if now[k] is None:
                        raise ClipError("video_unreadable", f"{paths[k].name} ended before frame {number}")
            yield [frame for frame in now if frame is not None]


def _faces(ours: Stored, theirs: Stored, partner: np.ndarray, fps: float, notes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("lmd", "m_lmd", "mouth_correlation", "mouth_lag_ms"))
    frames = len(partner)
    with ours("landmarks") as one, theirs("landmarks") as other:
        pairs = ((one[i], other[partner[i]]) for i in range(frames))
        distances = [landmark_distance(a, b) for a, b in pairs if np.isfinite(a[0, 0]) and np.isfinite(b[0, 0])]
    if distances:
        found["lmd"], found["m_lmd"] = np.mean(distances, axis=0).tolist()
    else:
        notes += [f"{column}: no frame has a face in both videos" for column in ("lmd", "m_lmd")]
    if len(distances) < frames:
        notes.append(f"{len(distances)} of {frames} frames have a face in both videos")
    reason = ""
    if len(distances) < LEAST_SECONDS * fps:
        reason = f"both videos show a face for less than {LEAST_SECONDS:g} s"
    else:
        with ours("mouth") as one, theirs("mouth") as other:
            best = best_lag(np.array(one[:frames]), np.array(other)[partner], fps)
        if best is None:
            reason = "one of the mouths never moves"
        else:
            found["mouth_correlation"], found["mouth_lag_ms"] = best
    if reason:
        notes += [f"{column}: {reason}" for column in ("mouth_correlation", "mouth_lag_ms")]
    return found


def _similarity(ours: Stored, theirs: Stored, partner: np.ndarray, notes: list[str]) -> float | None:
    """Mean cosine similarity of the embeddings in frames where both have a face.

    Embeddings exist only for such frames.
    """
    with ours("landmarks") as a, theirs("landmarks") as b:
        there, others = np.isfinite(a[:, 0, 0]), np.isfinite(b[:, 0, 0])
    rows, other_rows = np.cumsum(there) - 1, np.cumsum(others) - 1
    both = np.flatnonzero(there[: len(partner)] & others[partner])
    if not len(both):
        notes.append("csim: no frame has a face in both videos")
        return None
    with ours("identity") as one, theirs("identity") as other:
        cosines = [float(one[rows[i]] @ other[other_rows[partner[i]]]) for i in both]
    return float(np.mean(cosines))


def face_distance(ours: Stored, theirs: Stored, partner: np.ndarray, notes: list[str]) -> float | None:
    """Mean distance of dlib's embeddings, or None and a note.

    Each of the generated video's is compared with the reference's nearest in time, if that is at most half of the
    interval between two of them away.
    """
    with ours("dlib") as one, theirs("dlib") as other, theirs("times") as times:
        mine = np.flatnonzero(np.isfinite(one[: len(partner), 0]))
        known = np.flatnonzero(np.isfinite(other[:, 0]))
        distances = []
        for i in mine if len(known) else ():
            away = np.abs(times[known] - times[partner[i]])
            if away.min() <= DLIB_SECONDS / 2:
                distances.append(float(np.linalg.norm(one[i] - other[known[away.argmin()]])))
    if not distances:
        notes.append("dlib_distance: no frame that it looks at has a face in both videos")
        return None
    return float(np.mean(distances))
