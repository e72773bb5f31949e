"""Ctrl-C and SIGTERM: the first one stops the work, and what is written at its end is not broken by the next ones.

`jobs.cli.exit_codes.ended` opens `Interruptions` around the work of every job, and a rendering that Python starts does
so itself. Code that must not stop halfway runs inside `held`, whoever called it.
"""

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

WAITING = "the last files are being written: press Ctrl-C once more to give them up"


class Interruptions:
    """While this context lasts, the first signal raises KeyboardInterrupt, and from then on signals are held back.

    They are also held back inside `held`. A signal that comes a second after the first one held back raises
    KeyboardInterrupt nevertheless, for people who do not want to wait. Inside another such context this one does
    nothing. It does nothing either outside the main thread, which is the only one that gets signals, and leaves
    signals alone that this process ignores or does not handle.
    """

    def __init__(self) -> None:
        self._holding = 0
        self._stopped = False
        self._since: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruptions":
        global _active
        if threading.current_thread() is threading.main_thread() and _active is None:
            _active = self
            for number in NUMBERS:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._signalled)
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        if _active is self:
            _active = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back."""
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


_active: Interruptions | None = None
"""The outermost context of this process."""


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back, for work that must not stop halfway; nothing where no `Interruptions` is open."""
    if _active is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _active.held():
        yield
