"""What is done, in the output folder itself: a JSON file for each finished item, written last."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.common.disk_collections import mapped
from pipeline.storage.objects import create_bytes, join, list_folder, read_bytes, remove, write_bytes

DONE = "done"


@dataclass(frozen=True)
class DoneStore:
    """Of one output folder; small enough to travel to every worker. Only a file here means done."""

    output: str
    folder: str = DONE

    def uri(self, name: str) -> str:
        """Where the file of an item is, if it is done."""
        return join(self.output, self.folder, f"{name}.json")

    def read(self, name: str) -> dict[str, Any] | None:
        """What is kept of an item; None where it is not done."""
        data = read_bytes(self.uri(name))
        return None if data is None else json.loads(data)

    def write(self, name: str, value: dict[str, Any]) -> None:
        """The item is done, in place of what was kept of it before."""
        write_bytes(_bytes(value), self.uri(name))

    def create(self, name: str, value: dict[str, Any]) -> bool:
        """The item is done; False, and nothing changed, where another worker was first."""
        return create_bytes(_bytes(value), self.uri(name))

    def remove(self, name: str) -> None:
        """The item is not done any more."""
        remove(self.uri(name))

    def names(self) -> Iterator[str]:
        """Names of all that is done, in no order: one listing. Files that are being written are left out."""
        for name in list_folder(join(self.output, self.folder)):
            if name.endswith(".json") and not name.startswith("."):
                yield name.removesuffix(".json")

    def each(self) -> Iterator[dict[str, Any]]:
        """What is kept of all items, sorted by name."""
        for _, value in mapped(self.read, sorted(self.names())):
            if value is not None:
                yield value


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=str).encode()
