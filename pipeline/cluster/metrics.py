"""What a run reports to the metrics endpoints of its nodes; Ray adds the prefix `ray_` to the names.

Every metric has the labels `run` (the id of the run) and `output` (its output folder), so that two runs on one cluster
can be told apart. Alert rules and a dashboard that use the metrics are in `jobs/deploy`.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from ray.util.metrics import Counter, Gauge

from pipeline.common.redaction import redacted
from pipeline.ledger.clip_row import RENDER_STEPS, STEPS
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.ledger.ledger import Ledger
from pipeline.render.render_stage import RenderStage
from pipeline.storage.explained import explained

logger = logging.getLogger(__name__)

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

RUN_COUNTERS = {"floatcast_verdicts": ("Clips that this run delivered, by verdict of quality control.", ("verdict",))}
RUN_GAUGES = {
    "floatcast_clips_left": "Clips of the manifest that have not ended yet.",
    "floatcast_seconds_left": "Estimated time until the end of rendering; absent before the first clip has ended.",
}
"""Metrics of the driver, which knows the plan and the verdicts."""

LABELS = ("run", "output")
LABEL_CHARACTERS = 80

GAUGE_SECONDS = 5.0


class Metrics:
    """Counters and gauges that carry the labels of one run."""

    def __init__(
        self, ledger: Ledger, counters: Mapping[str, tuple[str, tuple[str, ...]]], gauges: Mapping[str, str]
    ) -> None:
        labels = {"run": ledger.run, "output": output_label(ledger.output)}
        self._counters = {name: Counter(name, text, (*tags, *LABELS)) for name, (text, tags) in counters.items()}
        self._gauges = {name: Gauge(name, text, LABELS) for name, text in gauges.items()}
        for metric in (*self._counters.values(), *self._gauges.values()):
            metric.set_default_tags(labels)

    def add(self, name: str, value: float | None, **tags: str) -> None:
        """Increase a counter; None and 0 change nothing."""
        if value:  # Ray refuses to count 0
            self._counters[f"floatcast_{name}"].inc(value, tags)

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._gauges[f"floatcast_{name}"].set(value)


def output_label(output: str) -> str:
    """An output folder as a label: without credentials, and shortened at its start if it is long."""
    text = redacted(output)
    return text if len(text) <= LABEL_CHARACTERS else f"...{text[3 - LABEL_CHARACTERS :]}"


class RenderMetrics:
    """The metrics of one render worker. Gauges are updated every few seconds."""

    def __init__(self, stage: RenderStage) -> None:
        self._stage, self._start, self._busy = stage, time.monotonic(), 0.0
        self._metrics = Metrics(stage.ledger, COUNTERS, GAUGES)
        threading.Thread(target=self._watch, name="metrics", daemon=True).start()

    def count(self, rows: Sequence[ClipRow]) -> None:
        """Count clips that have ended."""
        add = self._metrics.add
        for row in rows:
            add("clips", 1, status=row["status"], error_code=row.get("error_code") or "")
            add("retries", (row.get("worker_attempt") or 1) - 1)
            add("frames", row.get("frames"))
            add("video_seconds", row.get("duration"))
            spent = {step: values_of(row).get(f"{step}_seconds") for step in STEPS}
            for step in STEPS:
                add("stage_seconds", spent[step], step=step)
            self._busy += sum(spent[step] or 0.0 for step in RENDER_STEPS)

    def _watch(self) -> None:
        while True:
            self._metrics.set("encoder_queue_frames", self._stage.queued_frames)
            share = 1 - self._busy / max(1e-9, time.monotonic() - self._start)
            self._metrics.set("render_idle_share", min(1.0, max(0.0, share)))
            time.sleep(GAUGE_SECONDS)


class RunMetrics:
    """The metrics of the driver, updated every few seconds for as long as the context lasts."""

    def __init__(self, ledger: Ledger, summary: Callable[[], dict[str, Any]]) -> None:
        """`summary` returns the content of summary.json, and is called in a thread of its own."""
        self._metrics = Metrics(ledger, RUN_COUNTERS, RUN_GAUGES)
        self._summary, self._stop = summary, threading.Event()
        self._seen: dict[str, int] = summary()["qc"] or {}  # earlier runs counted these
        self._thread = threading.Thread(target=self._watch, name="metrics", daemon=True)

    def __enter__(self) -> "RunMetrics":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            last = self._stop.is_set()
            try:
                self.update(self._summary())
            except Exception as error:  # a run does not depend on its metrics
                logger.warning("The metrics of this run were not updated: %s", explained(error))
            if last:
                return
            self._stop.wait(GAUGE_SECONDS)

    def update(self, summary: dict[str, Any]) -> None:
        """Report the state that a summary describes."""
        verdicts = summary["qc"] or {}
        for verdict, number in verdicts.items():
            self._metrics.add("verdicts", max(0, number - self._seen.get(verdict, 0)), verdict=verdict)
        self._seen = verdicts
        ended = sum(summary[status] for status in ("done", "failed", "rejected", "quarantined"))
        self._metrics.set("clips_left", max(0, summary["planned"] - ended))
        if summary["seconds_left"] is not None:
            self._metrics.set("seconds_left", summary["seconds_left"])
