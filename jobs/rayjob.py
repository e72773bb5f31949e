"""Run a job as the entrypoint of a RayJob on Kubernetes: `python -m jobs.rayjob python -m jobs.render key=value ...`.

KubeRay tries a Ray job that failed again, each time with a new cluster, whatever its exit code was. A Ray job that was
stopped is not tried again. This command runs the job and ends so that KubeRay does what the exit code asks for:

  0            the Ray job succeeds (jobStatus SUCCEEDED)
  1, 2, 4      the Ray job stops itself (jobStatus STOPPED): another try would change nothing; the log has the code
  other codes  the Ray job fails (jobStatus FAILED), and KubeRay tries again as often as `backoffLimit` says
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from ray.job_submission import JobSubmissionClient

from jobs.submit import ENDED, of_cluster

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable in which Ray tells a submitted process its job."""

PATIENCE_SECONDS = 120.0
"""How long to wait for Ray to end this process after it was asked to stop the job."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv`, by default that of the command line; returns its exit code."""
    command = list(sys.argv[1:] if argv is None else argv)
    if not command or command[0] in ("--help", "-h"):
        print(__doc__)
        return 0 if command else 2
    # Ray sends SIGTERM to this process and to the job. The job writes its last files, and this process must not end
    # before it: Ray kills what the entrypoint leaves behind.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    code = subprocess.run(command).returncode
    code = code if code >= 0 else 128 - code  # ended by a signal
    if code in ENDED and code != 0:
        _stop_this_job(code)
    return code


def _stop_this_job(code: int) -> None:
    """Ask Ray to stop the job that this process belongs to, and wait for the end. Returns if that is impossible."""
    job = json.loads(os.environ.get(JOB_CONFIG) or "{}").get("metadata", {}).get("job_submission_id")
    if not job:  # started by hand, and not by Ray
        return
    print(f"exit code {code}: another try would change nothing, so this Ray job stops itself", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        JobSubmissionClient().stop_job(job)
    except Exception as error:  # the client has no exceptions of its own
        print(f"error: the Ray job could not be stopped: {of_cluster(error)}", file=sys.stderr, flush=True)
        return
    time.sleep(PATIENCE_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
