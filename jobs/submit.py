"""Run a job on a cluster and end with its exit code: `python -m jobs.submit -- manifest=... output=...`.

Renders, or does what `--job` says: prepare, train or evaluate.

`ray job submit` ends with 1 whatever the driver's exit code was, and a scheduler has to know what to try again. Needs
`ray[default]` and this checkout, which goes to the cluster with the job; no PyTorch.
"""

import argparse
import asyncio
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

CHECKOUT = Path(__file__).parents[1]

JOBS = ("render", "prepare", "train", "evaluate")

ENDED = (0, 1, 2, 4)
"""Exit codes of a job that another try would not change (`pipeline.run.exit_codes`): 4 is a bug."""
INFRASTRUCTURE, INTERRUPTED = 3, 130

PATIENCE_SECONDS = 300.0
"""A head that does not answer for so long is lost. A job that only its tunnel lost would refuse the next one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.submit", description=__doc__)
    parser.add_argument("--address", help="http://... of the cluster's dashboard; default: $RAY_ADDRESS")
    parser.add_argument(
        "--tries", type=_at_least_one, default=4, help="times to try before 3 or 130 is the end (default 4)"
    )
    parser.add_argument("--pause", type=float, default=120.0, help="seconds between two tries (default 120)")
    parser.add_argument("--job", choices=JOBS, default=JOBS[0], help="jobs.<name> is run (default render)")
    parser.add_argument("keys", nargs="*", metavar="key=value", help="for the job, after --")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler that cancels
    if arguments.address:  # Ray takes those of the environment before the one that it is given
        os.environ["RAY_API_SERVER_ADDRESS"] = arguments.address
    try:
        return _run_until_it_ends(arguments.address, arguments.job, arguments.keys, arguments.tries, arguments.pause)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run_until_it_ends(address: str | None, job: str, keys: list[str], tries: int, pause: float) -> int:
    submission = _new_id(job)
    for number in range(1, tries + 1):
        try:
            code, final = _run(address, submission, job, keys)
            submission = _new_id(job)  # that one has ended
        except Exception as error:  # the head is away, or its tunnel; the client has no exceptions of its own
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            code, final = INFRASTRUCTURE, False
        if final or number == tries:
            break
        print(f"exit code {code}; try {number + 1} of {tries} in {pause:g} s", flush=True)
        time.sleep(pause)
    return code


def _new_id(job: str) -> str:
    """Chosen here and not by the head, so that a job can be found again whose submission was not answered."""
    return f"floatcast-{job}-{secrets.token_hex(6)}"


def _at_least_one(text: str) -> int:
    return max(1, int(text))


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _run(address: str | None, submission: str, name: str, keys: list[str]) -> tuple[int, bool]:
    """Submit, or find again what was submitted under this id, and wait; the exit code, and whether that is the end."""
    client = JobSubmissionClient(address)
    if _is_known(client, submission):
        print(f"job {submission}: found again", flush=True)
    else:
        entrypoint = shlex.join(["python", "-m", f"jobs.{name}", *keys])
        environment = {"working_dir": str(CHECKOUT)}
        client.submit_job(entrypoint=entrypoint, submission_id=submission, runtime_env=environment)
        print(f"job {submission}", flush=True)
    try:
        asyncio.run(_show_logs(client, submission))
        info = _wait(client, submission)
    except KeyboardInterrupt:
        client.stop_job(submission)
        info = _wait(client, submission)
    if info.status == JobStatus.STOPPED:  # by a person, or by whoever stopped this process
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
    except Exception as error:  # the job goes on without a reader
        print(f"no more log lines: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


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
