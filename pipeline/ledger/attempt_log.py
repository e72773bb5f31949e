"""Which items the workers have, and how many workers died with each item, to find items that kill their worker.

A worker writes a note when it takes an item, and removes the note when it ends with it, successfully or not. If the
note is still there when another worker takes the item, the first worker has died with it.
"""

from dataclasses import dataclass

from pipeline.ledger.done_store import DoneStore

ATTEMPTS = "attempts"

TRIES = 2
"""After this many workers have died with an item, it is not tried again."""


class TooManyDeathsError(Exception):
    """Too many workers died with an item, so it is left alone."""


@dataclass(frozen=True)
class AttemptLog:
    """The notes in one output folder: attempts/<name>.json for each item that a worker has."""

    output: str
    run: str
    """Deaths are counted per run of the job, because stopping a run kills all of its workers."""

    @property
    def _notes(self) -> DoneStore:
        return DoneStore(self.output, ATTEMPTS)

    def deaths(self, name: str) -> int:
        """Number of workers that died with the item in this run. Raises TooManyDeathsError."""
        note = self._notes.read(name) or {}
        deaths = note.get("tries", 0) if note.get("run") == self.run else 0
        if deaths >= TRIES:
            raise TooManyDeathsError(name)
        return deaths

    def begin(self, name: str, deaths: int) -> None:
        """Note that a worker takes the item after `deaths` others have died with it."""
        self._notes.write(name, {"run": self.run, "tries": deaths + 1})

    def end(self, name: str) -> None:
        """Remove the note: the worker is alive, whatever became of the item."""
        self._notes.remove(name)
