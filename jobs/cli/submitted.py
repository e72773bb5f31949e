"""Precautions of a job that runs on a cluster: SIGTERM, and outputs that would be lost with it."""

import os
import signal

from pipeline.storage.uris import is_local


def take_sigterm() -> None:
    """Raise KeyboardInterrupt on SIGTERM, the notice of spot machines, `ray job stop` and cancelled pods."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def lost_output(output: str) -> str:
    """Why files written to `output` would be lost with the job; empty if they stay."""
    path = os.path.expanduser(output.removeprefix("file://"))
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and is_local(output) and not os.path.isabs(path):
        return (
            f"output: {output!r} would be inside the copy of the working directory that `ray job submit` sends, and "
            "would be lost with it; give an absolute path or an s3:// URI"
        )
    return ""
