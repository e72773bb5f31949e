"""What a child process does (`pipeline.common.child`): one piece of work after another, until its parent ends."""

import faulthandler
import fcntl
import logging
import os
import pickle
import sys
import time
import traceback
from multiprocessing.connection import Connection

BEGUN, DECODED, RETURNED, RAISED = "begun", "decoded", "returned", "raised"
"""Kinds of messages to the parent."""

TELL_SECONDS = 0.5
"""How often the parent is told."""

MOST_AT_ONCE = 1.0
"""Seconds that count for a single frame: time stamps of a damaged file may jump."""

logger = logging.getLogger(__name__)

_parent: Connection | None = None
_decoded = _told = 0.0


def tell_decoded(seconds: float) -> None:
    """Readers say here how many more seconds of sound or pictures they have decoded, which allows more time.

    Does nothing in a process that is not such a child.
    """
    global _decoded, _told
    if _parent is None:
        return
    _decoded += min(max(seconds, 0.0), MOST_AT_ONCE)
    if (now := time.monotonic()) - _told > TELL_SECONDS:
        _told = now
        _parent.send((DECODED, _decoded))


def main() -> None:
    """Serve the parent at the other end of the socket sys.argv[1]; sys.argv[2] is a pipe that it never writes to."""
    global _parent
    _die_with(int(sys.argv[2]))
    faulthandler.enable()
    _parent = Connection(int(sys.argv[1]))
    while _serve(_parent):
        pass


def _die_with(pipe: int) -> None:
    """Be ended by the kernel, whatever is computed, when the other end of a pipe is closed."""
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO, which ends a process


def _serve(parent: Connection) -> bool:
    """Do one piece of work; returns False if there is no more."""
    global _decoded
    try:
        request = parent.recv_bytes()
    except EOFError:
        return False
    answer: tuple[str, object]
    try:
        work, arguments = pickle.loads(request)
        del request  # it has a copy of what may be a large file
        _decoded = 0.0
        parent.send((BEGUN, 0.0))
        answer = RETURNED, work(*arguments)
    except Exception as error:
        answer = RAISED, _sendable(error)
    parent.send(answer)
    return True


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note, if it stays the same when it is sent; otherwise its text."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:
        logger.debug("an exception that cannot be sent", exc_info=True)
    return RuntimeError(f"{type(error).__name__}: {error}")
