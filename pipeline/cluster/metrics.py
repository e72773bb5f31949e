"""What render workers report to the metrics endpoint of their node; Ray adds the prefix `ray_` to the names."""

import threading
import time
from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge

from pipeline.ledger.clip_row import RENDER_STEPS, STEPS
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.render.render_stage import RenderStage

COUNTERS = {
    "floatcast_clips": ("Clips that have ended.", ("status", "error_code")),
    "floatcast_retries": ("Times that a clip was tried again after its worker had died.", ()),
    "floatcast_frames": ("Number of frames delivered.", ()),
    "floatcast_video_seconds": ("Seconds of video delivered.", ()),
    "floatcast_stage_seconds": ("Wall-clock time that clips spent in each step.", ("step",)),
}
GAUGES = {
    "floatcast_encoder_queue_frames": "Decoded frames that wait for an encoder, per render worker.",
    "floatcast_render_idle_share": "Share of time since its start in which a render worker was not rendering.",
}
"""Metrics of the render workers, which see the row of every clip."""

GAUGE_SECONDS = 5.0


class RenderMetrics:
    """The metrics of one render worker. Gauges are updated every few seconds."""

    def __init__(self, stage: RenderStage) -> None:
        self._stage, self._start, self._busy = stage, time.monotonic(), 0.0
        self._counters = {name: Counter(name, text, tags) for name, (text, tags) in COUNTERS.items()}
        self._gauges = {name: Gauge(name, text) for name, text in GAUGES.items()}
        threading.Thread(target=self._watch, name="metrics", daemon=True).start()

    def count(self, rows: Sequence[ClipRow]) -> None:
        """Count clips that have ended."""
        for row in rows:
            self._add("clips", 1, status=row["status"], error_code=row.get("error_code") or "")
            self._add("retries", (row.get("worker_attempt") or 1) - 1)
            self._add("frames", row.get("frames"))
            self._add("video_seconds", row.get("duration"))
            spent = {step: values_of(row).get(f"{step}_seconds") for step in STEPS}
            for step in STEPS:
                self._add("stage_seconds", spent[step], step=step)
            self._busy += sum(spent[step] or 0.0 for step in RENDER_STEPS)

    def _add(self, name: str, value: float | None, **tags: str) -> None:
        if value:  # Ray refuses to count 0
            self._counters[f"floatcast_{name}"].inc(value, tags)

    def _watch(self) -> None:
        while True:
            self._gauges["floatcast_encoder_queue_frames"].set(self._stage.queued_frames)
            share = 1 - self._busy / max(1e-9, time.monotonic() - self._start)
            self._gauges["floatcast_render_idle_share"].set(min(1.0, max(0.0, share)))
            time.sleep(GAUGE_SECONDS)
