"""One video -> its shard, its thumbnails and its sidecar. Runs without Ray."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.common.child import in_child
from pipeline.common.limits import Limits
from pipeline.common.stage import Resources, Stage
from pipeline.storage.objects import put_file, remove, write_bytes
from pipeline.storage.pinned import keep_pinned
from pipeline.training_data.known import read_curves
from pipeline.training_data.one_video import check_syncnet, prepared, video_row
from pipeline.training_data.places import Places, Sidecar
from pipeline.training_data.reasons import AGAIN, FAILED, Dropped
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.source_video import local_file
from pipeline.training_data.videos import Video

logger = logging.getLogger(__name__)

VERSION = 2
"""Version of the results for the same video and settings; raised when this package changes them."""

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
    """Videos -> sidecars. Child processes hold the face detector, and SyncNet if it is given, and decode."""

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
        """Load SyncNet, if it is given. Raises SettingError for a file that does not exist or is another."""
        self._folder = tempfile.TemporaryDirectory(prefix="floatcast-")
        self._syncnet = keep_pinned("clips.syncnet", self._settings.syncnet, Path(self._folder.name))
        if self._syncnet is not None:
            in_child(check_syncnet, self._syncnet)

    def process(self, videos: Sequence[Video]) -> Iterator[Sidecar]:
        """Yield one sidecar per video, with `status` done, dropped or failed, in order. Never raises for a video."""
        for video in videos:
            yield self._one(video)

    def close(self) -> None:
        """Remove the copy of SyncNet."""
        self._folder.cleanup()

    def _one(self, video: Video) -> Sidecar:
        try:
            known = self._places.read(video.key)
            if known is not None and known["fingerprint"] == video.fingerprint:
                return known  # done by a worker that died later, with another video of its unit
            self._places.forget(video.key)
            self._places.clear(self._places.clips(video.key), self._places.tiles(video.key))
            self._places.begin(video.key, STAGE)
            try:
                sidecar = self._prepare(video)
            finally:
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
        with tempfile.TemporaryDirectory(prefix="floatcast-") as name, local_file(video.uri, self._limits) as path:
            curves = read_curves(video.curves, self._limits) if video.curves else None
            limits = self._settings, self._limits, self.resources.threads
            made = in_child(
                prepared, video, path, Path(name), *limits, curves, self._syncnet, minutes=self._video_minutes
            )
            uri = self._places.clips(video.key)
            if made.shard is None:
                remove(uri)
            else:
                put_file(made.shard, uri)
        write_bytes(made.tiles, self._places.tiles(video.key))
        sidecar = about(video) | {"status": "done", "rows": made.rows}
        self._places.write(video.key, sidecar)
        return sidecar


def about(video: Video) -> Sidecar:
    """What a sidecar says about its video."""
    return {"key": video.key, "video": video.uri, "fingerprint": video.fingerprint, "speaker": video.speaker}


def sidecar_of(video: Video, dropped: Dropped) -> Sidecar:
    """The sidecar of a video that ends without candidates: one row that says why."""
    row = video_row(video, video.key) | {"reason": dropped.code, "found": dropped.message}
    status = "failed" if dropped.code in FAILED else "dropped"
    return about(video) | {"status": status, "error_code": dropped.code, "rows": [row]}
