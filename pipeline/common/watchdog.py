"""Ends the process of a worker that hangs, because nothing else stops a library call that does not return."""

import logging
import os
import threading
import time

logger = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""Time that a clip has to end by itself after its time limit."""

HUNG = 14
"""Exit status of a process that was ended."""


class Watchdog:
    """Knows what is being worked on, and since when. Thread-safe."""

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60 + GRACE_SECONDS
        self._since: dict[str, float] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self, name: str) -> None:
        """Note that work on `name` begins."""
        self._since[name] = time.monotonic()

    def end(self, name: str) -> None:
        """Note that it has ended."""
        self._since.pop(name, None)

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(5.0, self._seconds / 4)):
            now = time.monotonic()
            late = [name for name, since in list(self._since.items()) if now - since > self._seconds]
            if late:
                logger.error("%s did not end within %.0f s: the process ends itself", ", ".join(late), self._seconds)
                os._exit(HUNG)
