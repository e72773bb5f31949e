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

from pipeline.common.errors import ClusterError, RefusedError
from pipeline.storage.explained import explained
from pipeline.storage.objects import create_bytes, read_bytes, remove
from pipeline.storage.replacing import replace_bytes
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import join

logger = logging.getLogger(__name__)

SUBMITTER = "FLOATCAST_SUBMITTER"
"""Environment variable in which `jobs.submit` tells all tries of one submission its name."""

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 20.0
"""A lock that was not renewed for this long belongs to a dead run. It is longer than any outage that delays a
renewal.
"""
LOOK_SECONDS = 0.25
"""How often it is looked at in that time."""


def new_run_id() -> str:
    """A unique id that sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)


class LockedError(RefusedError):
    """Another run is using the same output."""


class RunLock:
    """Lock called `name` in an output folder. Use it as a context manager; raises LockedError if another run is alive.

    If that run is an earlier try of the same `jobs.submit`, the refusal is not final: it is a ClusterError.

    Only the renewals of the other run are compared, never its clock, so clocks may differ. It takes `PATIENCE_SECONDS`
    to find out that a run is dead, or no time if it ran on this machine. A damaged lock is that of a dead run, unless
    something renews it within that time. Each renewal replaces the previous one and
    nothing else: a run that was taken for dead because its renewals came late finds this out with the next renewal, and
    is then `lost`. Commits are safe even if two runs are active (`pipeline.ledger.ledger`).
    """

    def __init__(
        self,
        output: str,
        run: str,
        name: str = "run.lock",
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        """`on_beat` is called in a thread of the lock's own."""
        self._output, self._uri = output, join(output, name)
        self._content: dict[str, Any] = {"run": run, "host": socket.gethostname(), "pid": os.getpid(), "beat": 0}
        if submitter := os.environ.get(SUBMITTER):
            self._content["submitter"] = submitter
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
        """Raise LockedError if another run has taken over the output."""
        if self.lost:
            raise LockedError(
                f"run {self._read().get('run', 'another')} has taken over this output, because this run did not renew "
                "its lock in time: what this run has committed is kept, and the other run continues with the rest"
            )

    def _take_over(self) -> None:
        clear_way(self._uri, self._output)  # no run writes a folder or a link
        first = read_bytes(self._uri)
        if first is not None and _decoded(first) == self._content:
            return  # it was written, but the answer was lost, and the client's second try found our own file
        end = time.monotonic() + PATIENCE_SECONDS
        while first is not None and not self._died_here(_decoded(first)) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            now = read_bytes(self._uri)
            if now is not None and now != first:
                raise self._refusal(_decoded(now))
            first = now
        taken = replace_bytes(self._encoded(), self._uri, first) if first is not None else False
        if not taken and not create_bytes(self._encoded(), self._uri) and (found := self._read()) != self._content:
            raise self._refusal(found)

    def _refusal(self, other: dict[str, Any]) -> Exception:
        """The error for a run that is alive."""
        ours = self._content.get("submitter")
        if ours and other.get("submitter") == ours:
            return ClusterError(
                f"run {other.get('run')}, an earlier try of the same submission, is still using this output: another "
                "try continues when it has ended"
            )
        return LockedError(_at_work(other))

    def _died_here(self, other: dict[str, Any]) -> bool:
        if other.get("host") != socket.gethostname():
            return False
        try:
            os.kill(int(other["pid"]), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except (KeyError, TypeError, ValueError):  # damaged
            return False
        except OSError:  # the process exists, and belongs to another user
            pass
        return False

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            before = self._encoded()
            self._content["beat"] += 1
            try:
                if not replace_bytes(self._encoded(), self._uri, before) and not self._renewed_anew():
                    self.lost = True
                    logger.error("another run has taken over %s", self._uri)
                    return
                if self._on_beat:
                    self._on_beat()
            except Exception as error:  # every client library has its own exceptions; the next renewal tries again
                if self._read_or_none() != self._content:
                    self._content["beat"] -= 1  # it was not written
                logger.warning("%s could not be written: %s", self._uri, explained(error))

    def _renewed_anew(self) -> bool:
        """Whether the lock is still ours, though it was not as we left it: somebody has removed or damaged the file,
        and it is written again. A lock of another run is left alone.
        """
        clear_way(self._uri, self._output)
        found = read_bytes(self._uri)
        if found is None:
            return create_bytes(self._encoded(), self._uri)
        if found == self._encoded():
            return True
        return "run" not in _decoded(found) and replace_bytes(self._encoded(), self._uri, found)

    def _read_or_none(self) -> dict[str, Any] | None:
        try:
            return self._read()
        except Exception:  # the same storage has just failed
            return None

    def _read(self) -> dict[str, Any]:
        return _decoded(read_bytes(self._uri) or b"")

    def _encoded(self) -> bytes:
        return json.dumps(self._content).encode()


def _decoded(data: bytes) -> dict[str, Any]:
    """What a lock says; nothing if it is damaged."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _at_work(other: dict[str, Any]) -> str:
    if "run" not in other:
        return "another run is writing its lock into this output: run the same command again later"
    return (
        f"run {other.get('run')} is using this output (process {other.get('pid')} on {other.get('host')}): wait until "
        "it has ended, or choose another output"
    )
