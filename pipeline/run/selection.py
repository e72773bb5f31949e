"""Which clips of a manifest a run takes: `only`, `limit` and `shard`."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pipeline.common.errors import RefusedError
from pipeline.manifest.clip import Clip


class SelectionError(RefusedError):
    """An invalid `only` or `shard`; the message says what is valid."""


STATUSES = {"failed": ("failed", "rejected"), "rejected": ("rejected",), "quarantined": ("quarantined",)}
"""Value of `only` -> statuses of the last run that it takes."""


class Earlier(NamedTuple):
    """What a clip that is not done ended with in the last run."""

    status: str
    fingerprint: str = ""
    """Empty if the row itself was refused."""


@dataclass(frozen=True)
class Selection:
    """Which clips of the manifest a run takes."""

    only: str = ""
    """failed, rejected, quarantined, or clip ids separated by commas; empty takes all."""
    limit: int = 0
    """Render at most this many clips, in the order of the manifest; 0 is no limit."""
    shard: str = ""
    """i/n: the i-th of n parts, counted from 1, which together are the whole manifest."""

    def of(self, clips: Iterable[Clip], statuses: dict[str, Earlier]) -> Iterator[tuple[int, Clip]]:
        """Positions and clips that `only` and `shard` select; `statuses` of earlier runs are by clip_id.

        Raises SelectionError for an unknown clip id, at the end.
        """
        unknown = set() if self.by_status or not self.part else set(self._names)
        for position, clip in enumerate(clips):
            unknown.discard(clip.clip_id)
            if self.takes(clip, statuses):
                yield position, clip
        if unknown:
            raise SelectionError(
                f"only: the manifest has no clip {', '.join(sorted(map(repr, unknown)))}; give failed, rejected, "
                "quarantined or clip ids separated by commas"
            )

    def takes(self, clip: Clip, statuses: dict[str, Earlier]) -> bool:
        """Whether `only` and `shard` select a clip."""
        part, parts = self.part
        name = clip.clip_id if clip.programme is None else clip.programme.key  # a programme stays together
        if zlib.crc32(name.encode()) % parts != part - 1:
            return False
        if not self.only:
            return True
        if not self.by_status:
            return clip.clip_id in self._names
        return clip.clip_id in statuses and statuses[clip.clip_id].status in STATUSES[self.only]

    def is_unchanged(self, earlier: Earlier | None, fingerprint: str) -> bool:
        """Whether `failed` leaves a clip out because it was rejected with the inputs and settings that it has now."""
        return self.only == "failed" and earlier == Earlier("rejected", fingerprint)

    @cached_property
    def part(self) -> tuple[int, int]:
        """(i, n) of `shard`. Raises SelectionError."""
        return parse_shard(self.shard) if self.shard else (1, 1)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(clip_id.strip() for clip_id in self.only.split(",")) if self.only else frozenset()

    @property
    def by_status(self) -> bool:
        """Whether `only` names clips by how they ended in the last run."""
        return self.only in STATUSES

    def name(self, file: str) -> str:
        """`clips.parquet`, or for a shard `clips.1-of-8.parquet`, because shards may run at the same time."""
        stem, _, suffix = file.partition(".")
        return f"{stem}.{self.shard.replace('/', '-of-')}.{suffix}" if self.shard else file

    @property
    def is_part(self) -> bool:
        """Whether the run covers only a part of its files (a shard has files of its own)."""
        return bool(self.only or self.limit)

    @property
    def forgives(self) -> bool:
        """Whether it asks for quarantined clips by name."""
        return bool(self.only) and self.only not in ("failed", "rejected")


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` -> (2, 8)."""
    part, slash, parts = text.partition("/")
    if not slash or not part.isdigit() or not parts.isdigit() or not 1 <= int(part) <= int(parts):
        raise SelectionError(f"shard: {text!r} is not i/n with i from 1 to n, such as 1/8 for the first of eight parts")
    return int(part), int(parts)
