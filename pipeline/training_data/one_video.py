"""What is made of one video: rows of its candidates, a shard of the accepted ones, and thumbnails, in a local folder.

Runs in a child process (`pipeline.common.child`), because it decodes, and does not use the storage.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models import MOTION_FPS
from pipeline.common.limits import Limits
from pipeline.face.detector import FaceDetector
from pipeline.measure.syncnet import SyncNet, load_syncnet
from pipeline.media.contact_sheet import Tile, contact_sheet, jpeg
from pipeline.training_data.candidates import Candidate, candidates
from pipeline.training_data.cutting import components_in, cut, pose_in
from pipeline.training_data.judge import Metrics, judge, offset_reason
from pipeline.training_data.known import part_of
from pipeline.training_data.offset import syncnet_offset
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import CLIP_SCHEMA, write_local
from pipeline.training_data.sound import Sound
from pipeline.training_data.source_video import SourceVideo
from pipeline.training_data.track import THUMBNAIL, Tracker
from pipeline.training_data.videos import Video

TILES_OF_EACH = 4
"""Number of thumbnails that are kept of a video's accepted candidates, and of those dropped for each reason."""


@dataclass(frozen=True)
class Prepared:
    """The result for one video."""

    rows: list[dict[str, Any]]
    """The light columns of each candidate."""
    tiles: bytes
    """JPEG of some thumbnails side by side."""
    shard: Path | None
    """The samples; None if no candidate was accepted."""


def check_syncnet(weights: Path) -> None:
    """Load SyncNet. Raises SettingError."""
    _syncnet(weights)


@lru_cache(1)
def _syncnet(weights: Path) -> SyncNet:
    return load_syncnet(weights.read_bytes())


def prepared(
    video: Video,
    path: Path,
    folder: Path,
    settings: ClipSettings,
    limits: Limits,
    threads: int,
    curves: np.ndarray | None = None,
    syncnet: Path | None = None,
) -> Prepared:
    """Decode the local file `path` of a video, and write its samples into `folder`. Raises Dropped.

    `curves` are the known values of its frames, (T,K) float32, and `syncnet` is the local file of its weights.
    """
    torch.set_num_threads(threads)
    return _OneVideo(video, settings, None if syncnet is None else _syncnet(syncnet)).prepared(
        SourceVideo(path, limits), curves, folder
    )


_detector = cache(FaceDetector)


@dataclass(frozen=True)
class _OneVideo:
    video: Video
    settings: ClipSettings
    syncnet: SyncNet | None

    def prepared(self, source: SourceVideo, curves: np.ndarray | None, folder: Path) -> Prepared:
        video = self.video
        sound = source.sound(video.language)
        tracker = Tracker(_detector(), self.settings.other_face)
        found = list(candidates(source.pictures(), sound, tracker, self.settings))
        judged = [judge(candidate, sound, self.settings) for candidate in found]
        noticed = "; ".join(note.message for note in sound.notes)
        rows = [
            candidate_row(video, candidate, code, text or noticed, metrics) | {"size": self.settings.size}
            for candidate, (code, text, metrics) in zip(found, judged, strict=True)
        ]
        tiles: list[bytes | None] = [candidate.thumbnail for candidate in found]
        chosen = [index for index, row in enumerate(rows) if not row["reason"]]
        samples = self._samples(source, sound, chosen, found, rows, tiles)
        if curves is not None:
            samples = _with_curves(samples, curves, video.curves or "")
        shard = folder / "shard.parquet"
        written = write_local(samples, shard, CLIP_SCHEMA) if chosen else 0
        return Prepared(rows, _strip(rows, tiles), shard if written else None)

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
        made = cut(source, wanted, self.settings, self.syncnet)
        for index, (candidate, box), piece in zip(chosen, wanted, made, strict=True):
            row = rows[index]
            wave = sound.part(candidate.first, candidate.last)
            if self.syncnet is not None and self.settings.max_av_offset_ms:
                offset, confidence = syncnet_offset(self.syncnet, piece.faces, wave)
                least = self.settings.min_syncnet_confidence
                code, text = offset_reason("syncnet", offset, confidence, least, row, self.settings)
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


def candidate_row(video: Video, candidate: Candidate, code: str, found: str, metrics: Metrics) -> dict[str, Any]:
    """The light columns of a candidate."""
    return video_row(video, f"{video.key}-{candidate.first:06d}") | {
        "status": "dropped" if code else "accepted",
        "reason": code,
        "found": found,
        "start": candidate.first / MOTION_FPS,
        "end": candidate.last / MOTION_FPS,
        "fps": float(MOTION_FPS),
        "frames": candidate.frames,
        **metrics,
    }


def video_row(video: Video, clip_id: str) -> dict[str, Any]:
    """The columns that every row of a video has."""
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
