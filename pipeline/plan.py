"""The plan: which clips are to be rendered, which are done already, and which go together into a work unit."""

import io
import json
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ClipError
from pipeline.fingerprint import Parts, Source, clip_parts, fingerprint, identify
from pipeline.ledger import Ledger
from pipeline.manifest import Clip
from pipeline.settings import Limits
from pipeline.status import StatusRow, error_row
from pipeline.storage import check_allowed, filesystem, join, read_bytes, write_bytes

BYTES_PER_SECOND = {"wav": 64_000, "flac": 40_000, "mp4": 100_000, "mov": 100_000}
"""Usual size of a second of sound, by suffix; other formats are compressed. A rough figure is enough to sort by."""
COMPRESSED = 16_000

PLAN = "plan.parquet"
"""What the last run planned: clip_id, row, fingerprint and its parts as JSON."""


class SelectionError(ValueError):
    """`only` or `shard` that cannot be; the message says what can."""


@dataclass(frozen=True)
class Selection:
    """Which of the manifest's clips a run takes."""

    only: str = ""
    """failed, quarantined, or clip ids separated by commas; empty takes all."""
    limit: int = 0
    """At most so many that are to be rendered, in the manifest's order; 0 is no limit."""
    shard: str = ""
    """i/n: the i-th of n parts, from 1, which together are the whole."""

    def of(self, clips: Sequence[Clip], statuses: dict[str, str]) -> list[Clip]:
        """The clips that `only` and `shard` take; `statuses` are those of earlier runs by clip_id."""
        chosen = list(clips)
        if self.shard:
            part, parts = parse_shard(self.shard)
            chosen = [clip for clip in chosen if zlib.crc32(clip.clip_id.encode()) % parts == part - 1]
        if self.only in ("failed", "quarantined"):
            return [clip for clip in chosen if statuses.get(clip.clip_id) == self.only]
        if not self.only:
            return chosen
        wanted = {clip_id.strip() for clip_id in self.only.split(",")}
        unknown = wanted - {clip.clip_id for clip in clips}
        if unknown:
            raise SelectionError(
                f"only: the manifest has no clip {', '.join(sorted(map(repr, unknown)))}; give failed, quarantined or "
                "clip ids separated by commas"
            )
        return [clip for clip in chosen if clip.clip_id in wanted]

    def name(self, file: str) -> str:
        """`clips.parquet`, and in a shard `clips.1-of-8.parquet`: shards may run at the same time."""
        stem, _, suffix = file.partition(".")
        return f"{stem}.{self.shard.replace('/', '-of-')}.{suffix}" if self.shard else file

    @property
    def forgives(self) -> bool:
        """Whether it asks for quarantined clips by name."""
        return bool(self.only) and self.only != "failed"


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` -> (2, 8)."""
    part, slash, parts = text.partition("/")
    if not slash or not part.isdigit() or not parts.isdigit() or not 1 <= int(part) <= int(parts):
        raise SelectionError(f"shard: {text!r} is not i/n with i from 1 to n, as 1/8 for the first of eight parts")
    return int(part), int(parts)


@dataclass
class Plan:
    """What is to be done with each clip that a run takes. All of them have fingerprints."""

    todo: list[Clip] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Estimated length of each clip in `todo`."""
    done: list[Clip] = field(default_factory=list)
    quarantined: list[Clip] = field(default_factory=list)
    left: int = 0
    """Clips beyond `limit`."""
    changed: Counter[str] = field(default_factory=Counter)
    """Of the clips in `todo` that were done with other settings: how many changed in which part."""
    changed_clips: int = 0
    sources: dict[str, tuple[Source, Source]] = field(default_factory=dict)
    """Image and audio by clip_id."""

    def own_parts(self, clip: Clip) -> Parts:
        """What the clip's fingerprint is made of, without what the whole job shares."""
        return clip_parts(clip, *self.sources[clip.clip_id], {})

    @property
    def clips(self) -> list[Clip]:
        """All that must end with a status."""
        return [*self.todo, *self.done, *self.quarantined]

    def describe(self) -> str:
        """One or two lines for a person."""
        new = len(self.todo) - self.changed_clips
        parts = [f"{new} new", f"{self.changed_clips} changed", f"{len(self.done)} done before"]
        if self.quarantined:
            parts.append(f"{len(self.quarantined)} quarantined (only=quarantined tries them again)")
        if self.left:
            parts.append(f"{self.left} left by limit")
        text = f"plan: {', '.join(parts)}; to render: {sum(self.seconds) / 60:.1f} minutes of sound, estimated"
        if self.changed:
            text += "\n      changed: " + ", ".join(f"{name} x {n}" for name, n in self.changed.most_common())
        return text


def make_plan(
    clips: Sequence[Clip],
    ledger: Ledger,
    job: Parts,
    limits: Limits,
    selection: Selection,
    statuses: dict[str, str],
    *,
    threads: int = 32,
) -> Plan:
    """Compare the clips with what is done: one listing of the ledger, and one request for each input file.

    Raises SelectionError.
    """
    chosen = selection.of(clips, statuses)
    done = ledger.done()
    before = cache(lambda: read_plan(ledger.output, selection.name(PLAN)))  # not needed where nothing changed
    quarantined = set() if selection.forgives else ledger.quarantined()
    image_of = lru_cache(maxsize=100_000)(lambda uri: identify(uri, limits))  # many clips have one portrait
    plan = Plan()

    def sources(clip: Clip) -> tuple[Source, Source]:
        return image_of(clip.image), identify(clip.audio, limits)

    with ThreadPoolExecutor(threads) as pool:  # each waits for the storage
        for clip, (image, audio) in zip(chosen, pool.map(sources, chosen), strict=True):
            parts = clip_parts(clip, image, audio, job)
            clip = replace(clip, fingerprint=fingerprint(parts))
            plan.sources[clip.clip_id] = (image, audio)
            if clip.fingerprint in done.get(clip.clip_id, ()):
                plan.done.append(clip)
            elif (clip.clip_id, clip.fingerprint) in quarantined:
                plan.quarantined.append(clip)
            elif selection.limit and len(plan.todo) >= selection.limit:
                plan.left += 1
            else:
                plan.todo.append(clip)
                plan.seconds.append(seconds_of(clip.audio, audio.size))
                if clip.clip_id in done:
                    plan.changed_clips += 1
                    old = before().get(clip.clip_id, {})
                    plan.changed.update(name for name, value in parts.items() if old and old.get(name) != value)
    return plan


def seconds_of(uri: str, size: int) -> float:
    """Length of a sound file, guessed from its size."""
    return size / BYTES_PER_SECOND.get(uri.rsplit(".", 1)[-1].lower(), COMPRESSED)


def size_of(uri: str, limits: Limits) -> int:
    """Bytes of an input; 0 where it cannot be seen: the feature stage will say why, with a code."""
    try:
        check_allowed(uri, limits.allowed_schemes)
        fs, path = filesystem(uri)
        return fs.size(path) or 0
    except Exception:  # every client library has exceptions of its own
        return 0


def estimate_seconds(clips: Sequence[Clip], limits: Limits, threads: int = 32) -> list[float]:
    """Length of each clip's audio, guessed from the size of its file; 0 where the file cannot be seen."""
    with ThreadPoolExecutor(threads) as pool:  # one request a clip, and each waits for the storage
        return list(pool.map(lambda clip: seconds_of(clip.audio, size_of(clip.audio, limits)), clips))


# --- The plan on the storage -----------------------------------------------------------------------------------


def write_plan(plan: Plan, output: str, job: Parts, name: str = PLAN) -> None:
    """Keep fingerprints and what they are made of, so that the next run can say what changed."""
    clips = plan.clips
    columns: dict[str, list[Any]] = {
        "clip_id": [clip.clip_id for clip in clips],
        "row": [clip.row for clip in clips],
        "fingerprint": [clip.fingerprint for clip in clips],
        "parts": [json.dumps(plan.own_parts(clip)) for clip in clips],
    }
    types: dict[str, pa.DataType] = {name: pa.string() for name in columns} | {"row": pa.int64()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(types, metadata={"job": json.dumps(job)})), buffer)
    write_bytes(buffer.getvalue(), join(output, name))


def read_plan(output: str, name: str = PLAN) -> dict[str, Parts]:
    """clip_id -> what its fingerprint was made of in the last plan; empty where there is none."""
    data = read_bytes(join(output, name))
    if data is None:
        return {}
    table = pq.read_table(io.BytesIO(data))
    job = json.loads((table.schema.metadata or {}).get(b"job", b"{}"))
    return {row["clip_id"]: json.loads(row["parts"]) | job for row in table.select(["clip_id", "parts"]).to_pylist()}


# --- Units -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """What one worker takes at a time: clips, their features, or their status rows."""

    items: list[Any]


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


# --- Clips without a row ---------------------------------------------------------------------------------------

MISSING = {
    "lost": "no worker reported on this clip, as its worker died or the cluster failed: run it again",
    "interrupted": "the job was stopped before this clip was done: run it again",
    "stopped": "the job stopped early, as too many clips failed: see why they did, and run it again",
}


def reconcile(clips: Iterable[Clip], reported: Container[int], code: str = "lost") -> Iterator[StatusRow]:
    """Rows for the planned clips that have none; `reported` are the manifest's rows that have one."""
    # By row and not by clip_id, which a rejected row may share with a clip.
    for clip in clips:
        if clip.row not in reported:
            yield error_row(clip, ClipError(code, MISSING[code]))
