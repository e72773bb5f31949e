"""Hard cuts between shots, detected in frames of 32 x 32 pixels.

A frame begins a shot under three conditions: it differs from the previous frame by more than `DIFFERENCE` (mean
absolute difference of RGB, out of 1); this is `JUMP` times more than the differences around it; and nothing from before
comes back, because each of the next `REACH` frames differs as much from each of the last. The second condition keeps
pans and fast turns together, which last for several frames. The third keeps flashes of up to `REACH` - 1 frames
together.

Measured with a portrait before three backgrounds: a swaying head changes the frame by 0.01 to 0.02, a head that jumps
by 5 % of the frame width by 0.06, a cut to another scene by 0.29, and a cut to the same scene at 1.15 times (1.3 times)
the size by 0.06 to 0.19 (0.11 to 0.25). Dissolves, fades and cuts that change less are not detected. A cut that moves
the face is also detected by tracking the face (`pipeline.training_data.track`).
"""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.training_data.source_video import SourceFrame

DIFFERENCE = 0.05
JUMP = 3.0
AROUND = 2
"""Number of frames on both sides whose changes a jump is compared with."""
REACH = 4


def with_cuts(pictures: Iterable[tuple[int, SourceFrame]]) -> Iterator[tuple[int, SourceFrame, bool]]:
    """(n, frame) -> (n, frame, whether it begins a shot), `REACH` - 1 frames later. The first frame begins one."""
    waiting: deque[tuple[int, SourceFrame]] = deque()
    seen: deque[np.ndarray] = deque(maxlen=2 * REACH)  # `REACH` earlier frames, and those that wait
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
    """Mean absolute difference of two int16 frames, from 0 to 1."""
    return float(np.abs(one - other).mean()) / 255


def _is_cut(seen: list[np.ndarray], waiting: int) -> bool:
    """Whether the first of the last `waiting` frames begins a shot."""
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
