"""What a job finds damaged, missing or foreign in its output folder: told to the user, and moved out of the way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.storage.records import Damaged
from pipeline.storage.set_aside import DAMAGED, set_aside
from pipeline.storage.uris import join, shown

TOLD = 20
"""So many findings are told one by one."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as an earlier run left it."""

    uri: str
    what: str
    """The rest of a sentence that starts with the file, such as `is missing`."""
    then: str
    """What follows from it, as a clause."""
    aside: tuple[str, ...] = ()
    """URIs that are moved into the folder `damaged`."""

    def __str__(self) -> str:
        return f"{shown(self.uri)} {self.what}: {self.then}"


def finding_of(found: Damaged, then: str) -> Finding:
    """A damaged file that is moved aside."""
    return Finding(found.uri, f"is damaged ({found.why})", then, (found.uri,))


def move_aside(findings: Iterable[Finding], output: str) -> int:
    """Move what was found into the folder `damaged` of the output; returns how many files were moved.

    Raises RefusedError and StorageError.
    """
    return sum(bool(set_aside(uri, output)) for finding in findings for uri in finding.aside)


def told(groups: Iterable[Sequence[Finding]], output: str, *, moved: bool) -> Iterator[str]:
    """The findings as lines for the user, the first ones of each group.

    `moved` says whether they were moved, or would be.
    """
    aside = 0
    for findings in groups:
        for number, finding in enumerate(findings):
            aside += len(finding.aside)
            if number < TOLD:
                yield f"NOTE: {finding}"
        if len(findings) > TOLD:
            yield f"NOTE: ... and {len(findings) - TOLD} more such files"
    if aside:
        where = shown(join(output, DAMAGED))
        yield f"NOTE: {aside} files {'were moved' if moved else 'would be moved'} to {where}"
