"""Counts of what has become of a run's clips. May be read from another thread."""

import time
from collections import Counter
from dataclasses import dataclass, field

from pipeline.ledger.clip_row import RENDER_STEPS, STEPS, take_of
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.run.bottleneck import Limit, limited_by

_EPOCH = time.time() - time.monotonic()


def steady() -> float:
    """Seconds since 1970 by the clock that this process started with: if the machine's clock is put forward or back,
    durations stay right.
    """
    return _EPOCH + time.monotonic()


@dataclass
class Tally:
    """Counts of clips, and the times from which speed and ETA are computed (seconds since 1970)."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Clips by status."""
    codes: Counter[str] = field(default_factory=Counter)
    """Clips by error code."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Clips by the verdict of quality control."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Clips by the reasons of those verdicts."""
    rendered: Counter[str] = field(default_factory=Counter)
    """Counts for this run: clips, further takes, frames, seconds of video and of each step."""
    workers: int = 0
    """Number of render workers that the run holds; 0 before it has any."""
    pools: dict[str, int] = field(default_factory=dict)
    """Number of workers of the stages features, render and qc."""
    gpus_per_worker: float = 0.0
    started: float = field(default_factory=steady)
    rendering_since: float = 0.0
    rendered_until: float = 0.0
    """When rendering ended; 0 while it is running."""
    finished_seconds: float = 0.0
    """Estimated length of the clips that had to be rendered and have ended."""

    def add(self, row: ClipRow) -> None:
        """Count a clip that has ended."""
        self.statuses[row["status"]] += 1
        if row.get("error_code"):
            self.codes[row["error_code"]] += 1
        if row.get("qc_status"):
            self.verdicts[row["qc_status"]] += 1
            self.reasons.update(row["qc_reasons"] or ())

    def take_back(self, row: ClipRow) -> None:
        """Count a clip no more that was counted as done."""
        self.statuses -= Counter([row["status"]])
        if row.get("qc_status"):
            self.verdicts -= Counter([row["qc_status"]])
            self.reasons -= Counter(row["qc_reasons"] or ())

    def add_rendered(self, row: ClipRow, seconds: float) -> None:
        """Count a take that this run has rendered; `seconds` is the length of the clip that the plan estimated."""
        first = take_of(row) == 1
        if first:
            self.finished_seconds += seconds
        if row["status"] == "done":
            self.rendered["clips" if first else "takes"] += 1
            for name in ("frames", "duration", *(f"{step}_seconds" for step in (*STEPS, "qc"))):
                self.rendered[name] += values_of(row).get(name) or 0

    @property
    def ended(self) -> int:
        """Number of clips that ended in this run."""
        return sum(self.statuses[status] for status in ("failed", "quarantined", "rejected")) + self.rendered["clips"]

    def idle_share(self) -> float | None:
        """Share of time in which the render workers did not render; None before there is a measurement."""
        spent = (steady() - self.rendering_since) * self.workers
        if not self.rendered["clips"] or not spent:
            return None
        return max(0.0, 1 - sum(self.rendered[f"{step}_seconds"] for step in RENDER_STEPS) / spent)

    def limit(self) -> Limit | None:
        """What limits the speed so far; None before there is a measurement."""
        return limited_by(self.rendered, self.pools)

    def held_seconds(self, now: float) -> float:
        """Seconds for which the render workers were held; 0 if there were none."""
        return (self.rendered_until or now) - self.rendering_since if self.workers else 0.0

    def seconds_left(self, total: float, now: float) -> float | None:
        """Time for the rest of `total` seconds of audio at the speed so far; None before a clip has ended."""
        if not self.finished_seconds:
            return None
        left = max(0.0, total - self.finished_seconds)
        return left * (now - self.rendering_since) / self.finished_seconds
