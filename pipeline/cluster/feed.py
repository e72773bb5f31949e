"""Hands work units to Ray Data one after another, as its workers take them.

A data set that lists all units from the start costs the driver about 14 kB for each of them until the job ends. Here
the source is one task beside the driver, which waits for the board: only a few units are in memory at a time, units
keep their length whatever the manifest, and units that a worker puts off are added at the end.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from pipeline.cluster.nodes import this_node
from pipeline.cluster.source import Source
from pipeline.cluster.work_units import Unit, unit_of

QUIET_SECONDS = 30.0
"""After so long without a result, no clip is expected to be put off any more, and the source of units ends. Those that
are put off later have no result, and the caller may run them again.
"""


def _units(board: Any) -> Iterator[pa.Table]:
    while (unit := ray.get(board.next_unit.remote())) is not None:
        yield pa.table({"unit": [unit]})


def read_units(board: Any) -> ray.data.Dataset:
    """A data set of the units, one row and one block each, read beside this process as long as there are any."""
    source = Source([partial(_units, board)])
    dataset = ray.data.read_datasource(source, override_num_blocks=1, num_cpus=0, resources=this_node())
    dataset.context.target_max_block_size = 1  # every unit is a block of its own at once, and does not wait for others
    return dataset


class Feeder:
    """Offers units to a board from a thread of the driver, and then those that were put off."""

    def __init__(self, board: Any, units: Iterable[Unit], pack: Callable[[Unit], bytes]) -> None:
        self._board, self._units, self._pack = board, units, pack
        self._again: queue.SimpleQueue[Unit] = queue.SimpleQueue()
        self._outstanding, self._last = 0, time.monotonic()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.error: BaseException | None = None
        """What ended the thread early."""
        threading.Thread(target=self._feed, name="feeder", daemon=True).start()

    def ended(self, put_off: Sequence[Any]) -> None:
        """A unit has ended, except for items that another worker must try."""
        for item in put_off:
            with self._lock:
                self._outstanding += 1
            self._again.put(unit_of(item))
        with self._lock:
            self._outstanding -= 1
            self._last = time.monotonic()

    def close(self) -> None:
        """Offer nothing more."""
        self._closed.set()
        ray.get(self._board.close.remote())

    def _feed(self) -> None:
        try:
            for unit in self._units:
                if self._closed.is_set():
                    return
                with self._lock:
                    self._outstanding += 1
                self._offer(unit)
            self._last = time.monotonic()
            while self._outstanding > 0 and time.monotonic() - self._last < QUIET_SECONDS:
                if self._closed.wait(0.2):
                    return
                while not self._again.empty():
                    self._offer(self._again.get())
            ray.get(self._board.no_more.remote())
        except BaseException as error:  # given to the thread that waits for results
            self.error = error

    def _offer(self, unit: Unit) -> None:
        ray.get(self._board.offer.remote(self._pack(unit)))
