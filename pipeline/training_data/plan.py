"""What must be prepared: fingerprints, and a comparison with what is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.common.disk_collections import mapped
from pipeline.common.limits import Limits
from pipeline.run.fingerprint import fingerprint, identify
from pipeline.storage.uris import join
from pipeline.training_data.damaged import accepted, clear_files, damaged_shards
from pipeline.training_data.places import Places
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import CLIPS
from pipeline.training_data.stage import plan_parts
from pipeline.training_data.videos import Video


@dataclass(frozen=True)
class Plan:
    """All videos of the source in its order, with splits and fingerprints."""

    videos: list[Video]
    todo: list[Video]
    """Videos that are not done, or done with another fingerprint."""
    changed: int
    """Number of videos in `todo` that are done with another fingerprint."""

    def describe(self) -> str:
        """One line for the user."""
        new, before = len(self.todo) - self.changed, len(self.videos) - len(self.todo)
        megabytes = sum(video.size for video in self.todo) / 1e6
        return f"plan: {new} new, {self.changed} changed, {before} done before; to prepare: {megabytes:.1f} MB of video"


def make_plan(
    videos: Sequence[Video],
    places: Places,
    settings: ClipSettings,
    limits: Limits,
    splits: dict[str, str],
    *,
    syncnet: str = "",
    retry_died: bool = False,
    on_video: Callable[[], object] = lambda: None,
) -> Plan:
    """Compare the videos with what is done.

    This asks for the identity of each file, and reads local files completely. A video whose samples are damaged is not
    done.
    """
    clear_files(places.output)
    done = {sidecar["key"]: (sidecar["fingerprint"], sidecar.get("error_code")) for sidecar in places.each()}
    samples = ((sidecar["key"], count) for sidecar in places.each() if (count := accepted(sidecar)))
    for key in damaged_shards(join(places.output, CLIPS), samples):
        places.forget(key)  # a worker would find the sidecar and take the video for done
        del done[key]
    planned, todo, changed = [], [], 0
    for video, source in mapped(lambda video: identify(video.uri, limits), videos):
        split = splits[video.speaker]
        placed = video.planned(split=split, size=source.size or video.size, fingerprint="")
        parts = plan_parts(placed, source.identity, settings, limits, syncnet)
        if video.curves:  # left out if there are none, so that earlier fingerprints stay valid
            parts["curves"] = identify(video.curves, limits).identity
        mark = fingerprint(parts)
        placed = placed.planned(split=split, size=placed.size, fingerprint=mark)
        planned.append(placed)
        before, error = done.get(video.key, (None, None))
        if before != mark or (retry_died and error == "worker_died"):
            todo.append(placed)
            changed += before is not None and before != mark
        on_video()
    return Plan(planned, todo, changed)
