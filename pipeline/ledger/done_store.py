"""Records of what is done, in the output folder itself: one JSON file per finished item, written last."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.common.disk_collections import mapped
from pipeline.storage.objects import create_bytes, list_folder, remove, write_bytes
from pipeline.storage.records import Damaged, read_json
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import join

logger = logging.getLogger(__name__)

DONE = "done"


@dataclass(frozen=True)
class DoneStore:
    """The records in one output folder; small enough to be sent to every worker. Only a file here means done."""

    output: str
    folder: str = DONE
    needs: tuple[tuple[str, type], ...] = ()
    """Names and types of the values without which a record is damaged."""

    def uri(self, name: str) -> str:
        """URI of the item's file, whether it exists or not."""
        return join(self.output, self.folder, f"{name}.json")

    def read(self, name: str) -> dict[str, Any] | None:
        """The record of an item; None if it is not done. A damaged record is named in the log, and counts as none."""
        found = self.look(name)
        if isinstance(found, Damaged):
            logger.warning("%s: it counts as absent", found)
            return None
        return found

    def look(self, name: str) -> dict[str, Any] | Damaged | None:
        """The record of an item, whole or damaged; None if there is none."""
        return read_json(self.uri(name), self._problem)

    def _problem(self, record: dict[str, Any]) -> str:
        wrong = next((key for key, kind in self.needs if not isinstance(record.get(key), kind)), None)
        return "" if wrong is None else f"its {wrong} is missing or has the wrong type"

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Mark the item as done, replacing an earlier record."""
        clear_way(self.uri(name), self.output)
        write_bytes(_bytes(value), self.uri(name))

    def create(self, name: str, value: dict[str, Any]) -> bool:
        """Mark the item as done. Returns False and changes nothing if another worker was first."""
        return create_bytes(_bytes(value), self.uri(name))

    def remove(self, name: str) -> None:
        """Mark the item as not done; what is no file is moved aside."""
        clear_way(self.uri(name), self.output)
        remove(self.uri(name))

    def names(self) -> Iterator[str]:
        """Names of all finished items, in no order, with one listing.

        Files that are still being written are left out.
        """
        for name in list_folder(join(self.output, self.folder)):
            if name.endswith(".json") and not name.startswith("."):
                yield name.removesuffix(".json")

    def each(self) -> Iterator[dict[str, Any]]:
        """The records of all items, sorted by name."""
        for _, value in mapped(self.read, sorted(self.names())):
            if value is not None:
                yield value


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=str).encode()
