"""From what ends a job to what a person reads and the exit code (`pipeline.run.exit_codes`)."""

import sys
import traceback
from collections.abc import Callable

from pipeline.common.errors import ClusterError, RefusedError, StorageError
from pipeline.common.redaction import redacted
from pipeline.run.exit_codes import BUG, INTERRUPTED, code_of

CODES = "Exit codes: 0 done; 2 refused, change what the message names; 3 the storage or the cluster failed; 4 a bug."
"""Line of `--help`, for jobs without a code of their own."""

REPORT = "this is a bug in Floatcast: please report it with the lines above and the command"


def fail(message: str, code: int) -> int:
    """Tell an error without its credentials; returns the exit code."""
    print(f"error: {redacted(message)}", file=sys.stderr, flush=True)
    return code


def told(error: BaseException, doing: str = "") -> int:
    """Tell a person what ended the job, `doing` what, with a traceback where that is a bug; returns the exit code."""
    code = code_of(error)
    if code == BUG:
        print(redacted("".join(traceback.format_exception(error))), file=sys.stderr)
        text = f"{type(error).__name__}: {error}; {REPORT}"
    elif isinstance(error, RefusedError | ClusterError | StorageError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return fail(f"{doing}: {text}" if doing else text, code)


def ended(work: Callable[[], int], interrupted: str = "interrupted: run the same command again to resume") -> int:
    """Do a job's work -> its exit code. Whatever it raises is told to whoever started it: nobody is above to do so."""
    try:
        return work()
    except KeyboardInterrupt:
        return fail(interrupted, INTERRUPTED)
    except Exception as error:  # the border of a job
        return told(error)
