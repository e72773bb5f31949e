"""How long clips are, as far as a plan knows without reading their files: by slots, given lengths and file sizes."""

from collections.abc import Sequence

from pipeline.common.disk_collections import REQUESTS, mapped
from pipeline.common.limits import Limits
from pipeline.manifest.clip import Clip
from pipeline.media.slot import AT_MOST
from pipeline.storage.objects import file_info
from pipeline.storage.untrusted import under_its_spelling

BYTES_PER_SECOND = {"wav": 64_000, "flac": 40_000, "mp4": 100_000, "mov": 100_000}
"""Typical size of a second of audio, by suffix; other formats are compressed. A rough estimate is enough for sorting.
"""
COMPRESSED = 16_000


def seconds_of(clip: Clip, *sizes: int) -> float:
    """Length of a clip: that of its slot, or that of its longest audio file, estimated from the size of each."""
    rates = (BYTES_PER_SECOND.get(uri.rsplit(".", 1)[-1].lower(), COMPRESSED) for uri in clip.sounds)
    estimated = clip.seconds or max(size / rate for size, rate in zip(sizes, rates, strict=True))
    if clip.slot is None:
        return estimated
    return min(estimated, float(clip.slot.seconds)) if clip.slot.on_length == AT_MOST else float(clip.slot.seconds)


def size_of(uri: str, limits: Limits) -> int:
    """Size of an input in bytes, or 0 if it cannot be accessed: the feature stage then reports why."""
    try:
        return under_its_spelling(uri, limits, lambda name: int(file_info(name)["size"] or 0))
    except Exception:  # every client library has its own exceptions
        return 0


def estimate_seconds(clips: Sequence[Clip], limits: Limits, threads: int = REQUESTS) -> list[float]:
    """Length of each clip: that of its slot, or that of its audio, estimated from the size of the file; 0 if the file
    cannot be accessed.
    """

    def sizes(clip: Clip) -> list[int]:
        known = clip.seconds or (clip.slot is not None and clip.slot.on_length != AT_MOST)
        return [0 if known else size_of(uri, limits) for uri in clip.sounds]

    # There is one request per sound of a clip without a slot, and each waits for the storage.
    return [seconds_of(clip, *found) for clip, found in mapped(sizes, clips, threads)]
