"""What the user sees of a run while it works: lines, and a progress bar with an ETA."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.common.progress import Progress
from pipeline.ledger.columns import ClipRow
from pipeline.run.render_loop import Listener, OnRow


class Screen(Listener):
    """Prints the events of a run. It does not print problems, because the caller that catches them does."""

    def say(self, line: str) -> None:
        """Print the line at once."""
        print(line, flush=True)

    @contextmanager
    def progress(
        self, clips: int, seconds: float | None = None, length_of: Callable[[ClipRow], float] | None = None
    ) -> Iterator[OnRow]:
        """Show a bar on a terminal, or an occasional line in a log."""
        bar = Progress(clips, measure="clips") if length_of is None else Progress(clips, seconds, length_of)
        with bar as progress:
            yield progress.add
