"""Hard cuts between shots, seen in pictures of 32 x 32 pixels.

A frame begins a shot where its picture differs from the one before by more than `DIFFERENCE` (mean absolute difference
of RGB, of 1), `JUMP` times more than pictures differ around it, and where nothing of before comes back: all of the
next `REACH` pictures differ as much from all of the last. The second keeps pans and fast turns together, which last for
several frames; the third keeps flashes together, of up to `REACH` - 1 frames.

Measured on a portrait before three backgrounds: a head that sways changes the picture by 0.01 to 0.02, one that jumps
by 5 % of the picture's width by 0.06, a cut to another scene by 0.29, a cut to 1.15 times (1.3 times) the size of the
picture by 0.06 to 0.19 (0.11 to 0.25). Not found: dissolves, fades, and cuts that change less. A cut that moves the
face is found by the face too (`pipeline.training_data.track`).
"""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.training_data.source_video import Picture

DIFFERENCE = 0.05
JUMP = 3.0
AROUND = 2
"""Frames on both sides whose changes a jump is compared with."""
REACH = 4


def with_cuts(pictures: Iterable[tuple[int, Picture]]) -> Iterator[tuple[int, Picture, bool]]:
    """(n, picture) -> (n, picture, whether it begins a shot), `REACH` - 1 frames later. The first one does."""
    waiting: deque[tuple[int, Picture]] = deque()
    seen: deque[np.ndarray] = deque(maxlen=2 * REACH)  # `REACH` of before, and those that wait
    for item in pictures:
        waiting.append(item)
        seen.append(item[1].small.astype(np.int16))
        if len(waiting) == REACH:
            yield *waiting[0], _is_cut(list(seen), len(waiting))
            waiting.popleft()
    while waiting:
        yield *waiting[0], _is_cut(list(seen), len(waiting))
        waiting.popleft()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two int16 pictures, from 0 to 1."""
    return float(np.abs(one - other).mean()) / 255


def _is_cut(seen: list[np.ndarray], waiting: int) -> bool:
    """Whether the first of the last `waiting` pictures begins a shot."""
    at = len(seen) - waiting
    if at <= 0:
        return True
    change = difference(seen[at - 1], seen[at])
    if change <= DIFFERENCE:
        return False
    near = [n for n in range(max(1, at - AROUND), min(len(seen), at + AROUND + 1)) if n != at]
    if near and change < JUMP * max(difference(seen[n - 1], seen[n]) for n in near):
        return False
    before, after = seen[max(0, at - REACH) : at], seen[at : at + REACH]
    return all(difference(one, other) > DIFFERENCE for one in before for other in after)
