"""Reads the samples of the coming steps in threads, so that the next batch is there when it is wanted.

Threads and not processes: decoding and reading leave Python's lock alone, and the clients of object storage do not
survive a fork.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.training.samples import Samples
from pipeline.training.settings import DataSettings


def read_batches(
    samples: Samples, settings: DataSettings, *, seed: int, steps: range, places: range
) -> Iterator[tuple[int, Any, float]]:
    """(step, batch of the samples at `places`, seconds that were waited for it), in the order of `steps`."""
    waiting: deque[tuple[int, list[Future[Any]]]] = deque()
    coming = iter(steps)
    with ThreadPoolExecutor(settings.threads, "read") as threads:
        try:
            while True:
                while len(waiting) < settings.ahead and (step := next(coming, None)) is not None:
                    waiting.append((step, [threads.submit(samples.sample, seed, step, place) for place in places]))
                if not waiting:
                    return
                step, futures = waiting.popleft()
                start = time.perf_counter()
                batch = samples.collate([future.result() for future in futures])
                yield step, batch, time.perf_counter() - start
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
