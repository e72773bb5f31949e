"""What is to be prepared: splits by speaker, fingerprints, and a comparison with what is done."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pipeline.common.disk_collections import mapped
from pipeline.common.limits import Limits
from pipeline.run.fingerprint import fingerprint, identify
from pipeline.storage.objects import join, read_bytes, write_bytes
from pipeline.training_data.places import Places
from pipeline.training_data.settings import ClipSettings, SplitSettings
from pipeline.training_data.splits import assign
from pipeline.training_data.stage import plan_parts
from pipeline.training_data.videos import Video

SPLITS = "splits.json"


@dataclass(frozen=True)
class Plan:
    """All videos of the source, in its order, with splits and fingerprints."""

    videos: list[Video]
    todo: list[Video]
    """Not done, or done with another fingerprint."""
    changed: int
    """Of those in `todo` that are done with another one."""

    def describe(self) -> str:
        """One line for a person."""
        new, before = len(self.todo) - self.changed, len(self.videos) - len(self.todo)
        megabytes = sum(video.size for video in self.todo) / 1e6
        return f"plan: {new} new, {self.changed} changed, {before} done before; to prepare: {megabytes:.1f} MB of video"


def speaker_splits(places: Places, speakers: Sequence[str], settings: SplitSettings) -> dict[str, str]:
    """Split of each speaker; kept in splits.json, and drawn anew where these settings differ from those in it."""
    uri = join(places.output, SPLITS)
    before = json.loads(read_bytes(uri) or b"{}")
    known = before.get("speakers", {}) if before.get("settings") == asdict(settings) else {}
    found = assign(speakers, settings, known)
    after = {"settings": asdict(settings), "speakers": dict(sorted(found.items()))}
    if after != before:
        write_bytes(json.dumps(after, indent=1, ensure_ascii=False).encode(), uri)
    return found


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
    """Compare the videos with what is done; asks for each file's identity, which reads local files to their end."""
    done = {sidecar["key"]: (sidecar["fingerprint"], sidecar.get("error_code")) for sidecar in places.each()}
    planned, todo, changed = [], [], 0
    for video, source in mapped(lambda video: identify(video.uri, limits), videos):
        split = splits[video.speaker]
        placed = video.planned(split=split, size=source.size or video.size, fingerprint="")
        parts = plan_parts(placed, source.identity, settings, limits, syncnet)
        if video.curves:  # left out where there are none, so that fingerprints of before stay
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
