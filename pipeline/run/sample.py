"""Which clips of a manifest a preview renders: few that show as much of what differs as they can.

The choice follows from the manifest alone, so that the same manifest gives the same preview.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import parts_of

MOST_KINDS = 20_000
"""Kinds of clips (combinations of traits) that are told apart; later ones of a manifest with more only count."""

NAMED = 5
"""Number of values that are named, of those that no clip of a preview shows."""

Trait = tuple[str, str]
"""What a clip has, and its value: ("language", "de")."""


def _kind(clip: Clip) -> str:
    return "dialogue" if clip.faces else "speech" if clip.seconds is None else "without speech"


def _speaker(clip: Clip) -> str:
    return " and ".join(part.speaker for part in parts_of(clip) if part.speaker) or "not given"


def _emotion(clip: Clip) -> str:
    clip = parts_of(clip)[0]
    if clip.spans:
        return "by span"
    if clip.emotion is None:
        source = clip.emotion_from
        return source if source in ("none", "neutral") else f"predicted from {source}"
    return max(clip.emotion.items(), key=lambda item: item[1])[0]


TRAITS: dict[str, Callable[[Clip], str]] = {
    "language": lambda clip: clip.language or "not given",
    "speaker": _speaker,
    "emotion": _emotion,
    "frame": lambda clip: clip.frame,
    "preset": lambda clip: clip.preset or "of the run",
    "kind": _kind,
}
"""What clips differ in that a person wants to see. Of a mixture of emotions the strongest counts, and of a dialogue the
emotion of its first face.
"""

ALL_TRAITS = ", ".join(TRAITS).replace(", kind", " and kind")


def traits_of(clip: Clip) -> tuple[Trait, ...]:
    """What a clip has of what clips differ in, in the order of `TRAITS`."""
    return tuple((name, value(clip)) for name, value in TRAITS.items())


class Chosen(NamedTuple):
    """A clip of the preview."""

    clip: Clip
    reason: str
    """Why it was chosen, for a person."""


@dataclass
class Sample:
    """The clips of a preview, in the order in which they were chosen."""

    chosen: list[Chosen] = field(default_factory=list)
    clips: int = 0
    """Number of clips among which was chosen."""
    missing: list[Trait] = field(default_factory=list)
    """What no chosen clip shows, the most frequent first."""

    def describe(self) -> str:
        """One line for the user."""
        text = f"{len(self.chosen)} of {self.clips} clips"
        if not self.missing:
            return f"{text}; together they show every {ALL_TRAITS} of the manifest"
        named = ", ".join(f"{name} {value}" for name, value in self.missing[:NAMED])
        more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
        return f"{text}; they do not show {named}{more}"


@dataclass
class _Kind:
    """Clips with the same traits."""

    position: int
    """That of the first of them."""
    count: int = 0


def choose(clips: Sequence[Clip], candidates: Iterable[tuple[int, Clip]], number: int) -> Sample:
    """Choose `number` of the candidates, which are positions in `clips` with the clips there, in their order.

    Each choice is the one that shows most of what was not seen yet; among equal ones that with the more frequent
    values, and then the first. When everything was seen, it begins anew with the kinds of clips that are left. Clips
    beyond one of each kind are spread over the manifest.
    """
    kinds: dict[tuple[Trait, ...], _Kind] = {}
    counts, positions = Counter[Trait](), array("q")
    for position, clip in candidates:
        traits = traits_of(clip)
        counts.update(traits)
        positions.append(position)
        if traits in kinds or len(kinds) < MOST_KINDS:
            kinds.setdefault(traits, _Kind(position)).count += 1
    # What all clips have in common is nothing to choose by.
    values = Counter(name for name, _ in counts)
    differing = {trait for trait in counts if values[trait[0]] > 1}
    sample, taken = Sample(clips=len(positions)), set[int]()
    for traits, news in _picks(kinds, counts, differing):
        if len(sample.chosen) == number:
            break
        kind = kinds[traits]
        taken.add(kind.position)
        alike = [trait for trait in traits if trait in differing]
        sample.chosen.append(Chosen(clips[kind.position], _reason(news, alike, counts, kind.count)))
    for position in _spread(positions, taken, number - len(sample.chosen)):
        sample.chosen.append(Chosen(clips[position], "one more of them, from another part of the manifest"))
    shown = {trait for one in sample.chosen for trait in traits_of(one.clip)}
    sample.missing = sorted(differing - shown, key=lambda trait: (-counts[trait], trait))
    return sample


def _picks(
    kinds: dict[tuple[Trait, ...], _Kind], counts: Counter[Trait], differing: set[Trait]
) -> Iterator[tuple[tuple[Trait, ...], list[Trait]]]:
    """Kinds in the order in which they are chosen, each with what is seen for the first time with it."""
    left, unseen = dict(kinds), set(differing)
    ever = set(differing)
    while left:

        def worth(traits: tuple[Trait, ...]) -> tuple[int, int, int]:
            news = [trait for trait in traits if trait in unseen]  # noqa: B023 - used before it changes
            return len(news), sum(counts[trait] for trait in news), -left[traits].position

        best = max(left, key=worth)
        if not worth(best)[0] and unseen != differing:  # everything was seen: once more
            unseen = set(differing)
            continue
        yield best, [trait for trait in best if trait in ever]
        unseen -= set(best)
        ever -= set(best)
        del left[best]


def _reason(news: Sequence[Trait], alike: Sequence[Trait], counts: Counter[Trait], count: int) -> str:
    """`alike` is what a clip has in common with `count` clips, of what clips differ in."""
    if news:
        return ", ".join(f"{name} {value} ({_rows(counts[name, value])})" for name, value in news)
    if alike:
        return f"another combination: {', '.join(f'{name} {value}' for name, value in alike)} ({_rows(count)})"
    return f"the first one; all clips are alike in {ALL_TRAITS}"


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _spread(positions: "array[int]", taken: set[int], number: int) -> Iterator[int]:
    """So many of the positions that are not taken, evenly spread over them."""
    rest = [position for position in positions if position not in taken] if number > 0 else []
    number = min(number, len(rest))
    for i in range(number):
        yield rest[(2 * i + 1) * len(rest) // (2 * number)]
