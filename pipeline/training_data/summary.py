"""The end of a job: a table of all candidates, counts, and warnings."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.disk_collections import batched
from pipeline.storage.objects import put_file
from pipeline.storage.uris import join
from pipeline.training_data.reasons import FAILED, REASONS
from pipeline.training_data.shards import SPLITS

SAMPLES = "samples.parquet"

_COLUMNS: list[tuple[str, Any]] = [
    *((name, pa.string()) for name in ("clip_id", "key", "status", "reason", "found", "split", "speaker")),
    *((name, pa.string()) for name in ("language", "emotion", "source")),
    *((name, pa.float64()) for name in ("start", "end", "fps")),
    *((name, pa.int64()) for name in ("frames", "size", "bytes")),
    ("crop_box", pa.list_(pa.float64())),
    *((name, pa.float64()) for name in ("face_px", "face_wanders", "face_outside", "yaw_deg", "blur", "level_db")),
    ("source_fps", pa.float64()),
    ("av_method", pa.string()),
    ("av_offset_ms", pa.float64()),
    ("av_confidence", pa.float64()),
    ("tile", pa.int64()),
]
SCHEMA = pa.schema(_COLUMNS)
"""Schema of samples.parquet: one row per candidate, and one per video without any."""

NOTICED = 5

ENOUGH = 2
"""Number of training speakers that is enough; from a single one, a model cannot learn the motion of other people."""


@dataclass
class Counts:
    """Counts over all rows of an output folder."""

    clips: Counter[str] = field(default_factory=Counter)
    """Number by status."""
    reasons: Counter[str] = field(default_factory=Counter)
    dropped_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by reason."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Accepted seconds by split."""
    split_clips: Counter[str] = field(default_factory=Counter)
    speakers: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """(split, speaker) -> accepted seconds."""
    av_methods: Counter[str] = field(default_factory=Counter)
    """How the offset was measured, with `none` if it was not; for accepted samples and those dropped because of it."""
    noticed: dict[str, str] = field(default_factory=dict)
    """Video -> what was noticed about the audio of its accepted samples, for at most `NOTICED` videos."""
    failed: int = 0
    """Number of videos that could not be used at all."""

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.clips[row["status"]] += 1
        seconds = (row.get("end") or 0.0) - (row.get("start") or 0.0)
        if row["status"] == "accepted":
            self.seconds[row["split"]] += seconds
            self.split_clips[row["split"]] += 1
            if row.get("found") and len(self.noticed) < NOTICED:
                self.noticed[row["source"]] = row["found"]
            self.speakers[row["split"], row["speaker"]] += seconds
        else:
            self.reasons[row["reason"]] += 1
            self.dropped_seconds[row["reason"]] += seconds
            self.failed += row["reason"] in FAILED
        if row["status"] == "accepted" or row["reason"] == "av_offset_too_large":
            self.av_methods[row.get("av_method") or "none"] += 1

    @property
    def seconds_in_all(self) -> float:
        """Seconds of all accepted samples."""
        return sum(self.seconds.values())

    def warnings(self) -> list[str]:
        """What the user should know before training."""
        found = [f"{source}: {text}" for source, text in self.noticed.items()]
        if len(self.noticed) == NOTICED:
            found.append("there may be more videos with such notes: see the column found of accepted samples")
        in_split = Counter(split for split, _ in self.speakers)
        if self.clips["accepted"]:
            if not in_split["train"]:
                found.append("no speaker in the train split has samples, so there is nothing to train on")
            elif in_split["train"] < ENOUGH:
                found.append(
                    "only one speaker is in the train split: a model cannot learn the motion of other people from that"
                )
            if not in_split["validation"]:
                found.append(
                    "the validation split has no samples, so training cannot measure other speakers; add speakers, "
                    "or raise split.validation"
                )
        if self.av_methods["none"]:
            found.append(
                f"the offset between lips and audio is unknown in {self.av_methods['none']} samples"
                + ("" if self.av_methods["syncnet"] else "; clips.syncnet=FILE measures it better")
            )
        return found

    def summary(self) -> dict[str, Any]:
        """The contents of summary.json."""
        return {
            "accepted": self.clips["accepted"],
            "dropped": self.clips["dropped"],
            "videos_failed": self.failed,
            "accepted_hours": round(self.seconds_in_all / 3600, 4),
            "reasons": dict(self.reasons.most_common()),
            "splits": {
                split: {
                    "speakers": sum(one == split for one, _ in self.speakers),
                    "samples": self.split_clips[split],
                    "hours": round(self.seconds[split] / 3600, 4),
                }
                for split in SPLITS
            },
            "speakers": {
                speaker: {"split": split, "hours": round(seconds / 3600, 4)}
                for (split, speaker), seconds in sorted(self.speakers.items(), key=lambda item: item[0][1])
            },
            "av_methods": dict(self.av_methods),
            "warnings": self.warnings(),
        }


def write_samples(rows: Iterable[dict[str, Any]], output: str) -> Iterator[dict[str, Any]]:
    """Write the rows to samples.parquet as they arrive, and pass them on. The file is stored after the last one."""
    with tempfile.TemporaryDirectory(prefix="floatcast-") as name:
        local = Path(name) / SAMPLES
        with pq.ParquetWriter(local, SCHEMA, compression="zstd") as writer:
            for group in batched(rows, 2000):
                writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
                yield from group
        put_file(local, join(output, SAMPLES))


def duration(seconds: float) -> str:
    """h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def lines(counts: Counts) -> Iterator[str]:
    """Lines for the screen."""
    yield f"{'accepted':>11}  {counts.clips['accepted']} samples, {duration(counts.seconds_in_all)} of video"
    yield f"{'dropped':>11}  {counts.clips['dropped']}"
    for code, count in counts.reasons.most_common():
        yield f"{'':>13}{code} x {count} ({counts.dropped_seconds[code]:.0f} s): {REASONS[code]}"
    for split in SPLITS:
        speakers = sum(one == split for one, _ in counts.speakers)
        yield (
            f"{split:>11}  {counts.split_clips[split]} samples, {duration(counts.seconds[split])}, "
            f"{speakers} speaker{'' if speakers == 1 else 's'}"
        )
    for warning in counts.warnings():
        yield f"{'NOTE':>11}  {warning}"
