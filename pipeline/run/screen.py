"""What the user sees of a run while it works: lines, and a progress bar with an ETA."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.common.progress import Progress
from pipeline.common.terminal import say
from pipeline.run.listener import Listener, OnRow, Work


class Screen(Listener):
    """Prints the events of a run. It does not print problems, because the caller that catches them does."""

    def say(self, line: str) -> None:
        """Print the line at once."""
        say(line)

    @contextmanager
    def progress(self, work: Work) -> Iterator[OnRow]:
        """Show a bar on a terminal, or an occasional line in a log. Only the bar of the rendering stays."""
        measure = "clips" if work.seconds is None else "s of video"
        with Progress(
            work.clips,
            work.seconds,
            work.length_of,
            measure,
            doing=work.doing,
            under_way=work.under_way,
            stays=work.seconds is not None,
            first="starting" if work.seconds is None else "the workers load their models",
        ) as progress:
            yield progress.add
