"""Show the progress or result of a run, from its output folder alone: `python -m jobs.status output=...`."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.options import option
from pipeline.common.progress import duration_text
from pipeline.run.bottleneck import ADVICE
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.run.maintenance import check_is_output
from pipeline.run.summary import SUMMARY, read_summary
from pipeline.storage.objects import list_sizes
from pipeline.storage.records import Damaged
from pipeline.storage.run_lock import PATIENCE_SECONDS
from pipeline.storage.uris import absolute, join

USAGE = f"""
Show the progress or the result of a run, from the summary.json that the run writes every few seconds. This job needs
no cluster.

  python -m jobs.status output=s3://bucket/tonight
  python -m jobs.status --json output=s3://bucket/tonight    print one JSON object per shard, for programs

Options: --help, --json
{CODES}
"""


@dataclass
class StatusJob:
    """Configuration of `jobs.status`."""

    output: str = option("out", "Output folder of jobs.render, local or s3://.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(StatusJob, USAGE, argv, ["--json"])
    return ended(lambda: _status(absolute(job.output), as_json="--json" in flags))


def _status(output: str, *, as_json: bool) -> int:
    check_is_output(output)
    stem, _, suffix = SUMMARY.partition(".")
    names = sorted(n for n, _ in list_sizes(output) if n.startswith(f"{stem}.") and n.endswith(f".{suffix}"))
    if not names:
        return fail(f"output: {output} has no {SUMMARY}: run the render job on it again, or jobs.rebuild", REFUSED)
    code = DONE
    for name in names:
        summary = read_summary(join(output, name))
        if isinstance(summary, Damaged):
            code = fail(f"{summary}: the next run writes it again", REFUSED)
        elif summary is None:
            continue  # it has just gone
        elif as_json:
            print(json.dumps(summary))
        else:
            print(describe(summary, time.time(), "" if name == SUMMARY else name))
    return code


def describe(summary: dict[str, Any], now: float, name: str = "") -> str:
    """A summary in words; `now` in seconds since 1970."""
    silent = max(0.0, now - summary["updated"])  # this machine's clock may be behind that of the run's
    head = f"run {summary['run']}: {summary['state']}"
    if summary["exit_code"] is not None:
        head += f" with exit code {summary['exit_code']}, {duration_text(silent)} ago"
    elif silent > PATIENCE_SECONDS:
        head += (
            f", but SILENT for {duration_text(silent)}: its process has ended or lost the connection; run the "
            "same command again to resume"
        )
    lines = [f"{name + ': ' if name else ''}{head}"]
    if summary["reason"]:
        lines.append(f"  {summary['reason']}")
    counts = ", ".join(f"{summary[status]} {status}" for status in ("done", "failed", "rejected", "quarantined"))
    before = summary["done"] - summary["rendered"]
    lines.append(f"  {counts} of {summary['planned']} clips" + (f" ({before} done before this run)" if before else ""))
    if summary.get("qc"):
        verdicts = ", ".join(f"{number} {verdict}" for verdict, number in summary["qc"].items())
        lines.append(f"  quality: {verdicts}" + (f"; {summary['retakes']} retakes" if summary["retakes"] else ""))
    speed = summary["video_seconds"] / summary["seconds"] if summary["seconds"] else 0.0
    line = f"  {summary['video_seconds']:.0f} s of video in {duration_text(summary['seconds'])}"
    line += f", {speed:.2f} s per s" if speed else ""
    if summary["exit_code"] is None and summary.get("seconds_left") is not None:
        line += f", ETA {duration_text(summary['seconds_left'])}"
    lines.append(line)
    if summary["render_idle_share"] is not None:
        lines.append(f"  render workers were idle for {summary['render_idle_share']:.0%} of their time")
    limit = ADVICE.get(str(summary.get("limited_by")))  # other versions may know other limits, or none
    if limit:
        lines.append(f"  {limit}")
    lines += [f"  {code} x {count}" for code, count in summary["errors"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
