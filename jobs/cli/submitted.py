"""A job that runs on a cluster: outputs that would be lost with it."""

import os

from pipeline.storage.uris import is_local


def lost_output(output: str) -> str:
    """Why files written to `output` would be lost with the job; empty if they stay."""
    path = os.path.expanduser(output.removeprefix("file://"))
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and is_local(output) and not os.path.isabs(path):
        return (
            f"output: {output!r} would be inside the copy of the working directory that `ray job submit` sends, and "
            "would be lost with it; give an absolute path or an s3:// URI"
        )
    return ""
