"""The plan: which clips go together into a work unit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ClipError
from pipeline.manifest import Clip
from pipeline.settings import Limits
from pipeline.status import StatusRow, error_row
from pipeline.storage import check_allowed, filesystem

BYTES_PER_SECOND = {"wav": 64_000, "flac": 40_000, "mp4": 100_000, "mov": 100_000}
"""Usual size of a second of sound, by suffix; other formats are compressed. A rough figure is enough to sort by."""
COMPRESSED = 16_000


@dataclass(frozen=True)
class Unit:
    """What one worker takes at a time: clips, their features, or their status rows."""

    items: list[Any]


def estimate_seconds(clips: Sequence[Clip], limits: Limits, threads: int = 32) -> list[float]:
    """Length of each clip's audio, guessed from the size of its file; 0 where the file cannot be seen."""
    with ThreadPoolExecutor(threads) as pool:  # one request a clip, and each waits for the storage
        return list(pool.map(lambda clip: _estimate(clip.audio, limits), clips))


def _estimate(uri: str, limits: Limits) -> float:
    try:
        check_allowed(uri, limits.allowed_schemes)
        fs, path = filesystem(uri)
        size = fs.size(path) or 0
    except Exception:  # every client library has exceptions of its own
        return 0.0  # whatever is wrong with it, the feature stage will say so with a code
    return size / BYTES_PER_SECOND.get(uri.rsplit(".", 1)[-1].lower(), COMPRESSED)


def make_units(clips: Sequence[Clip], seconds: Sequence[float], unit_seconds: float) -> list[Unit]:
    """Clips in units of about `unit_seconds` of audio (at least one clip each), longest clips first.

    Clips of similar length share a unit, where they are sampled in one batch. A long clip at the end would leave
    all workers but one idle.
    """
    units: list[list[Clip]] = []
    room = 0.0
    for length, clip in sorted(zip(seconds, clips, strict=True), key=lambda pair: -pair[0]):
        if not units or length > room:
            units.append([])
            room = unit_seconds
        units[-1].append(clip)
        room -= length
    return [Unit(list(unit)) for unit in units]


MISSING = {
    "lost": "no worker reported on this clip, as its worker died or the cluster failed: run it again",
    "interrupted": "the job was stopped before this clip was done: run it again",
}


def reconcile(clips: Sequence[Clip], rows: Sequence[StatusRow], code: str = "lost") -> list[StatusRow]:
    """Rows for the planned clips that have none; `code` says why they have none."""
    # By row and not by clip_id, which a rejected row may share with a clip.
    reported = {row["row"] for row in rows}
    return [error_row(clip, ClipError(code, MISSING[code])) for clip in clips if clip.row not in reported]
