"""Progress of a job: a bar on a terminal, a plain line every 10 s in a log."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.common.terminal import unfiltered

LINE_SECONDS = 10.0


class Progress:
    """Counts rows with a status as they arrive. Use it as a context manager.

    If `length_of` returns the length of a clip, speed and ETA are based on seconds of audio, of which there are
    `total`. `things` is the name of what is counted.
    """

    def __init__(
        self,
        clips: int,
        total: float | None = None,
        length_of: Callable[[Any], float] = lambda row: 1.0,
        measure: str = "s of video",
        things: str = "clips",
    ) -> None:
        self._clips, self._length_of, self._measure, self._things = clips, length_of, measure, things
        self._total = clips if total is None else total
        self._finished = 0.0
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._start = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._stop = threading.Event()

    def __enter__(self) -> "Progress":
        self._bar = tqdm(
            total=self._clips,
            disable=not self._terminal,
            file=unfiltered(sys.stderr),  # it moves the cursor, and shows nothing of a manifest
            dynamic_ncols=True,
            # the ETA is computed here
            bar_format="{percentage:3.0f}%|{bar}| {n}/{total} " + self._things + " [{elapsed}{postfix}]",
        )
        if not self._terminal:
            threading.Thread(target=self._print_lines, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._bar.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count an item that has ended."""
        self._counts[row["status"]] += 1
        if row.get("error_code"):
            self._codes[row["error_code"]] += 1
        self._finished += self._length_of(row)
        self._bar.set_postfix_str(self.state(), refresh=False)
        self._bar.update()

    def state(self) -> str:
        """Counts, speed, ETA and the most frequent errors, in one line."""
        elapsed = time.monotonic() - self._start
        parts = [f"{count} {status}" for status, count in sorted(self._counts.items())] or ["starting"]
        if self._finished and elapsed:
            rate = self._finished / elapsed
            parts.append(f"{rate:.2f} {self._measure} per s")
            parts.append(f"ETA {duration_text((self._total - self._finished) / rate)}")
        parts += [f"{code} x {count}" for code, count in self._codes.most_common(3)]
        return ", ".join(parts)

    def _print_lines(self) -> None:
        while not self._stop.wait(LINE_SECONDS):
            ended, elapsed = sum(self._counts.values()), time.monotonic() - self._start
            print(f"[{duration_text(elapsed)}] {ended} of {self._clips} {self._things}: {self.state()}", flush=True)


def duration_text(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
