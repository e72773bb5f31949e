"""Run a job on a cluster and end with its exit code: `python -m jobs.submit -- manifest=... output=...`.

The job is jobs.render by default, or the one that `--job` names: prepare, train or evaluate.

`ray job submit` ends with exit code 1 for every failure, whatever the exit code of the driver was, but a scheduler must
know whether to try again. This command needs `ray[default]` and this checkout, which is sent to the cluster with the
job; it does not need PyTorch.
"""

import argparse
import asyncio
import os
import re
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ray._private.services import find_bootstrap_address
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from pipeline.cluster.address import Address, check_cluster, check_dashboard, dashboard_address
from pipeline.common.errors import ClusterError
from pipeline.common.interruptions import Interruptions
from pipeline.common.terminal import filter_output

CHECKOUT = Path(__file__).parents[1]

JOBS = ("render", "prepare", "train", "evaluate")

ENDED = (0, 1, 2, 4)
"""Exit codes after which another try is pointless (`pipeline.run.exit_codes`); 4 is a bug."""
INFRASTRUCTURE, INTERRUPTED = 3, 130

SUBMITTER = "FLOATCAST_SUBMITTER"
"""As `pipeline.storage.run_lock` reads it; this command does not need the packages that are imported there."""

PATIENCE_SECONDS = 300.0
"""A head node that does not answer for this long is lost. If only its tunnel was lost, the job is still running and
would block the next one.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.submit", description=__doc__)
    parser.add_argument("--address", help="http://... address of the cluster's dashboard (default: $RAY_ADDRESS)")
    parser.add_argument(
        "--tries",
        type=_at_least_one,
        default=4,
        help="number of tries before the job ends with exit code 3 or 130 (default 4)",
    )
    parser.add_argument("--pause", type=float, default=120.0, help="seconds between two tries (default 120)")
    parser.add_argument(
        "--job", choices=JOBS, default=JOBS[0], help="which job to run, as jobs.<name> (default render)"
    )
    parser.add_argument("keys", nargs="*", metavar="key=value", help="arguments of the job, after --")
    arguments = parser.parse_args(argv)
    filter_output()
    signal.signal(signal.SIGTERM, _interrupt)  # for a scheduler that cancels this job
    if arguments.address:  # otherwise Ray prefers the addresses of the environment to the one it is given
        os.environ["RAY_API_SERVER_ADDRESS"] = arguments.address
    try:
        with Interruptions():  # a second Ctrl-C must not leave a job running that the first one is stopping
            if (problem := _no_address(arguments.address)) is not None:
                print(f"error: {problem}", file=sys.stderr, flush=True)
                return INFRASTRUCTURE
            return _run_until_it_ends(
                arguments.address, arguments.job, arguments.keys, arguments.tries, arguments.pause
            )
    except KeyboardInterrupt:
        return INTERRUPTED


def _run_until_it_ends(address: str | None, job: str, keys: list[str], tries: int, pause: float) -> int:
    submission = submitter = _new_id(job)
    for number in range(1, tries + 1):
        try:
            code, final = _run(address, submission, job, keys, submitter)
            submission = _new_id(job)  # that job has ended
        except Exception as error:  # the head node or its tunnel is gone; the client has no exceptions of its own
            what = str(error) if isinstance(error, ClusterError) else of_cluster(error)
            print(f"error: {what}", file=sys.stderr, flush=True)
            code, final = INFRASTRUCTURE, False
        if final or number == tries:
            break
        print(f"exit code {code}; try {number + 1} of {tries} in {pause:g} s", flush=True)
        time.sleep(pause)
    return code


def _no_address(given: str | None) -> str | None:
    """Without an address, Ray takes the cluster that last ran on this machine: why that cannot be, or None."""
    if dashboard_address(given or "") is not None:
        return None
    last = find_bootstrap_address(None)
    advice = "give --address http://head:8265, or set RAY_ADDRESS"
    if last is None:
        return f"there is no address of a cluster, and no Ray is running on this machine: {advice}"
    try:
        check_cluster(Address(last, "the last Ray that was started on this machine"))
    except ClusterError as error:
        return f"{error} Or {advice}"
    return None


def _new_id(job: str) -> str:
    """The id is chosen here and not by the head node, so that a job whose submission got no answer is found."""
    return f"floatcast-{job}-{secrets.token_hex(6)}"


def _at_least_one(text: str) -> int:
    return max(1, int(text))


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _run(address: str | None, submission: str, name: str, keys: list[str], submitter: str) -> tuple[int, bool]:
    """Submit the job, or find the one that was submitted under this id, and wait for its end.

    `submitter` is the same for all tries, so that a try which finds the output in use by an earlier one is not refused
    for good. Returns the exit code, and whether it is final.
    """
    found = dashboard_address(address or "")
    if found is not None and found.value.startswith(("http://", "https://")):
        check_dashboard(found)  # within seconds; the client itself waits for minutes
    client = JobSubmissionClient(address)
    if _is_known(client, submission):
        print(f"job {submission}: found again", flush=True)
    else:
        entrypoint = shlex.join(["python", "-m", f"jobs.{name}", *keys])
        environment = {"working_dir": str(CHECKOUT), "env_vars": {SUBMITTER: submitter}}
        client.submit_job(entrypoint=entrypoint, submission_id=submission, runtime_env=environment)
        print(f"job {submission}", flush=True)
    try:
        asyncio.run(_show_logs(client, submission))
        info = _wait(client, submission)
    except KeyboardInterrupt:
        client.stop_job(submission)
        info = _wait(client, submission)
    if info.status == JobStatus.STOPPED:  # by a user, or by whoever stopped this process
        return INTERRUPTED, True
    code = info.driver_exit_code
    if code in ENDED:
        return code, True
    print(f"error: {(info.message or str(info.status)).partition(chr(10))[0]}", file=sys.stderr, flush=True)
    return INTERRUPTED if code == INTERRUPTED else INFRASTRUCTURE, False


def _is_known(client: JobSubmissionClient, submission: str) -> bool:
    try:
        client.get_job_info(submission)
    except RuntimeError as error:  # the client's word for every answer but a good one
        if "404" in str(error):
            return False
        raise
    return True


async def _show_logs(client: JobSubmissionClient, job: str) -> None:
    try:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)
    except Exception as error:  # the job continues without a reader
        print(f"no more log lines, but the job goes on: {of_cluster(error)}", file=sys.stderr, flush=True)


def of_cluster(error: Exception) -> str:
    """What went wrong between this process and the head node, in words; Ray's client has no exceptions of its own."""
    if found := re.search(r"status code (\d{3})", str(error)):
        if found[1] in ("401", "403"):
            return f"the head node refuses access (HTTP {found[1]}): check the token of the cluster"
        return f"the head node answered with HTTP {found[1]}: check its log, and that it runs this version of Ray"
    return "the head node does not answer: check --address or $RAY_ADDRESS, the network, and that the cluster runs"


def _wait(client: JobSubmissionClient, job: str) -> JobDetails:
    heard = time.monotonic()
    while True:
        try:
            info = client.get_job_info(job)
            if info.status.is_terminal():
                return info
            heard = time.monotonic()
        except Exception:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise
        time.sleep(2)


if __name__ == "__main__":
    raise SystemExit(main())
