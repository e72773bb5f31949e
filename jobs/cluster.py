"""The cluster that a job runs on, and how the job is interrupted."""

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import ray

from pipeline.storage import is_local


def connect(address: str, *, hide_workers: bool = False) -> None:
    """Join the cluster at `address` or $RAY_ADDRESS, or start Ray on this machine for as long as the job runs.

    `hide_workers`: what they print does not come here, as the job passes on what a person wants to read.
    """
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    dashboard = {"include_dashboard": False} if address == "local" else {}
    if address == "local":
        give_python_a_path_without_spaces()
    # Lines of workers would tear the progress bar apart; in a job's log they belong. Ray keeps them in its files.
    shown = not (hide_workers or sys.stderr.isatty())
    ray.init(address, logging_level=logging.ERROR, log_to_driver=shown, **dashboard)
    take_sigterm()  # Ray sets a handler of its own, which ends the process


def give_python_a_path_without_spaces() -> None:
    """Ray 2.60 starts its agent of runtime environments by a command line that it splits at spaces.

    Without that agent Ray Train waits for ever. A virtual environment works through a link to it.
    """
    if " " not in sys.executable:
        return
    folder = tempfile.mkdtemp(prefix="floatcast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python = Path(sys.executable)
    link = Path(folder) / "python"
    link.symlink_to(python.parents[1], target_is_directory=True)
    sys.executable = str(link / python.parent.name / python.name)


def take_sigterm() -> None:
    """Raise KeyboardInterrupt on SIGTERM: notice of a spot machine, `ray job stop`, a cancelled pod."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def lost_output(output: str) -> str:
    """Why what is written to `output` would be lost with the job; empty where it stays."""
    path = os.path.expanduser(output.removeprefix("file://"))
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and is_local(output) and not os.path.isabs(path):
        return (
            f"output: {output!r} would lie in the copy of the working directory that `ray job submit` sends, and be "
            "lost with it: give an absolute path or an s3:// URI"
        )
    return ""
