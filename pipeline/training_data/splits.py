"""Training, validation and test splits: by speaker and never by clip, so that nobody is in two of them."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.storage.objects import write_bytes
from pipeline.storage.records import Damaged, read_json
from pipeline.storage.uris import join
from pipeline.training_data.damaged import splits_of
from pipeline.training_data.places import Places
from pipeline.training_data.settings import SplitSettings

SPLITS = "splits.json"

logger = logging.getLogger(__name__)


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
    """Split of each speaker, stored in splits.json; drawn again if the settings differ from those in it.

    If that file is damaged, speakers of whom a video is done keep its split.
    """
    uri = join(places.output, SPLITS)
    before = read_json(uri, _problem) or {}
    if isinstance(before, Damaged):
        logger.warning("%s: speakers keep the splits of the videos that are done", before)
        places.clear(uri)
        before, known = {}, splits_of(places)
    else:
        known = before.get("speakers", {}) if before.get("settings") == asdict(settings) else {}
    found = assign(speakers, settings, known)
    after = {"settings": asdict(settings), "speakers": dict(sorted(found.items()))}
    if after != before:
        write_bytes(json.dumps(after, indent=1, ensure_ascii=False).encode(), uri)
    return found


def _problem(record: dict[str, Any]) -> str:
    right = isinstance(record.get("settings"), dict) and isinstance(record.get("speakers"), dict)
    return "" if right else "its settings or speakers are missing"
