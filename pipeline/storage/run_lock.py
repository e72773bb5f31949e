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
from pipeline.storage.objects import create_bytes, join, read_bytes, remove, write_bytes

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
    run is dead takes `PATIENCE_SECONDS`, or no time where it was on this machine. The commits are safe even if two
    runs are at work (`pipeline.ledger.ledger`); the lock saves the cost of rendering twice.
    """

    def __init__(
        self, output: str, run: str, name: str = "run.lock", on_beat: Callable[[], None] | None = None
    ) -> None:
        self._uri = join(output, name)
        self._content: dict[str, Any] = {"run": run, "host": socket.gethostname(), "pid": os.getpid(), "beat": 0}
        self._on_beat = on_beat
        self._stop = threading.Event()

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
        remove(self._uri)

    def _take_over(self) -> None:
        first = self._read()
        end = time.monotonic() + PATIENCE_SECONDS
        while first and not self._died_here(first) and time.monotonic() < end:
            time.sleep(1)
            now = self._read()
            if now and now != first:
                raise LockedError(
                    f"run {now['run']} is using this output (process {now['pid']} on {now['host']}): wait until it "
                    "has ended, or choose another output"
                )
            first = now
        write_bytes(self._encoded(), self._uri)

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
            self._content["beat"] += 1
            try:
                write_bytes(self._encoded(), self._uri)
                if self._on_beat:
                    self._on_beat()
            except Exception as error:  # every client library has exceptions of its own; the next beat tries again
                logger.warning("%s could not be written: %s", self._uri, error)

    def _read(self) -> dict[str, Any]:
        return json.loads(read_bytes(self._uri) or b"{}")

    def _encoded(self) -> bytes:
        return json.dumps(self._content).encode()
