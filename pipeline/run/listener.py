"""Who hears of the events of a run: a screen, or nobody."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pipeline.common.stage import Part
from pipeline.ledger.columns import ClipRow

OnRow = Callable[[ClipRow], object]


@dataclass(frozen=True)
class Work:
    """A part of a run that takes long."""

    doing: str
    """What is done with the clips, for the user."""
    clips: int
    seconds: float | None = None
    """Total length of these clips; None where each clip counts the same."""
    length_of: Callable[[ClipRow], float] = lambda row: 1.0
    """Length of one of them, also if `row` only has the number of its row."""
    under_way: Callable[[], Mapping[str, Part]] = dict
    """How far workers are with the clips that they have, by their ids."""


class Listener:
    """Receives the events of a run. This base class ignores them."""

    def say(self, line: str) -> None:
        """Receive a line for the user."""

    def progress(self, work: Work) -> AbstractContextManager[OnRow]:
        """A part of the work begins; the returned object is told about each clip that ends."""
        return _silence()

    def problem(self, error: BaseException, doing: str) -> None:
        """Receive the reason why the run cannot continue, or why a file was not written."""


@contextmanager
def _silence() -> Iterator[OnRow]:
    yield lambda row: None
