"""One video -> its shard, its thumbnails and its sidecar. Runs without Ray."""

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models import MOTION_FPS
from pipeline.common.limits import Limits
from pipeline.common.stage import Resources, Stage
from pipeline.common.watchdog import Watchdog
from pipeline.face.detector import FaceDetector
from pipeline.measure.syncnet import load_syncnet
from pipeline.media.contact_sheet import Tile, contact_sheet, jpeg
from pipeline.storage.objects import remove, write_bytes
from pipeline.storage.pinned import read_pinned
from pipeline.training_data.candidates import Candidate, candidates
from pipeline.training_data.cutting import components_in, cut, pose_in
from pipeline.training_data.judge import Metrics, judge, offset_reason
from pipeline.training_data.known import part_of, read_curves
from pipeline.training_data.offset import syncnet_offset
from pipeline.training_data.places import Places, Sidecar
from pipeline.training_data.reasons import AGAIN, FAILED, Dropped
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import CLIP_SCHEMA, write_shard
from pipeline.training_data.sound import Sound
from pipeline.training_data.source_video import SourceVideo, local_file
from pipeline.training_data.track import THUMBNAIL, Tracker
from pipeline.training_data.videos import Video

logger = logging.getLogger(__name__)

VERSION = 2
"""Version of the results for the same video and settings; raised when this package changes them."""

TILES_OF_EACH = 4
"""Number of thumbnails that are kept of a video's accepted candidates, and of those dropped for each reason."""

STAGE = "clips"


def plan_parts(video: Video, identity: str, settings: ClipSettings, limits: Limits, syncnet: str) -> dict[str, Any]:
    """The parts of a video's fingerprint.

    `identity` is that of the file, `syncnet` the hash of the weights, or empty.
    """
    return {
        "version": VERSION,
        "source": identity,
        **{name: getattr(video, name) for name in ("uri", "speaker", "language", "emotion", "split")},
        **settings.parts(),
        "syncnet": syncnet,
        **{
            f"limits.{name}": getattr(limits, name)
            for name in ("max_file_megabytes", "max_image_megapixels", "max_audio_minutes")
        },
    }


class PrepareStage(Stage):
    """Videos -> sidecars. A worker holds the face detector, and SyncNet if it is given."""

    name = "prepare"

    def __init__(
        self,
        places: Places,
        settings: ClipSettings,
        limits: Limits,
        video_minutes: float = 240.0,
        resources: Resources | None = None,
    ) -> None:
        self.resources = resources or Resources()
        self._places, self._settings, self._limits, self._video_minutes = places, settings, limits, video_minutes

    def setup(self) -> None:
        """Load the networks. Raises SettingError for one that does not exist."""
        torch.set_num_threads(self.resources.threads)
        self._detector = FaceDetector()
        self._watchdog = Watchdog(self._video_minutes)
        weights = read_pinned("clips.syncnet", self._settings.syncnet) if self._settings.syncnet else None
        self._syncnet = load_syncnet(weights) if weights else None

    def process(self, videos: Sequence[Video]) -> Iterator[Sidecar]:
        """Yield one sidecar per video, with `status` done, dropped or failed, in order. Never raises for a video."""
        for video in videos:
            yield self._one(video)

    def close(self) -> None:
        """Stop the watchdog."""
        self._watchdog.close()

    def _one(self, video: Video) -> Sidecar:
        try:
            known = self._places.read(video.key)
            if known is not None and known["fingerprint"] == video.fingerprint:
                return known  # done by a worker that died later, with another video of its unit
            self._places.forget(video.key)
            self._places.clear(self._places.clips(video.key), self._places.tiles(video.key))
            self._places.begin(video.key, STAGE)
            self._watchdog.begin(video.key)
            try:
                sidecar = self._prepare(video)
            finally:
                self._watchdog.end(video.key)
                self._places.end(video.key, STAGE)
        except Exception as error:
            dropped = Dropped.of(error)
            if dropped.code == "internal_error":
                logger.error("video %s", video.uri, exc_info=error)
            sidecar = self._dropped(video, dropped)
        return sidecar

    def _dropped(self, video: Video, dropped: Dropped) -> Sidecar:
        """The sidecar of a video without any candidate."""
        sidecar = sidecar_of(video, dropped)
        try:
            self._places.end(video.key, STAGE)
            for uri in (self._places.clips(video.key), self._places.tiles(video.key)):
                remove(uri)
            if dropped.code not in AGAIN:
                self._places.write(video.key, sidecar)
        except Exception as error:  # every storage client has its own exceptions; the video is then tried again
            logger.error("could not record video %s", video.uri, exc_info=error)
        return sidecar

    def _prepare(self, video: Video) -> Sidecar:
        with tempfile.TemporaryDirectory(prefix="floatcast-") as name:
            folder = Path(name)
            curves = read_curves(video.curves, self._limits) if video.curves else None
            with local_file(video.uri, self._limits) as path:
                source = SourceVideo(path, self._limits)
                sound = source.sound(video.language)
                tracker = Tracker(self._detector, self._settings.other_face)
                found = list(candidates(source.pictures(), sound, tracker, self._settings))
                judged = [judge(candidate, sound, self._settings) for candidate in found]
                noticed = "; ".join(note.message for note in sound.notes)
                rows = [
                    candidate_row(video, candidate, code, text or noticed, metrics) | {"size": self._settings.size}
                    for candidate, (code, text, metrics) in zip(found, judged, strict=True)
                ]
                tiles: list[bytes | None] = [candidate.thumbnail for candidate in found]
                chosen = [index for index, row in enumerate(rows) if not row["reason"]]
                uri = self._places.clips(video.key)
                samples = self._samples(source, sound, chosen, found, rows, tiles)
                if curves is not None:
                    samples = _with_curves(samples, curves, video.curves or "")
                if not chosen or not write_shard(samples, uri, CLIP_SCHEMA, folder):
                    remove(uri)
            write_bytes(_strip(rows, tiles), self._places.tiles(video.key))
            sidecar = about(video) | {"status": "done", "rows": rows}
            self._places.write(video.key, sidecar)
            return sidecar

    def _samples(
        self,
        source: SourceVideo,
        sound: Sound,
        chosen: Sequence[int],
        found: Sequence[Candidate],
        rows: Sequence[Metrics],
        tiles: list[bytes | None],
    ) -> Iterator[dict[str, Any]]:
        """Rows of CLIP_SCHEMA, one in memory at a time; completes `rows` and `tiles`."""
        wanted = [(found[index], tuple(rows[index]["crop_box"])) for index in chosen]
        made = cut(source, wanted, self._settings, self._syncnet)
        for index, (candidate, box), piece in zip(chosen, wanted, made, strict=True):
            row = rows[index]
            wave = sound.part(candidate.first, candidate.last)
            if self._syncnet is not None and self._settings.max_av_offset_ms:
                offset, confidence = syncnet_offset(self._syncnet, piece.faces, wave)
                least = self._settings.min_syncnet_confidence
                code, text = offset_reason("syncnet", offset, confidence, least, row, self._settings)
                if code:
                    row |= {"status": "dropped", "reason": code, "found": text}
                    continue
            assert candidate.faces is not None
            tiles[index] = piece.thumbnail
            row["bytes"] = len(piece.video)
            yield row | {
                "pose": pose_in(candidate.faces, box),
                "components": components_in(candidate.faces, box),
                "video": piece.video,
                "wave": wave,
            }


def about(video: Video) -> Sidecar:
    """What a sidecar says about its video."""
    return {"key": video.key, "video": video.uri, "fingerprint": video.fingerprint, "speaker": video.speaker}


def sidecar_of(video: Video, dropped: Dropped) -> Sidecar:
    """The sidecar of a video that ends without candidates: one row that says why."""
    row = _row(video, video.key) | {"reason": dropped.code, "found": dropped.message}
    status = "failed" if dropped.code in FAILED else "dropped"
    return about(video) | {"status": status, "error_code": dropped.code, "rows": [row]}


def candidate_row(video: Video, candidate: Candidate, code: str, found: str, metrics: Metrics) -> dict[str, Any]:
    """The light columns of a candidate."""
    return _row(video, f"{video.key}-{candidate.first:06d}") | {
        "status": "dropped" if code else "accepted",
        "reason": code,
        "found": found,
        "start": candidate.first / MOTION_FPS,
        "end": candidate.last / MOTION_FPS,
        "fps": float(MOTION_FPS),
        "frames": candidate.frames,
        **metrics,
    }


def _row(video: Video, clip_id: str) -> dict[str, Any]:
    return {
        "clip_id": clip_id,
        "key": video.key,
        "status": "dropped",
        "split": video.split,
        "speaker": video.speaker,
        "language": video.language,
        "emotion": video.emotion,
        "source": video.uri,
    }


def _with_curves(samples: Iterator[dict[str, Any]], curves: np.ndarray, uri: str) -> Iterator[dict[str, Any]]:
    for row in samples:
        first = round(row["start"] * MOTION_FPS)
        yield row | {"curves": part_of(curves, first, first + row["frames"], uri)}


def _strip(rows: Sequence[dict[str, Any]], tiles: Sequence[bytes | None]) -> bytes:
    """JPEG of a few tiles side by side; a row's `tile` is its position in it, from 0."""
    shown: dict[str, int] = {}
    pictures: list[Tile] = []
    for row, tile in zip(rows, tiles, strict=True):
        if tile is not None and shown.get(row["reason"], 0) < TILES_OF_EACH:
            shown[row["reason"]] = shown.get(row["reason"], 0) + 1
            row["tile"] = len(pictures)
            pictures.append(Tile(np.asarray(Image.open(io.BytesIO(tile)))))
    return jpeg(contact_sheet([pictures], side=THUMBNAIL))
