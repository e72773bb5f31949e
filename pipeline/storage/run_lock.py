"""One run at a time on an output folder: a lock that a living run keeps beating, and that dies with it."""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pipeline.common.errors import RefusedError
from pipeline.storage.objects import create_bytes, join, read_bytes, remove
from pipeline.storage.replacing import replace_bytes

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 20.0
"""A lock that does not beat for so long belongs to a run that is dead. Longer than storage is ever down for a beat."""


def new_run_id() -> str:
    """Unique, and sorted by time."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)


class LockedError(RefusedError):
    """Another run is at work on the same output."""


class RunLock:
    """Lock of `name` in an output folder. Use as a context manager; LockedError where another run lives.

    Only the beats of the other run are looked at and never its clock, so that clocks may differ: finding out that a
    run is dead takes `PATIENCE_SECONDS`, or no time where it was on this machine. Each beat is written in place of the
    one before and of nothing else: a run that was taken for dead, as its beats came late, finds that out with the next
    one and is `lost`. The commits are safe even while two runs are at work (`pipeline.ledger.ledger`).
    """

    def __init__(
        self,
        output: str,
        run: str,
        name: str = "run.lock",
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        """`on_beat` is called in a thread of the lock's own."""
        self._uri = join(output, name)
        self._content: dict[str, Any] = {"run": run, "host": socket.gethostname(), "pid": os.getpid(), "beat": 0}
        self._on_beat = on_beat
        self._stop = threading.Event()
        self.lost = False
        """Whether another run has taken the output over."""

    def __enter__(self) -> "RunLock":
        if not create_bytes(self._encoded(), self._uri):
            self._take_over()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if not self.lost and self._read() == self._content:  # another run's lock is not ours to remove
            remove(self._uri)

    def check(self) -> None:
        """Raise LockedError where another run has taken the output over."""
        if self.lost:
            raise LockedError(
                f"run {self._read().get('run', 'another')} has taken this output over, as this one did not show that "
                "it lives: what this run has committed counts, and the other one goes on with the rest"
            )

    def _take_over(self) -> None:
        first = read_bytes(self._uri)
        end = time.monotonic() + PATIENCE_SECONDS
        while first and not self._died_here(json.loads(first)) and time.monotonic() < end:
            time.sleep(1)
            now = read_bytes(self._uri)
            if now and now != first:
                raise LockedError(_at_work(json.loads(now)))
            first = now
        taken = replace_bytes(self._encoded(), self._uri, first) if first else False
        if not taken and not create_bytes(self._encoded(), self._uri):
            raise LockedError(_at_work(self._read()))

    def _died_here(self, other: dict[str, Any]) -> bool:
        if other.get("host") != socket.gethostname():
            return False
        try:
            os.kill(int(other["pid"]), 0)
        except ProcessLookupError:
            return True
        except OSError:  # it lives, and is another user's
            pass
        return False

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            before = self._encoded()
            self._content["beat"] += 1
            try:
                if not replace_bytes(self._encoded(), self._uri, before) and self._read() != self._content:
                    self.lost = True
                    logger.error("another run has taken over %s", self._uri)
                    return
                if self._on_beat:
                    self._on_beat()
            except Exception as error:  # every client library has exceptions of its own; the next beat tries again
                if self._read_or_none() != self._content:
                    self._content["beat"] -= 1  # it was not written
                logger.warning("%s could not be written: %s", self._uri, error)

    def _read_or_none(self) -> dict[str, Any] | None:
        try:
            return self._read()
        except Exception:  # of the same storage that just failed
            return None

    def _read(self) -> dict[str, Any]:
        return json.loads(read_bytes(self._uri) or b"{}")

    def _encoded(self) -> bytes:
        return json.dumps(self._content).encode()


def _at_work(other: dict[str, Any]) -> str:
    return (
        f"run {other.get('run')} is at work on this output (process {other.get('pid')} on {other.get('host')}): wait "
        "for its end, or choose another output"
    )
