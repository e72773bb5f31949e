"""What a person sees of a run while it works: lines, and a bar with an ETA."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.common.progress import Progress
from pipeline.ledger.clip_row import StatusRow
from pipeline.run.render_loop import Listener, OnRow


class Screen(Listener):
    """Prints what a run does; of a problem it says nothing, as whoever catches it does."""

    def say(self, line: str) -> None:
        """Print it at once."""
        print(line, flush=True)

    @contextmanager
    def progress(
        self, clips: int, seconds: float | None = None, length_of: Callable[[StatusRow], float] | None = None
    ) -> Iterator[OnRow]:
        """A bar on a terminal, a line now and then in a log."""
        bar = Progress(clips, measure="clips") if length_of is None else Progress(clips, seconds, length_of)
        with bar as progress:
            yield progress.add
