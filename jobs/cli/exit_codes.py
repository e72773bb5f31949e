"""From the error that ends a job to its message and exit code (`pipeline.run.exit_codes`)."""

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from pipeline.common.errors import ClusterError, RefusedError, StorageError
from pipeline.common.interruptions import Interruptions
from pipeline.common.redaction import redacted
from pipeline.run.exit_codes import BUG, INTERRUPTED, code_of
from pipeline.storage.explained import said_by_us
from pipeline.storage.trouble import is_trouble, reason

CODES = "Exit codes: 0 done; 2 refused, change what the message names; 3 the storage or the cluster failed; 4 a bug."
"""Line of `--help` for jobs without exit codes of their own."""

REPORT = "this is a bug in Floatcast: please report it with the lines above and the command"


def fail(message: str, code: int) -> int:
    """Print an error without credentials; returns the exit code."""
    print(f"error: {redacted(message)}", file=sys.stderr, flush=True)
    return code


def told(error: BaseException, doing: str = "") -> int:
    """Print what ended the job while `doing` something, with a traceback if it is a bug; returns the exit code."""
    code = code_of(error)
    if code == BUG:
        print(redacted("".join(traceback.format_exception(error))), file=sys.stderr)
        text = f"{said_by_us(error)}; {REPORT}".removeprefix("; ")
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif isinstance(error, RefusedError | ClusterError | StorageError):
        text = str(error)
    elif is_trouble(error):
        text = reason(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.filename}: {text}"
    else:
        logging.getLogger(__name__).info("the cluster", exc_info=error)
        text = "the Ray cluster failed, or lost the nodes that the job needs: check it, and run the same command again"
    return fail(f"{doing}: {text}" if doing else text, code)


def ended(work: Callable[[], int], interrupted: str = "interrupted: run the same command again to resume") -> int:
    """Do a job's work and return its exit code. This is the outermost level, so every exception is reported here.

    SIGTERM, the notice of spot machines, `ray job stop` and cancelled pods, interrupts the work like Ctrl-C. A second
    signal does not break what is written at the end (`pipeline.common.interruptions`).
    """
    main = threading.current_thread() is threading.main_thread()
    if main:
        signal.signal(signal.SIGTERM, _interrupt)
    with Interruptions():
        try:
            code = work()
        except KeyboardInterrupt:
            code = fail(interrupted, INTERRUPTED)
        except Exception as error:  # the outer boundary of a job
            return told(error)
    if code == INTERRUPTED and main:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would kill the process before it returns 130
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
