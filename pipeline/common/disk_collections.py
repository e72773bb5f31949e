"""Sequences, mappings and loops over a million clips in bounded memory: long data is stored on this machine's disk."""

import os
import pickle
import sqlite3
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar, overload

T = TypeVar("T")
R = TypeVar("R")


class LazySequence(Sequence[T]):
    """A sequence that creates each item when it is accessed, by `_item(i)` for i from 0 to len - 1."""

    def _item(self, i: int) -> T:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._item(i) for i in range(*index.indices(len(self)))]
        return self._item(range(len(self))[index])


class Spool(LazySequence[T]):
    """An append-only list on disk, with 8 bytes of memory per item. It is deleted with the object."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the spool
        self._ends = array("q", [0])
        self._unwritten = False
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        data = pickle.dumps(item)
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))
        self._unwritten = True

    def __len__(self) -> int:
        return len(self._ends) - 1

    def stored_bytes(self, i: int) -> int:
        """Size of an item on disk."""
        return self._ends[i + 1] - self._ends[i]

    def _item(self, i: int) -> T:
        if self._unwritten:
            self._file.flush()
            self._unwritten = False
        start = self._ends[i]
        # unlike seek and read, pread does not move the position at which the next item is appended
        return pickle.loads(os.pread(self._file.fileno(), self._ends[i + 1] - start, start))  # written by this process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class DiskDict:
    """A mapping from text to text on disk. For one thread."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name, which is deleted with the object
        self._db.execute("CREATE TABLE items (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", items)
        self._db.execute("COMMIT")
        self._empty = self._db.execute("SELECT key FROM items LIMIT 1").fetchone() is None

    def add(self, key: str, value: str) -> bool:
        """Add a text. Returns False and changes nothing if `key` exists."""
        self._empty = False
        return self._db.execute("INSERT OR IGNORE INTO items VALUES (?, ?)", (key, value)).rowcount == 1

    def get(self, key: str) -> str | None:
        """Value of `key`; None if it does not exist."""
        if self._empty:  # SQLite would let other threads run for each question, and a first run asks twice per clip
            return None
        found = self._db.execute("SELECT value FROM items WHERE key = ?", (key,)).fetchone()
        return found and found[0]

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last one may be shorter."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


REQUESTS = 32
"""Number of threads that wait for the storage at a time."""


def mapped(
    action: Callable[[T], R], items: Iterable[T], threads: int = REQUESTS, stop: Callable[[], None] = lambda: None
) -> Iterator[tuple[T, R]]:
    """(item, action(item)) in order.

    Threads work a few items ahead, whereas `Executor.map` consumes all items at once. If this ends early, for example
    because it is interrupted, what has not begun is left out, and `stop` ends what has.
    """
    if threads == 1:  # for a disk, where a thread costs more than its work
        yield from ((item, action(item)) for item in items)
        return
    pending: deque[tuple[T, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(action, item)))
                if len(pending) >= 4 * threads:
                    first, future = pending.popleft()
                    yield first, future.result()
            for first, future in pending:
                yield first, future.result()
        except BaseException:  # the pool waits for its threads
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
