"""Which clips the workers have, and why workers died: because of a clip, of a sick machine, or of a lost node.

A worker says when it takes a clip and when it has ended with it. If a worker comes back, or another one takes its clip,
before that, the worker died with the clip. Such a death counts against the clip only if nothing else explains it:

- The node is gone (a spot instance, a network cut): nobody is to blame.
- Several different clips in a row died at one place (a GPU, or a worker that computes on CPUs): the place is sick, and
  is given no more work.
- Otherwise the clip is tried again, if possible elsewhere or after other clips have succeeded there. The clip is left
  alone if it died at two places, or twice at one that worked in between, or three times where there is no other place.

Nothing is written to the storage: the book lives as long as the job, because stopping a job kills all of its workers.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

SICK = 3
"""So many deaths in a row, of clips that have nothing in common, make a place sick."""

SICK_ALONE = 10
"""The same for the last place of a stage, because the job ends without it."""

MOST_DEATHS = 3
"""So many deaths are the clip's fault where no other place can try it."""

SUSPECT = 2
"""After so many deaths of one clip and no success at a place, only another place can tell which of the two it is."""

POSTPONED = 2
"""How often a clip waits for others after a death: once within its work unit, once for another unit."""

STARTS = 3
"""How often a place may fail to start a worker before it is given no more work."""


@dataclass(frozen=True)
class Place:
    """Where a worker computes; workers that share a GPU share a place."""

    node: str
    device: str


class Decision(Enum):
    """What a worker does with a clip that it wants to take."""

    TAKE = "take"
    """Take it."""
    TAKE_ALONE = "take alone"
    """Take it while no other clip is in work here: a worker died with it, and the next death must be unambiguous."""
    WAIT = "wait"
    """Take other clips first, or leave it to another worker."""
    LEAVE = "leave"
    """Leave it alone: it kills its workers."""
    RETIRE = "retire"
    """The worker's place gets no more work: it ends its process."""


@dataclass(frozen=True)
class Answer:
    """What the book says to a worker that wants to take a clip."""

    decision: Decision
    deaths: int = 0
    """Number of workers that died with the clip."""
    seen: bool = False
    """Whether a worker has had the clip before, so that it may be done already."""


class Attempts(Protocol):
    """What a worker of a stage tells about the clips that it has. A clip is named with its fingerprint."""

    def begin(self, clip: str, *, alone: bool) -> Answer:
        """The worker wants to take a clip; `alone` says that it has no other one.

        The attempt begins if the answer is TAKE, or TAKE_ALONE and the worker is alone.
        """
        ...

    def end(self, clip: str) -> None:
        """The attempt has ended, in whatever way, and the worker is alive."""
        ...


class NoAttempts:
    """For a stage in a process of its own, such as a notebook or a test: nobody is there who could survive a death."""

    def begin(self, clip: str, *, alone: bool) -> Answer:
        """Every clip is taken."""
        return Answer(Decision.TAKE)

    def end(self, clip: str) -> None:
        """Nothing is recorded."""


@dataclass(frozen=True)
class PutOff:
    """The result of a worker that leaves an item to another worker, or for later."""

    item: Any


@dataclass
class _Place:
    """What happened at a place."""

    ends: int = 0
    deaths: list[frozenset[str]] = field(default_factory=list)
    """The clips of each death since the last success."""
    failed_starts: int = 0
    sick: str = ""
    """Why it is given no more work; empty for a healthy place."""


@dataclass(frozen=True)
class _Death:
    place: Place
    ends: int
    """Number of successes at that place before."""


@dataclass
class _Stage:
    places: dict[Place, _Place] = field(default_factory=lambda: defaultdict(_Place))
    workers: dict[str, Place] = field(default_factory=dict)
    """The workers that have started, and where."""
    working: dict[str, Place] = field(default_factory=dict)
    """Those of them that are ready for work."""
    taken: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The clips that each worker has."""
    holder: dict[str, str] = field(default_factory=dict)
    """The worker that has a clip."""
    deaths: dict[str, list[_Death]] = field(default_factory=lambda: defaultdict(list))
    """Deaths with a clip."""
    waited: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often a clip has waited since its last death."""
    seen: set[int] = field(default_factory=set)
    """Hashes of the clips that were taken."""


@dataclass(frozen=True)
class StageState:
    """How the workers of a stage are, for a job's log."""

    arrived: int
    """Workers whose process has started."""
    fit: int
    """Those of them that are not at a sick place."""
    sick: dict[Place, str]
    """Places that get no more work, and why."""


class AttemptBook:
    """The attempts of all workers of a job. Not thread-safe: one actor, or one process, holds it."""

    def __init__(self, is_alive: Callable[[str], bool] = lambda node: True, postponed: int = POSTPONED) -> None:
        """`is_alive` says whether a node is still there; `postponed` is how often a clip waits after a death."""
        self._is_alive, self.postponed = is_alive, postponed
        self._stages: dict[str, _Stage] = defaultdict(_Stage)

    # --- Workers -----------------------------------------------------------------------------------------------

    def arrive(self, stage: str, worker: str, place: Place) -> str:
        """A worker's process has started, again if it is known. Returns why it must not work; empty if it may."""
        book = self._stages[stage]
        before = book.workers.get(worker)
        if before is not None:
            self._died(book, worker, before)
        book.workers[worker] = place
        return book.places[place].sick

    def ready(self, stage: str, worker: str) -> None:
        """The worker is set up."""
        book = self._stages[stage]
        place = book.workers[worker]
        book.working[worker] = place
        book.places[place].failed_starts = 0

    def unfit(self, stage: str, worker: str, reason: str) -> bool:
        """The worker could not be set up. Returns whether it is worth another try at this place."""
        book = self._stages[stage]
        place = book.places[book.workers[worker]]
        place.failed_starts += 1
        if place.failed_starts >= STARTS:
            place.sick = f"its workers do not start: {reason}"
        return not place.sick

    def _died(self, book: _Stage, worker: str, at: Place) -> None:
        """Account for the clips that a dead worker had."""
        was_working = book.working.pop(worker, None) is not None
        clips, place = book.taken.pop(worker, set()), book.places[at]
        for clip in clips:
            book.holder.pop(clip, None)
        if not self._is_alive(at.node):
            return
        if not clips:
            if not was_working:  # it died while it was set up
                place.failed_starts += 1
                if place.failed_starts >= STARTS:
                    place.sick = "its workers die while they start"
            return
        for clip in clips:
            book.deaths[clip].append(_Death(at, place.ends))
            book.waited[clip] = 0
        place.deaths.append(frozenset(clips))
        limit = SICK if self._others(book, at) else SICK_ALONE
        if len(place.deaths) >= limit and not frozenset.intersection(*place.deaths):
            place.sick = f"{len(place.deaths)} different clips in a row died here"

    # --- Clips -------------------------------------------------------------------------------------------------

    def begin(self, stage: str, worker: str, clip: str, *, alone: bool) -> Answer:
        """See `Attempts.begin`."""
        book = self._stages[stage]
        if worker not in book.workers:  # of an execution that is over
            return Answer(Decision.WAIT)
        holder = book.holder.get(clip)
        if holder is not None and holder != worker:  # it died and did not come back, or another worker got its unit
            self._died(book, holder, book.workers[holder])
        deaths, here = len(book.deaths.get(clip, ())), book.workers[worker]
        decision = self._decide(book, here, clip) if deaths else Decision.TAKE
        if book.places[here].sick:
            decision = Decision.RETIRE
        answer = Answer(decision, deaths, hash(clip) in book.seen)
        if decision is Decision.WAIT:
            book.waited[clip] += 1
        elif decision is Decision.TAKE or (decision is Decision.TAKE_ALONE and alone):
            book.taken[worker].add(clip)
            book.holder[clip] = worker
            book.seen.add(hash(clip))
        return answer

    def _decide(self, book: _Stage, here: Place, clip: str) -> Decision:
        deaths = book.deaths[clip]
        counted = [death for death in deaths if not book.places[death.place].sick]
        if len({death.place for death in deaths}) > 1:
            return Decision.LEAVE
        if not counted:
            return Decision.TAKE_ALONE
        last, place = counted[-1], book.places[counted[-1].place]
        if last.ends > counted[0].ends:  # the place worked between the two deaths
            return Decision.LEAVE
        others = self._others(book, last.place)
        if len(counted) >= MOST_DEATHS and not others:
            return Decision.LEAVE
        if here == last.place and place.ends == last.ends:
            if book.waited[clip] < self.postponed:
                return Decision.WAIT
            if others and len(counted) >= SUSPECT:
                place.sick = f"workers died here {len(counted)} times with {clip}, which others must try"
        return Decision.TAKE_ALONE

    def _others(self, book: _Stage, place: Place) -> set[Place]:
        """Places at which workers are ready, other than this one."""
        return {where for where in book.working.values() if where != place and not book.places[where].sick}

    def end(self, stage: str, worker: str, clip: str) -> None:
        """See `Attempts.end`."""
        book = self._stages[stage]
        if worker not in book.workers:
            return
        book.taken[worker].discard(clip)
        book.holder.pop(clip, None)
        place = book.places[book.workers[worker]]
        place.ends += 1
        place.deaths.clear()

    # --- State -------------------------------------------------------------------------------------------------

    def state(self, stage: str) -> StageState:
        """How the workers of a stage are."""
        book = self._stages[stage]
        fit = [worker for worker, place in book.workers.items() if not book.places[place].sick]
        return StageState(
            len(book.workers),
            len(fit),
            {place: found.sick for place, found in book.places.items() if found.sick},
        )

    def forget_workers(self) -> None:
        """The workers of an execution are gone, and not because of what they had."""
        for book in self._stages.values():
            book.workers.clear()
            book.working.clear()
            book.taken.clear()
            book.holder.clear()
