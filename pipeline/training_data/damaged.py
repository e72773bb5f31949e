"""Files of an output of prepared videos that a crash, a disk or a person has damaged: what was made is made again."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pyarrow.parquet as pq

from pipeline.storage.objects import NO_FILE, filesystem, list_sizes
from pipeline.storage.records import Damaged, DamagedError, obstacle, read_json, reading
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import is_local, join
from pipeline.training_data.places import Places, Sidecar

logger = logging.getLogger(__name__)

FILES = ("samples.parquet", "samples.jpg", "report.html", "summary.json")
"""Written again by every run, from the records of the videos."""


def clear_files(output: str) -> None:
    """Set aside what has the name of a file that every run writes, but is none; the log names it and damaged files."""
    for name in FILES:
        clear_way(join(output, name), output)
    summary, table = read_json(join(output, "summary.json")), join(output, "samples.parquet")
    if isinstance(summary, Damaged):
        logger.warning("%s: it is written again", summary)
    try:
        with suppress(FileNotFoundError), reading(table, "a table of samples"):
            fs, path = filesystem(table)
            with fs.open(path, "rb") as file:
                pq.read_metadata(file)
    except DamagedError as error:
        logger.warning("%s: it is written again", error.found)


def accepted(sidecar: Sidecar) -> int:
    """Number of a video's samples."""
    return sum(row["status"] == "accepted" for row in sidecar["rows"])


def damaged_shards(folder: str, samples: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Keys of the shards in `folder` that are not there or not whole, of (key, number of samples); the log names them.

    Costs a listing, and on a local disk a look at the end of each shard: in object storage a file is whole or not
    there.
    """
    sizes = dict(list_sizes(folder))
    for key, count in samples:
        uri = join(folder, f"{key}.parquet")
        found = _problem(uri, sizes.get(f"{key}.parquet"), count)
        if found is not None:
            logger.warning("%s: its samples are made again", found)
            yield key


def _problem(uri: str, size: int | None, samples: int) -> Damaged | None:
    if not size:
        return Damaged(uri, "it is missing" if size is None else "it is empty")
    if size == NO_FILE:
        return obstacle(uri)
    if not is_local(uri):
        return None
    try:
        with reading(uri, "a shard of samples"), open(filesystem(uri)[1], "rb") as file:
            if pq.read_metadata(file).num_rows != samples:
                return Damaged(uri, "it has another number of samples than its record")
    except DamagedError as error:
        return error.found
    return None


def splits_of(places: Places) -> dict[str, str]:
    """Split of each speaker of whom a video is done: what splits.json says, if it is damaged itself."""
    return {row["speaker"]: row["split"] for sidecar in places.each() for row in sidecar["rows"]}
