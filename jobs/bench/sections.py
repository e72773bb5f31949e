"""The sections of the benchmark, and the clock that they share.

Sections do not depend on each other: each is tried whatever became of the others, and what it returns is plain JSON.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from jobs.bench.job import Figures, Outcome, Results, say
from pipeline.common.errors import RefusedError
from pipeline.common.progress import duration_text

if TYPE_CHECKING:
    from jobs.bench.subject import Subject


@dataclass(frozen=True)
class Section:
    """A part of the benchmark."""

    name: str
    place: str
    """Its function, as module:function; it takes a `Subject` and returns figures."""
    least: float
    """Seconds that must be left for it to begin."""
    most: float
    """Seconds after which it is ended."""
    text: str
    """What it does, for the user."""

    def measure(self, subject: "Subject") -> Figures:
        """Do it in this process."""
        module, _, name = self.place.partition(":")
        function: Callable[[Subject], Figures] = getattr(importlib.import_module(module), name)
        return function(subject)


SECTIONS = (
    Section("machine", "jobs.bench.machine:measure_machine", 1, 60, "device, driver and versions"),
    Section("ceilings", "jobs.bench.machine:measure_ceilings", 5, 90, "products, convolutions and copies per type"),
    # Before any engine, which sets allocator options that would speed up the released algorithm too.
    Section("baseline", "jobs.bench.rendering:measure_baseline", 10, 150, "the released algorithm"),
    Section("self_test", "jobs.bench.engines:measure_self_test", 5, 120, "the test of a render worker"),
    Section("encode", "jobs.bench.encoding:measure_encoding", 5, 60, "video encoders that open here, and the disk"),
    Section("tuner", "jobs.bench.engines:measure_tuner", 20, 360, "choice of the engine"),
    Section("rendering", "jobs.bench.rendering:measure_engine", 15, 150, "the engine, stage by stage"),
    Section("compose", "jobs.bench.composing:measure_composing", 10, 120, "full frames of 1920 x 1080 from its frames"),
    Section("features", "jobs.bench.features:measure_features", 10, 150, "speech encoders, and loading a clip"),
    Section("parity", "jobs.bench.engines:measure_parity", 5, 90, "fast modules against plain float32 without TF32"),
    Section("quality", "jobs.bench.quality:measure_quality", 5, 60, "quality control of a clip"),
    Section("ray", "jobs.bench.overhead:measure_overhead", 10, 90, "Ray itself, with stages that do nothing"),
)

PLANNED = ("machine", "encode", "tuner", "rendering", "features")
"""Sections whose rates a plan needs."""


class Runner(Protocol):
    """Where sections are measured: in another process (`jobs.bench.worker`), or here."""

    def run(self, section: Section, seconds: float, failed: Sequence[str]) -> Outcome:
        """Measure a section within so many seconds; `failed` names those before it that are not done. Never raises
        for what a section does.
        """

    def close(self) -> None:
        """Measure nothing more."""


@dataclass
class Clock:
    """The time of a run."""

    seconds: float
    now: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.now()

    @property
    def spent(self) -> float:
        """Seconds since the run began."""
        return self.now() - self.begun

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.spent


def chosen(names: Sequence[str], known: Sequence[Section] = SECTIONS) -> list[Section]:
    """The sections with these names in the benchmark's order; all without names. Raises RefusedError."""
    unknown = [name for name in names if name not in {section.name for section in known}]
    if unknown:
        raise RefusedError(
            f"sections: there is no section {unknown[0]!r}; choose from {', '.join(section.name for section in known)}"
        )
    return [section for section in known if not names or section.name in names]


def measure(
    sections: Sequence[Section], runner: Runner, clock: Clock, results: Results, *, all_needed: bool = False
) -> None:
    """Measure the sections one after another, as long as there is time, and say how each begins and ends.

    A section leaves those after it the time that they need to begin. If `all_needed`, because the result is worth
    nothing without one of them, it leaves them half of the time that they may take or, where that is too much, takes
    its share of what is left.
    """
    for number, section in enumerate(sections, 1):
        later = sections[number:]
        head = f"[{number}/{len(sections)}] {section.name}"
        if clock.left < section.least:
            outcome = Outcome(
                "skipped", reason=f"{max(0, clock.left):.0f} s are left, and it needs {section.least:g} s"
            )
        else:
            kept = sum(one.most / 2 if all_needed else one.least for one in later)
            share = clock.left * section.most / (section.most + sum(one.most for one in later)) if all_needed else 0.0
            most = max(section.least, min(section.most, max(clock.left - kept, share)))
            end = duration_text(min(clock.left, most + sum(one.most for one in later)))
            say(f"{head}: {section.text}, at most {most:.0f} s; all sections end in {end} at the latest ...")
            before = clock.spent
            failed = [name for name, found in results.sections.items() if found.status != "done"]
            outcome = runner.run(section, most, failed)
            outcome.seconds = round(clock.spent - before, 2)
        results.sections[section.name] = outcome
        how = f": {outcome.reason}" if outcome.reason else f" in {outcome.seconds:.0f} s"
        say(f"{head}: {outcome.status}{how}")
