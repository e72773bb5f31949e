"""Sends the events of a run beside it, in one thread, so that a slow or dead receiver never holds up a render.

    events/<id>.json      a delivered event, written after the receiver has accepted it: it is not sent again
    events/unsent.jsonl   what the last run could not deliver; the next run of the same output sends it first

An event that was accepted just before a crash may be sent once more, under the same id.
"""

import json
import logging
import random
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.common.disk_collections import DiskDict, Spool
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.done_store import DoneStore
from pipeline.run.notify_event import NOT_TRIED, Event, clip_event, id_of_clip_event, run_event
from pipeline.run.notify_receiver import Receiver, RefusedEventError, UnreachableError
from pipeline.run.run import Run
from pipeline.storage.objects import filesystem, put_file, remove
from pipeline.storage.run_lock import LockedError
from pipeline.storage.set_aside import clear_way
from pipeline.storage.trouble import raise_if_trouble, reason
from pipeline.storage.uris import join, shown

logger = logging.getLogger(__name__)

EVENTS = "events"
UNSENT = "unsent.jsonl"

TRIES = 3
"""After so many failures in a row, an event gives way to the one behind it, so that it cannot hold up the others."""

PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between tries: the first, doubled for each failure in a row, up to the longest, with jitter."""

LAST_WORDS = 2.0
"""Seconds that the thread gets to end, once its connection is closed."""

_ID = re.compile(r"[0-9a-f]{32}")


class Notifier:
    """The events of one run. `start`, `clip` and `finish` are called by the run's own thread, and return at once, but
    for the bounded wait of `finish`.
    """

    def __init__(self, run: Run, receiver: Receiver) -> None:
        self._run, self._receiver = run, receiver
        self._store = DoneStore(run.output, EVENTS)
        self._unsent_file = join(run.output, EVENTS, run.selection.name(UNSENT))
        self._known = DiskDict()
        # Shared with the thread, under the lock:
        self._changed = threading.Condition()
        self._events: Spool[Event] = Spool()
        self._waiting: deque[int] = deque()
        self._sending: int | None = None  # until it is delivered, put aside or back into the queue
        self._aside: list[int] = []
        self._closing = self._over = False
        self._failures, self._failing = 0, set[int]()  # since the last success: how often, and which events
        self._problem = self._unrecorded = ""
        self._thread: threading.Thread | None = None

    # --- The run's thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """The run begins: send what earlier runs could not, and that it has begun. Raises StorageError."""
        self._known = DiskDict((name, "") for name in self._store.names())
        for event in self._left_by_the_last_run():
            self._put(event)
        self._put(run_event("run.started", self._run))
        self._run.on_end = self.clip
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    def clip(self, row: ClipRow) -> None:
        """A clip has ended. Nothing is sent for one whose event was delivered by an earlier run."""
        if row.get("error_code") not in NOT_TRIED and id_of_clip_event(row, self._run) not in self._known:
            self._put(clip_event(row, self._run))

    def finish(self) -> str:
        """The run has ended: wait for the rest, as long as the settings say, and keep for the next run what is left.

        Returns what to tell the user; empty if everything was delivered. May be called twice.
        """
        if self._thread is None:
            return ""
        if self._run.exit_code is not None:
            self._put(run_event("run.finished", self._run))
        try:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join(self._receiver.settings.wait_seconds)
        finally:  # also if the user does not want to wait
            self._stop()
            said = self._keep()
        return said

    def abandon(self) -> None:
        """Another run has taken over the output, and its events."""
        if self._thread is not None:
            self._stop()

    def _put(self, event: Event) -> None:
        if self._known.add(event.id, ""):
            with self._changed:
                self._waiting.append(len(self._events))
                self._events.append(event)
                self._changed.notify_all()

    def _stop(self) -> None:
        """End the thread, and the request that it may wait for."""
        thread, self._thread = self._thread, None
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._receiver.abort()
        if thread is not None:
            thread.join(LAST_WORDS)

    def _left_by_the_last_run(self) -> Iterator[Event]:
        clear_way(self._unsent_file, self._run.output)
        fs, path = filesystem(self._unsent_file)
        damaged = 0
        with suppress(FileNotFoundError), _storage(self._unsent_file), fs.open(path, "rb") as file:
            for line in file:
                try:
                    event = Event(**json.loads(line))
                    if not (_ID.fullmatch(event.id) and isinstance(event.type, str) and isinstance(event.body, str)):
                        raise ValueError
                except (ValueError, TypeError, RecursionError):
                    damaged += 1
                    continue
                yield event
        if damaged:
            logger.warning("%s: %d of its lines are damaged and are left out", shown(self._unsent_file), damaged)

    def _keep(self) -> str:
        """Write what is left where the next run finds it; returns what to tell the user."""
        with self._changed:
            sending = [] if self._sending is None else [self._sending]
            left = sorted([*sending, *self._waiting, *self._aside])  # in the order in which they happened
        count = len(left)
        problem = self._problem or f"{self._receiver.host} did not take {_them(count)} in time"
        said = f"{count} event{'' if count == 1 else 's'} {'was' if count == 1 else 'were'} not delivered: {problem}"
        try:
            if not count:
                remove(self._unsent_file)
                return self._unrecorded
            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
                file.writelines(json.dumps(vars(self._events[i])) + "\n" for i in left)
                file.flush()
                put_file(Path(file.name), self._unsent_file)
        except Exception as error:  # the run has ended nevertheless
            return f"{said}; {shown(self._unsent_file)} could not be written: {reason(error)}"
        return f"{said}; the next run sends {_them(count)}"

    # --- Its thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._deliver(event)

    def _next(self) -> Event | None:
        """The next event, waiting for one; None if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._closing or self._waiting)
            if self._over or not self._waiting:
                return None
            self._sending = self._waiting.popleft()
            return self._events[self._sending]

    def _deliver(self, event: Event) -> None:
        for tried in range(1, TRIES + 1):
            try:
                self._receiver.post(event)
            except RefusedEventError as error:
                self._put_aside(str(error))
                return
            except UnreachableError as error:
                if not self._wait(str(error), error.pause, last=tried == TRIES):
                    return
            except Exception as error:  # of this program: the render goes on
                logger.error("an event could not be sent", exc_info=error)
                self._put_aside("a bug in this program, see the log")
                return
            else:
                self._record(event)
                with self._changed:
                    self._sending, self._failures = None, 0
                    self._failing.clear()
                return
        with self._changed:
            if not self._over and self._sending is not None:
                (self._aside if self._closing else self._waiting).append(self._sending)
                self._sending = None

    def _put_aside(self, problem: str) -> None:
        with self._changed:
            if not self._over and self._sending is not None:
                self._aside.append(self._sending)
                self._problem, self._sending = problem, None

    def _wait(self, problem: str, pause: float, *, last: bool) -> bool:
        """Wait after a failure. Returns False if nothing more is to be sent."""
        with self._changed:
            if self._over or self._sending is None:
                return False
            self._problem = problem
            self._failures += 1
            self._failing.add(self._sending)
            # It is the receiver that fails, and not one event: do not keep the user.
            if self._closing and self._failures > TRIES and len(self._failing) > 1:
                self._over = True
                return False
            pause = max(pause, min(LONGEST_PAUSE, PAUSE * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1))
            if not (last and self._closing):
                closing = self._closing
                self._changed.wait_for(lambda: self._over or self._closing != closing, pause)
            return not self._over

    def _record(self, event: Event) -> None:
        try:
            self._store.create(event.id, {"id": event.id, "type": event.type, "delivered": round(time.time(), 3)})
        except Exception as error:  # it is sent again, under the same id
            logger.debug("why", exc_info=error)
            self._unrecorded = "not every delivered event could be recorded in the output; the next run sends it again"


@contextmanager
def notifying(run: Run, receiver: Receiver | None) -> Iterator[Notifier | None]:
    """The events of a run, which end with the context at the latest; None without a receiver."""
    notifier = None if receiver is None else Notifier(run, receiver)
    try:
        yield notifier
    except LockedError:
        if notifier is not None:
            notifier.abandon()
        raise
    finally:
        if notifier is not None:
            notifier.finish()


@contextmanager
def _storage(uri: str) -> Iterator[None]:
    """Turn trouble with the storage into StorageError."""
    try:
        yield
    except Exception as error:  # every client library has its own exceptions
        raise_if_trouble(error, f"{shown(uri)} could not be read")
        raise


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
