"""Which items a worker has now, and how many workers died with each: so that one that kills its worker is found.

A worker notes that it takes an item, and removes the note at the end, good or bad. A note that is still there when
another worker comes to the item is a worker that died with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.ledger.done_store import DoneStore

ATTEMPTS = "attempts"

TRIES = 2
"""Workers that may die with an item: it is not tried a third time."""


class TooManyDeathsError(Exception):
    """So many workers died with an item that it is left alone."""


@dataclass(frozen=True)
class AttemptLog:
    """Of one output folder: attempts/<name>.json for each item that a worker has."""

    output: str
    run: str
    """Deaths are counted within a run of the job: one that was killed killed all of its workers."""
    remembers: bool = False
    """Whether an item with too many deaths is left alone in later runs too, until `end`."""

    @property
    def _notes(self) -> DoneStore:
        return DoneStore(self.output, ATTEMPTS)

    def deaths(self, name: str) -> int:
        """Workers that died with the item in this run. Raises TooManyDeathsError."""
        note = self._notes.read(name) or {}
        deaths = note.get("tries", 0) if note.get("run") == self.run else 0
        if deaths >= TRIES or note.get("quarantined"):
            if self.remembers:
                self._notes.write(name, note | {"quarantined": True})
            raise TooManyDeathsError(name)
        return deaths

    def begin(self, name: str, deaths: int) -> None:
        """A worker takes the item, `deaths` others having died with it."""
        self._notes.write(name, {"run": self.run, "tries": deaths + 1})

    def end(self, name: str) -> None:
        """The worker lives, whatever came of the item."""
        self._notes.remove(name)

    def names(self) -> Iterator[str]:
        """Names of all items that have a note."""
        return self._notes.names()

    def uri(self, name: str) -> str:
        """Where the note of an item is."""
        return self._notes.uri(name)

    def quarantined(self, name: str) -> bool:
        """Whether an item is left alone in later runs."""
        return bool((self._notes.read(name) or {}).get("quarantined"))
