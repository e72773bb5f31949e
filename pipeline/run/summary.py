"""summary.json: the progress or result of a run, for `jobs.status`, the report and other readers."""

import json
import time
from typing import Any

from pipeline.measure.metric import VERDICTS
from pipeline.run.run import Run
from pipeline.storage.objects import join, write_bytes

SUMMARY = "summary.json"


def summary_of(run: Run) -> dict[str, Any]:
    """The state of the run; may be called from another thread."""
    now, tally, plan = time.time(), run.tally, run.plan
    idle = tally.idle_share()
    left = tally.seconds_left(sum(plan.seconds), now) if run.state == "rendering" else None
    return {
        "run": run.ledger.run,
        "state": run.state,
        "exit_code": run.exit_code,
        "reason": run.reason,
        "manifest": run.manifest.uri,
        "notes": list(run.manifest.notes),
        "planned": len(plan) + len(run.manifest.rejected),
        "to_render": len(plan.todo),
        "changed": dict(plan.changed),
        "ended": tally.ended,
        **{status: tally.statuses[status] for status in ("done", "failed", "rejected", "quarantined")},
        "rendered": tally.rendered["clips"],
        "retakes": tally.rendered["takes"],
        "qc": {verdict: tally.verdicts[verdict] for verdict in VERDICTS} if run.qc_version else None,
        "qc_thresholds": list(run.takes.texts),
        "qc_reasons": dict(tally.reasons.most_common(10)),
        "frames": int(tally.rendered["frames"]),
        "video_seconds": round(float(tally.rendered["duration"]), 3),
        "errors": dict(tally.codes.most_common(10)),
        "render_workers": tally.workers,
        "gpus_per_worker": tally.gpus_per_worker,
        "rendering_seconds": round(tally.held_seconds(now), 1),
        "seconds_left": None if left is None else round(left, 1),
        "render_idle_share": None if idle is None else round(idle, 3),
        "started": round(tally.started, 1),
        "updated": round(now, 1),
        "seconds": round(now - tally.started, 1),
    }


def write_summary(run: Run) -> None:
    """Write summary.json; a shard has its own file name."""
    text = json.dumps(summary_of(run), indent=2) + "\n"
    write_bytes(text.encode(), join(run.output, run.selection.name(SUMMARY)))
