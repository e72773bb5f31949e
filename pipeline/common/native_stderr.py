"""Lines that native libraries write to the standard error without a switch to turn them off."""

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2

_lock = threading.Lock()


@contextmanager
def native_stderr_without(pattern: str) -> Iterator[None]:
    """Leave out the lines that match `pattern` from what this process writes to its standard error meanwhile.

    For short calls only: all other lines, of any thread, are written when the context ends. Does nothing if the
    process has no standard error.
    """
    with _lock, tempfile.TemporaryFile() as kept:
        try:
            before = os.dup(STDERR)
        except OSError:  # a daemon may have closed it
            yield
            return
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(before, STDERR)
            os.close(before)
            kept.seek(0)
            for line in kept:
                if not re.search(pattern.encode(), line):
                    os.write(STDERR, line)
