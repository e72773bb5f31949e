"""Training, validation and test splits: by speaker and never by clip, so that nobody is in two of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.storage.uris import join
from pipeline.training_data.places import Places
from pipeline.training_data.settings import SplitSettings

SPLITS = "splits.json"


def draw(speaker: str, seed: int) -> float:
    """A number in [0, 1) that depends only on the name and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{speaker}".encode()).digest()[:6], "big") / 2**48


def split_of(speaker: str, settings: SplitSettings) -> str:
    """Split for a drawn number: the lowest are test, then come validation and train."""
    number = draw(speaker, settings.seed)
    if number < settings.test:
        return "test"
    return "validation" if number < settings.test + settings.validation else "train"


def assign(speakers: Iterable[str], settings: SplitSettings, known: Mapping[str, str]) -> dict[str, str]:
    """Split of every speaker. Speakers in `known` keep theirs, so whoever was once held out stays held out.

    If everybody would be held out, which can happen with few speakers, the one with the highest number goes to train.
    """
    found = dict(known)
    for speaker in sorted(set(speakers)):
        found.setdefault(speaker, split_of(speaker, settings))
    free = [speaker for speaker in found if speaker not in known]
    if free and "train" not in found.values():
        found[max(free, key=lambda speaker: draw(speaker, settings.seed))] = "train"
    return found


def speaker_splits(places: Places, speakers: Sequence[str], settings: SplitSettings) -> dict[str, str]:
    """Split of each speaker, stored in splits.json; drawn again if the settings differ from those in it."""
    uri = join(places.output, SPLITS)
    before = json.loads(read_bytes(uri) or b"{}")
    known = before.get("speakers", {}) if before.get("settings") == asdict(settings) else {}
    found = assign(speakers, settings, known)
    after = {"settings": asdict(settings), "speakers": dict(sorted(found.items()))}
    if after != before:
        write_bytes(json.dumps(after, indent=1, ensure_ascii=False).encode(), uri)
    return found
