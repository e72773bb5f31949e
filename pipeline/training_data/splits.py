"""Training, validation and test: by speaker, never by clip, so that nobody is in two of them."""

import hashlib
from collections.abc import Iterable, Mapping

from pipeline.training_data.settings import SplitSettings


def draw(speaker: str, seed: int) -> float:
    """A number in [0, 1) that depends on the name and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{speaker}".encode()).digest()[:6], "big") / 2**48


def split_of(speaker: str, settings: SplitSettings) -> str:
    """By the number drawn: the lowest test, then validation, the rest train."""
    number = draw(speaker, settings.seed)
    if number < settings.test:
        return "test"
    return "validation" if number < settings.test + settings.validation else "train"


def assign(speakers: Iterable[str], settings: SplitSettings, known: Mapping[str, str]) -> dict[str, str]:
    """Split of every speaker, those in `known` as they are there: who has once been held out stays so.

    Where everybody would be held out, as may happen with few speakers, the one who drew the highest number trains.
    """
    found = dict(known)
    for speaker in sorted(set(speakers)):
        found.setdefault(speaker, split_of(speaker, settings))
    free = [speaker for speaker in found if speaker not in known]
    if free and "train" not in found.values():
        found[max(free, key=lambda speaker: draw(speaker, settings.seed))] = "train"
    return found
