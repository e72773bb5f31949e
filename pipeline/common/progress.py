"""Progress of a job: a bar on a terminal, a plain line every 10 s in a log."""

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.common.stage import Part
from pipeline.common.terminal import one_line, say, unfiltered

LINE_SECONDS = 10.0
BAR_SECONDS = 1.0
"""How often a bar is drawn again while nothing ends, so that nobody thinks that the job hangs."""

DRAW_SECONDS = 0.1
"""How often it is drawn at most because items end."""

ALMOST = 0.99
"""Share of the work that is shown at most as long as items are missing: the end of an item takes time too."""

SOON_SECONDS = 1.0
"""A speed over less time would mean nothing."""

STALE = 1000
"""So many items that ended last are remembered: reports about items in work are a few seconds old."""

NAME_LETTERS = 40


class Progress:
    """Counts rows with a status as they arrive. Use it as a context manager.

    If `length_of` returns the length of a clip, speed and ETA are based on seconds of audio, of which there are
    `total`. `things` is the name of what is counted, and `doing` says what happens to it. `under_way` returns how far
    the items in work are, by their ids; it is called every second, and `length_of` also gets the row of such an item.
    A bar that does not stay is removed at its end. `first` is shown while nothing is known yet.
    """

    def __init__(
        self,
        clips: int,
        total: float | None = None,
        length_of: Callable[[Any], float] = lambda row: 1.0,
        measure: str = "s of video",
        things: str = "clips",
        *,
        doing: str = "",
        under_way: Callable[[], Mapping[str, Part]] = dict,
        stays: bool = True,
        first: str = "starting",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clips, self._length_of, self._measure, self._things = clips, length_of, measure, things
        self._total = float(clips if total is None else total)
        self._doing, self._under_way, self._stays, self._clock = doing, under_way, stays, clock
        self._first = first
        self._finished = self._position = 0.0
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._ended: deque[str] = deque(maxlen=STALE)
        self._start = self._drawn = clock()
        self._from: tuple[float, float] | None = None
        """Time and position from which the speed is measured: workers take long to start."""
        self._terminal = sys.stderr.isatty()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        self._bar = tqdm(
            total=self._total,
            disable=not self._terminal,
            file=unfiltered(sys.stderr),  # it moves the cursor, and names are shown as `one_line` gives them
            dynamic_ncols=True,
            leave=self._stays,
            # counts, speed and ETA are computed here
            bar_format="{desc}{percentage:3.0f}%|{bar:20}| [{elapsed}{postfix}]",
        )
        self._draw()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()  # it writes nothing more
        self._draw()
        self._bar.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count an item that has ended."""
        with self._lock:
            self._counts[row["status"]] += 1
            if row.get("error_code"):
                self._codes[row["error_code"]] += 1
            self._finished += self._length_of(row)
            self._ended.append(str(row.get("clip_id")))
        if self._clock() - self._drawn >= DRAW_SECONDS:
            self._draw()

    def state(self) -> str:
        """Counts, items in work, speed, ETA and the most frequent errors, in one line."""
        parts = self._under_way()
        with self._lock:
            ended, now = set(self._ended), self._clock()
            parts = {item: part for item, part in parts.items() if item not in ended}
            position = self._advance(parts)
            if self._from is None and parts:
                self._from = now, position
            since, before = self._from or (self._start, 0.0)
            texts = [f"{count} {status}" for status, count in sorted(self._counts.items())] + _in_work(parts)
            if (moved := position - before) > 0 and now - since >= SOON_SECONDS:
                rate = moved / (now - since)
                texts.append(f"{rate:.2f} {self._measure} per s")
                texts.append(f"ETA {duration_text((self._total - position) / rate)}")
            texts += [f"{code} x {count}" for code, count in self._codes.most_common(3)]
            return ", ".join(texts) or self._first

    def _advance(self, parts: Mapping[str, Part]) -> float:
        """How much is done. It never goes back: between two workers nobody reports a clip."""
        begun = sum(
            self._length_of({"row": part.row}) * part.done / part.total for part in parts.values() if part.total
        )
        most = self._total if sum(self._counts.values()) >= self._clips else self._total * ALMOST
        self._position = max(self._position, min(self._finished + begun, most))
        return self._position

    @property
    def _ended_of(self) -> str:
        return f"{sum(self._counts.values())} of {self._clips} {self._things}"

    def _draw(self) -> None:
        if not self._terminal:
            return
        self._drawn, state = self._clock(), self.state()
        head = f"{self._doing}, " if self._doing else ""
        self._bar.n = self._position
        self._bar.set_description_str(f"{head}{self._ended_of}: ", refresh=False)
        self._bar.set_postfix_str(_encodable(state), refresh=False)
        self._bar.refresh()

    def _tell(self) -> None:
        while not self._stop.wait(BAR_SECONDS if self._terminal else LINE_SECONDS):
            if self._terminal:
                self._draw()
            else:
                state = self.state()
                say(f"[{duration_text(self._clock() - self._start)}] {self._ended_of}: {state}")


def _encodable(text: str) -> str:
    """The text with letters that the terminal does not have written as numbers."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _in_work(parts: Mapping[str, Part]) -> list[str]:
    """For each stage, its items in work, and how far they are if the stage counts their frames."""
    texts = []
    for stage in dict.fromkeys(part.stage for part in parts.values()):
        ours = {item: part for item, part in parts.items() if part.stage == stage}
        name = one_line(next(iter(ours)))[:NAME_LETTERS] if len(ours) == 1 else f"{len(ours)} clips"
        done, total = sum(part.done for part in ours.values()), sum(part.total for part in ours.values())
        texts.append(f"{stage}: {name}" + (f" {done} of {total} frames" if done < total else ""))
    return texts


def duration_text(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
