"""Any exception in words for a person: in rows, notes, tables and on screens. The log has its traceback."""

import re
import sys
import traceback
from pathlib import Path

from pipeline.common.errors import ClipError, ClusterError, RefusedError
from pipeline.common.terminal import one_line
from pipeline.storage.trouble import is_trouble, reason

OURS = Path(__file__).parents[2]
"""Folder of `models`, `pipeline` and `jobs`."""

REPORT = "please report it with the log, which has the details"

LONGEST = 200
"""Characters of what our own code says of a bug."""


def explained(error: BaseException) -> str:
    """What an exception means, and what to do.

    Errors that our code raises for users, its RuntimeErrors (about a worker's machine), and those of the storage speak
    for themselves. Of all others a person learns where in our code they came up, and what our code says of it; the
    words of libraries and the names of exceptions mean nothing to who reads a table.
    """
    error = getattr(error, "cause", None) or error  # Ray wraps an error of a worker, and says it with its traceback
    if isinstance(error, ClipError | RefusedError | ClusterError):
        return str(error)
    said = said_by_us(error)
    if said and isinstance(error, RuntimeError | OSError):  # about the machine, with what to change
        return said
    if is_trouble(error):
        return reason(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "the process ran out of memory: use workers with more memory, or give each of them less to do"
    if isinstance(error, ImportError) and error.name:
        return f"the package {error.name.partition('.')[0]} is missing or broken: install it on every node"
    if any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__):
        return "a worker or a node of the Ray cluster was lost: check Ray's logs, and run the same command again"
    if _is_of_the_device(error):
        return "the GPU cannot be used: check its driver, and the log of the worker, which has the details"
    bug = f"this is a bug{_place(error)}: {REPORT}"
    return f"{said}; {bug}" if said else bug


def _is_of_the_device(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # then it cannot be, and the import takes seconds
        return False
    from pipeline.common.broken_device import is_device_failure

    return is_device_failure(error)


def said_by_us(error: BaseException) -> str:
    """The text of an exception that our own code has raised; empty for one of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    raised = frames and _is_ours(frames[-1]) and re.match(r"raise\b", frames[-1].line or "")
    if isinstance(error, OSError) and error.errno is not None:  # the system's, passed on by a child process
        return ""
    return one_line(str(error)).rstrip(".")[:LONGEST] if raised else ""


def _place(error: BaseException) -> str:
    """The innermost place in our code at which an exception came up; empty if there is none."""
    last = next(filter(_is_ours, reversed(traceback.extract_tb(error.__traceback__))), None)
    return f" at {Path(last.filename).relative_to(OURS).as_posix()}, line {last.lineno}" if last else ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    return path.is_relative_to(OURS) and path.relative_to(OURS).parts[0] in ("models", "pipeline", "jobs")
