"""summary.json: the progress or result of a run, for `jobs.status`, the report and other readers."""

import json
import time
from collections.abc import Mapping
from typing import Any

from pipeline.measure.metric import VERDICTS
from pipeline.run.run import Run
from pipeline.run.tally import steady
from pipeline.storage.objects import write_bytes
from pipeline.storage.records import Damaged, read_json
from pipeline.storage.uris import join

SUMMARY = "summary.json"

LONGEST = 1e12
"""No time in a summary is longer, s."""

_NEEDED: dict[str, Any] = {
    **dict.fromkeys(("run", "state", "reason"), str),
    **dict.fromkeys(("planned", "done", "failed", "rejected", "quarantined", "rendered", "retakes"), int),
    **dict.fromkeys(("updated", "seconds", "video_seconds"), int | float),
    "exit_code": int | None,
    "render_idle_share": int | float | None,
    "errors": dict,
}
"""What `jobs.status` needs of a summary."""


def summary_of(run: Run) -> dict[str, Any]:
    """The state of the run; may be called from another thread."""
    now, tally, plan = steady(), run.tally, run.plan
    idle, limit = tally.idle_share(), tally.limit()
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
        "limited_by": None if limit is None else limit.name,
        "started": round(tally.started, 1),
        "updated": round(time.time(), 1),
        "seconds": round(now - tally.started, 1),
    }


def write_summary(run: Run) -> None:
    """Write summary.json; a shard has its own file name."""
    text = json.dumps(summary_of(run), indent=2) + "\n"
    write_bytes(text.encode(), join(run.output, run.selection.name(SUMMARY)))


def read_summary(uri: str) -> dict[str, Any] | Damaged | None:
    """A summary that a run has written; None if there is none. Raises StorageError."""
    return read_json(uri, problem_of_summary)


def problem_of_summary(summary: Mapping[str, Any]) -> str:
    """What is wrong with a JSON object that should be a summary, as a clause; empty if it is right."""
    for name, kinds in _NEEDED.items():
        if name not in summary or not isinstance(summary[name], kinds):
            return f"its {name} is missing or has the wrong type"
        if isinstance(summary[name], float) and not 0 <= summary[name] < LONGEST:
            return f"its {name} is no such number"
    if not isinstance(summary.get("seconds_left"), int | float | None):
        return "its seconds_left has the wrong type"
    if not isinstance(summary.get("qc"), dict | None):
        return "its qc has the wrong type"
    if not all(isinstance(text, str) for text in summary.get("qc_thresholds") or ()):
        return "its qc_thresholds have the wrong type"
    return ""
