"""All checks on one delivered file: two passes over its audio and one over its frames."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from pipeline.common.errors import ClipError
from pipeline.face.detector import FaceDetector
from pipeline.measure.container import Container
from pipeline.measure.dlib_face import DlibFace
from pipeline.measure.loudness import Sound
from pipeline.measure.metric import Measured
from pipeline.measure.video_pass import Delivery, watch
from pipeline.qc.contact_sheet import ContactSheet
from pipeline.qc.face_checks import FaceChecks, Spoken, spoken
from pipeline.qc.faces import worst_of

if TYPE_CHECKING:
    from pipeline.measure.embedder import Embedder
    from pipeline.measure.syncnet import SyncNet

POINTS = 600
"""Largest number of points of a curve in the report."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found."""

    metrics: Measured
    notes: list[str]
    """What is wrong with the format and what could not be compared, in words."""
    curves: dict[str, Any]
    """`rate` per second, `mouth` (relative to its widest opening, None without a face), `speech` (0 is 60 dB below the
    loudest); `seams`, the times in seconds at which windows of motion meet;
    `emotions`, for a clip with spans, their `SpanShare`.
    """
    sheet: bytes | None
    """Contact sheet as JPEG."""
    labels: list[str]
    """Labels of the sheet's tiles."""
    tile: tuple[int, int]
    """Width and height of each tile, px."""
    by_face: list[Measured] | None = None
    """The metrics of each of several faces, of which `metrics` has the worst."""


class Judge:
    """Holds the networks. One per worker, for one thread."""

    def __init__(self, identity_model: bytes | None = None, syncnet: bytes | None = None, dlib: bool = False) -> None:
        self._detector = FaceDetector()
        self._embed = _embedder(identity_model) if identity_model else None
        self._dlib = DlibFace() if dlib else None
        self._syncnet = _loaded_syncnet(syncnet) if syncnet else None

    def inspect(self, delivery: Delivery) -> Inspection:
        """Measure everything. Raises av.FFmpegError or ClipError if the file cannot be decoded."""
        container, sound = Container(delivery), Sound(delivery)
        networks = self._detector, self._embed, self._dlib, self._syncnet
        parts = delivery.faces or (delivery,)
        checks = [FaceChecks(one, *networks) for one in parts]
        sheet = ContactSheet(parts[0], checks[0].track, checks[0].seams, checks[0].rim)
        metrics = container.metrics(watch(delivery.path, [*checks, sheet])) | sound.metrics()
        said = [spoken(one) for one in delivery.faces] or [Spoken(sound.envelope, sound.wave_16k)]
        by_face = [check.metrics(one) for check, one in zip(checks, said, strict=True)]
        metrics |= worst_of(by_face) if delivery.faces else by_face[0]
        shown = next((i for i, one in enumerate(said) if one is not None), 0)
        level = sound.envelope if (first := said[shown]) is None else first.level
        curves = _curves(checks[shown].track.mouth, level, float(delivery.fps))
        curves["seams"] = [round(number / float(delivery.fps), 3) for number in sorted(delivery.borders)]
        if parts[shown].feelings is not None:
            curves["emotions"] = checks[shown].felt.shares()
        told = container.faults + sound.notes, curves, sheet.jpeg(), sheet.labels(), sheet.sides
        return Inspection(metrics, *told, by_face if delivery.faces else None)


def _embedder(file: bytes) -> "Embedder":
    from pipeline.measure.embedder import Embedder  # it imports PyTorch, which takes seconds

    return Embedder(file)


def _loaded_syncnet(file: bytes) -> "SyncNet":
    from pipeline.measure.syncnet import load_syncnet

    return load_syncnet(file)


# --- In a child process (`pipeline.common.child`) --------------------------------------------------------------------


def check_networks(identity_model: Path | None, syncnet: Path | None) -> None:
    """Load the user's networks from files. Raises SettingError."""
    _judge(identity_model, syncnet, False)


def inspected(delivery: Delivery, identity_model: Path | None, syncnet: Path | None, dlib: bool) -> Inspection:
    """`Judge.inspect`. Raises ClipError verify_failed if the file cannot be decoded, and FileNotFoundError."""
    try:
        return _judge(identity_model, syncnet, dlib).inspect(delivery)
    except FileNotFoundError as error:  # FFmpeg's own cannot be sent to another process
        raise FileNotFoundError(error.errno, error.strerror) from None
    except (av.FFmpegError, IndexError) as error:
        raise ClipError("verify_failed", "the delivered file cannot be decoded: render the clip again") from error


@lru_cache(1)
def _judge(identity_model: Path | None, syncnet: Path | None, dlib: bool) -> Judge:
    embedding, sync = (None if file is None else file.read_bytes() for file in (identity_model, syncnet))
    return Judge(embedding, sync, dlib)


def _curves(mouth: np.ndarray, level: np.ndarray, fps: float) -> dict[str, Any]:
    """At most `POINTS` values of each curve, averaged over equally many frames; from 0 to 1."""
    frames = min(len(mouth), len(level))
    group = max(1, -(-frames // POINTS))

    def thinned(values: np.ndarray) -> list[float | None]:
        parts = [values[i : i + group] for i in range(0, frames, group)]
        means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else None for part in parts]
        return [None if mean is None else round(min(1.0, max(0.0, mean)), 3) for mean in means]

    there = mouth[:frames][np.isfinite(mouth[:frames])]
    widest = float(there.max()) if len(there) else 1.0
    loudest = float(level[:frames].max()) if frames else 0.0
    return {
        "rate": round(fps / group, 4),
        "mouth": thinned(mouth[:frames] / max(widest, 1e-6)),
        "speech": thinned(1 + (level[:frames] - loudest) / 60),
    }
