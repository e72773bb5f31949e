"""One video: a single pass over its frames and one over its audio, for metrics and features.

Features are written to files as they are computed (`files.RowFile`), so that memory does not grow with the video. Face
curves, and up to a minute of SyncNet's images, stay in memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import SAMPLE_RATE
from models.pixels import to_tensor
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.evaluation.files import RowFile
from pipeline.evaluation.networks import DLIB_SECONDS, Network, Networks, aligned, dlib_row, upright, whole
from pipeline.face.detector import FaceDetector
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.head_motion import Motion
from pipeline.measure.lip_correlation import PAUSE_SECONDS, Speech
from pipeline.measure.lip_sync import LipSync
from pipeline.measure.loudness import levels, measure
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.media.video_reader import HDR, MOST_FRAMES_PER_SECOND, Problem, VideoError, VideoFile, open_video
from pipeline.media.voice_activity import pauses

KINDS = ("times", "landmarks", "mouth", "poses", "inception", "i3d", "identity", "dlib", "expression", "pose_model")
"""Features of a video: times (T,) s; landmarks (T,468,2) px, NaN without a face; mouth (T,), NaN without a face; poses
(F,3) degrees, as all that follow but i3d's (N,400) one row for each of the F frames with a face; inception (T,2048);
dlib (T,128), NaN but for a frame every `DLIB_SECONDS`, and without a face."""

CODES: dict[Problem, str] = {
    "unreadable": "video_unreadable",
    "cut_short": "video_unreadable",
    "too_many_pixels": "image_too_large",
    "too_long": "video_too_long",
}

CLIP = 16
"""Number of frames that I3D gets at a time."""
BATCH = 16
"""Number of images that a network gets at a time."""


@dataclass(frozen=True)
class Seen:
    """What was measured in one video."""

    metrics: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """`column: reason` for each metric that is empty, and what a reader must know."""
    features: dict[str, Path] = field(default_factory=dict)
    """Kind -> .npy file."""


@dataclass(frozen=True)
class Probe:
    """What the header declares."""

    fps: Fraction
    width: int
    height: int
    zero: Fraction
    """Time stamp at which the file begins, as for its audio, s."""


def probe(path: Path, limits: Limits) -> Probe:
    """Open a video. Raises ClipError video_unreadable, video_too_long and image_too_large."""
    with _as_clip_errors(), open_video(path, limits) as film:
        return _probed(film)


def _probed(film: VideoFile) -> Probe:
    stream = film.stream
    fps = stream.average_rate or stream.guessed_rate
    if not fps or not stream.width or not stream.height:
        raise ClipError("video_unreadable", "the file declares neither size nor frame rate: export it again")
    if not 1 <= fps <= MOST_FRAMES_PER_SECOND:
        raise ClipError(
            "video_unreadable",
            f"the file declares {float(fps):,.2f} frames per second, but videos have 1 to {MOST_FRAMES_PER_SECOND}: "
            "export it again",
        )
    return Probe(Fraction(fps), stream.width, stream.height, film.zero)


def frames_of(path: Path, limits: Limits) -> Iterator[Frame]:
    """Yield all frames of a video. Raises ClipError as `probe` does."""
    with _as_clip_errors(), open_video(path, limits) as film:
        for number, (_, frame) in enumerate(film.frames()):
            if frame.rotation:
                raise ClipError("video_unreadable", "its frames are stored rotated: export it upright")
            yield Frame(number, frame)


@contextmanager
def _as_clip_errors() -> Iterator[None]:
    try:
        yield
    except VideoError as error:
        raise ClipError(CODES[error.problem], str(error)) from error


class Watcher:
    """Measures videos. Holds the networks; one per worker, for one thread."""

    def __init__(self, networks: Networks, limits: Limits) -> None:
        self._networks, self._limits = networks, limits
        self._detector = FaceDetector()

    def watch(self, path: Path, folder: Path) -> Seen:
        """Measure one video; feature files are written to `folder`.

        Without a face in it, what needs one is empty. Raises ClipError: video_unreadable, video_too_long,
        image_too_large.
        """
        header = probe(path, self._limits)
        delivery = Delivery(path=path, fps=header.fps, frames=0, size=header.height)
        files = {kind: RowFile(folder, kind) for kind in KINDS}
        track = FaceTrack(delivery, self._detector)
        lips = LipSync(delivery, self._networks.syncnet, track) if self._networks.syncnet else None
        features = _Features(self._networks, files, float(header.fps))
        times: list[float | None] = []
        hdr = False
        for frame in frames_of(path, self._limits):
            times.append(frame.av_frame.time)
            hdr = hdr or frame.av_frame.color_trc in HDR
            track.frame(frame)
            if lips is not None:
                lips.frame(frame)
            features.frame(frame, track)
        features.close()
        poses = track.poses[np.isfinite(track.poses[:, 0])]
        faceless = "" if len(poses) else f"face_not_found: none of its {len(times)} frames shows a face"
        notes = ["its colours are HDR, but were measured as if they were not: convert it to BT.709"] if hdr else []
        files["times"].add(_times(times, header.fps, notes))
        files["mouth"].add(track.mouth)
        files["poses"].add(poses)
        metrics = {
            "frames": len(times),
            "fps": float(header.fps),
            "duration": len(times) / float(header.fps),
            "width": header.width,
            "height": header.height,
            "face_share": track.metrics()["qc_face_share"],
            "motion_range_deg": Motion(delivery, self._detector).metrics(track.poses)["qc_motion_range_deg"],
        }
        if metrics["motion_range_deg"] is None:
            notes.append(f"motion_range_deg: {faceless or 'a face is visible for less than a second'}")
        before = max(0.0, (times[0] or 0.0) - float(header.zero))
        metrics |= self._sound(path, before, header.fps, track, lips, notes, faceless)
        saved = {kind: file.save() for kind, file in files.items()}
        return Seen(metrics, notes, {kind: place for kind, place in saved.items() if place is not None})

    def _sound(
        self,
        path: Path,
        before: float,
        fps: Fraction,
        track: FaceTrack,
        lips: LipSync | None,
        notes: list[str],
        faceless: str,
    ) -> dict[str, Any]:
        """Metrics that also need the audio, whose first `before` seconds come before the first frame, and a face.

        `faceless` says that there is none.
        """
        found: dict[str, Any] = dict.fromkeys(("pause_motion", "lse_d", "lse_c", "lse_offset"))
        silent = ["pause_motion", *(["lse_d", "lse_c", "lse_offset"] if lips is not None else [])]
        if faceless:
            notes += [f"{column}: {faceless}" for column in silent]
            return found
        try:
            wave = measure(path, max_seconds=self._limits.max_audio_minutes * 60).wave[round(before * SAMPLE_RATE) :]
        except ClipError as error:
            notes += [f"{column}: no audio: {error.message}" for column in silent]
            return found
        delivery = Delivery(path=path, fps=fps, frames=len(track.mouth), size=0)
        level = levels(wave, float(fps), delivery.frames)
        found["pause_motion"] = Speech(delivery).metrics(track.mouth, level, pauses(wave))["qc_pause_motion"]
        if found["pause_motion"] is None:
            notes.append(f"pause_motion: there is no pause of {PAUSE_SECONDS:g} s with a face")
        if lips is not None:
            found |= {column.removeprefix("qc_"): value for column, value in lips.metrics(wave).items()}
            if found["lse_d"] is None:
                notes += [
                    f"{column}: face and audio are present together for less than a second" for column in silent[1:]
                ]
        return found


# --- In a child process (`pipeline.common.child`) --------------------------------------------------------------------

NetworkFiles = tuple[tuple[str, str], ...]
"""(key of a network, local path of its file)."""


@lru_cache(1)
def _networks(files: NetworkFiles, dlib: bool) -> Networks:
    return Networks(dict(files), dlib)


def check_networks(files: NetworkFiles, dlib: bool) -> None:
    """Load the networks. Raises SettingError, and RefusedError if dlib is not installed."""
    _networks(files, dlib)


def watched(path: Path, folder: Path, files: NetworkFiles, dlib: bool, limits: Limits, threads: int) -> Seen:
    """`Watcher.watch` with these networks."""
    torch.set_num_threads(threads)
    return Watcher(_networks(files, dlib), limits).watch(path, folder)


def _times(times: list[float | None], fps: Fraction, notes: list[str]) -> np.ndarray:
    """Times in seconds, by the frame rate if the file's own times are unusable."""
    known = np.array([np.nan if time is None else time for time in times])
    if np.isfinite(known).all() and (np.diff(known) > 0).all():
        return known
    notes.append("the timestamps of the frames do not increase, so the frames are taken as evenly spaced")
    return np.arange(len(times)) / float(fps)


class _Features:
    """Features of all frames, in batches."""

    def __init__(self, networks: Networks, files: dict[str, RowFile], fps: float) -> None:
        self._embed, self._dlib, self._files = networks.embed, networks.dlib, files
        self._every = max(1, round(DLIB_SECONDS * fps))
        self._batches = {key: _Batches(network, files[key]) for key, network in networks.exported.items()}
        self._clip: list[Tensor] = []

    def frame(self, frame: Frame, track: FaceTrack) -> None:
        """Take the next frame, after `track` has taken it."""
        face = track.face
        landmarks = np.full((1, 468, 2), np.nan, np.float32) if face is None else face.landmarks[None, :, :2]
        self._files["landmarks"].add(landmarks)
        if self._dlib is not None:
            looked_at = face if frame.number % self._every == 0 else None
            self._files["dlib"].add(dlib_row(self._dlib, frame.rgb, looked_at))
        if not self._batches and self._embed is None:
            return
        picture = to_tensor(frame.rgb)
        self._add("inception", lambda side: whole(picture, side))
        if "i3d" in self._batches:
            self._clip.append(whole(picture, self._batches["i3d"].side))
            if len(self._clip) == CLIP:
                clip = torch.stack(self._clip, dim=2)
                self._clip.clear()
                self._batches["i3d"].add(clip)
        if face is None:
            return
        self._add("expression", lambda side: aligned(picture, face, side))
        self._add("pose_model", lambda side: upright(picture, face, side))
        if self._embed is not None:
            self._files["identity"].add(self._embed(frame.rgb, face.landmarks)[None])

    def _add(self, key: str, see: Callable[[int], Tensor]) -> None:
        if key in self._batches:
            self._batches[key].add(see(self._batches[key].side))

    def close(self) -> None:
        """Finish after the last frame; frames that do not fill a clip for I3D are left out."""
        for batches in self._batches.values():
            batches.flush()


class _Batches:
    """Collects inputs of one network until there are enough of them."""

    def __init__(self, network: Network, file: RowFile) -> None:
        self._network, self._file = network, file
        self.side = network.shape[-1]
        self._size = 1 if network.key == "i3d" else BATCH
        self._waiting: list[Tensor] = []

    def add(self, one: Tensor) -> None:
        """Add an input (1,...)."""
        self._waiting.append(one)
        if len(self._waiting) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Run the network on what waits."""
        if self._waiting:
            rows = self._network(torch.cat(self._waiting))
            self._waiting.clear()
            if not np.isfinite(rows).all():
                raise ValueError(
                    f"the network of {self._network.key} returns values that are not finite for this video"
                )
            self._file.add(rows)
