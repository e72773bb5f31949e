"""Sources of ours for Ray Data."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask


class Source(Datasource):
    """Tables that functions yield, with a task for each function."""

    def __init__(self, functions: Sequence[Callable[[], Iterator[pa.Table]]]) -> None:
        super().__init__()
        self._functions = functions

    def estimate_inmemory_data_size(self) -> int | None:
        """It is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One task per function; nothing is known of its tables in advance."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(function, unknown) for function in self._functions]
