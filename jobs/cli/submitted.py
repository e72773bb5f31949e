"""Whether a job runs on a cluster, and outputs that would be lost with it there."""

import os

from pipeline.storage.uris import is_local


def on_cluster() -> bool:
    """Whether this process is a job that was submitted to a Ray cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def lost_output(output: str) -> str:
    """Why files written to `output` would be lost with the job; empty if they stay."""
    path = os.path.expanduser(output.removeprefix("file://"))
    if on_cluster() and is_local(output) and not os.path.isabs(path):
        return (
            f"output: {output!r} would be inside the copy of the working directory that `ray job submit` sends, and "
            "would be lost with it; give an absolute path or an s3:// URI"
        )
    return ""
