"""Ctrl-C and SIGTERM: the first one stops the work, and what is written at its end is not broken by the next ones."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)

CALM_SECONDS = 1.0
"""Two signals within this time are one wish: people press Ctrl-C twice, and shells pass it on twice."""

WAITING = "the end of the run is being written: press Ctrl-C once more to give that up"


class Interruptions:
    """While this context lasts, the first signal raises KeyboardInterrupt, and from then on signals are held back.

    They are also held back inside `held`. A signal that comes a second after the first one held back raises
    KeyboardInterrupt nevertheless, for people who do not want to wait. Does nothing outside the main thread, which is
    the only one that gets signals, and leaves signals alone that this process ignores or does not handle.
    """

    def __init__(self) -> None:
        self._holding = 0
        self._stopped = False
        self._since: float | None = None

    def __enter__(self) -> "Interruptions":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._signalled)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back, for work that must not stop halfway."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._stopped and not self._holding:
            self._stopped = True
            raise KeyboardInterrupt
        if self._since is None:
            self._since = now
            print(WAITING, file=sys.stderr, flush=True)
        elif now - self._since > CALM_SECONDS:
            raise KeyboardInterrupt
