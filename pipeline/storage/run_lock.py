"""One run at a time per output folder: a lock that a live run keeps renewing, and that expires with the run."""

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
"""A lock that was not renewed for this long belongs to a dead run. It is longer than any outage that delays a
renewal.
"""


def new_run_id() -> str:
    """A unique id that sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)


class LockedError(RefusedError):
    """Another run is using the same output."""


class RunLock:
    """Lock called `name` in an output folder. Use it as a context manager; raises LockedError if another run is alive.

    Only the renewals of the other run are compared, never its clock, so clocks may differ. It takes `PATIENCE_SECONDS`
    to find out that a run is dead, or no time if it ran on this machine. Commits are safe even if two runs are active
    (`pipeline.ledger.ledger`); the lock only avoids the cost of rendering twice.
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
        except OSError:  # the process exists, and belongs to another user
            pass
        return False

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._content["beat"] += 1
            try:
                write_bytes(self._encoded(), self._uri)
                if self._on_beat:
                    self._on_beat()
            except Exception as error:  # every client library has its own exceptions; the next renewal tries again
                logger.warning("%s could not be written: %s", self._uri, error)

    def _read(self) -> dict[str, Any]:
        return json.loads(read_bytes(self._uri) or b"{}")

    def _encoded(self) -> bytes:
        return json.dumps(self._content).encode()
