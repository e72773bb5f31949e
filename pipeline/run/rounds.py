"""Rounds of rendering: clips that have no row because their worker was given up are rendered again by other workers."""

from array import array
from collections.abc import Callable, Iterator, Sequence

from pipeline.ledger.columns import ClipRow
from pipeline.manifest.clip import Clip

ROUNDS = 5
"""So many rounds at most; the book of attempts needs two or three to quarantine a clip that kills all its workers."""

Render = Callable[[Sequence[Clip], Sequence[float]], Iterator[ClipRow]]
"""Renders clips with the given lengths in seconds, and yields one row for each, or none for clips that were lost."""


def in_rounds(
    render: Render, clips: Sequence[Clip], seconds: Sequence[float], say: Callable[[str], None]
) -> Iterator[ClipRow]:
    """Yield the rows of the clips as they end. Clips that still have none after the last round are left out."""
    for number in range(ROUNDS):
        ended = array("q")
        for row in render(clips, seconds):
            ended.append(row["row"])
            yield row
        if len(ended) >= len(clips) or (number and not ended):
            return
        known = set(ended)
        left = [i for i, clip in enumerate(clips) if clip.row not in known]
        clips, seconds = [clips[i] for i in left], [seconds[i] for i in left]
        say(f"{len(clips)} clips were lost with their workers: rendering them again")
