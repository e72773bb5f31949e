"""Rows of a manifest on Ray Data: they are read in parts, and each part is worked on in a task of its own.

Ray Data reads them from a source of ours, which finds the rows with the same code as a run without Ray, and leaves
their parsing to the tasks. Its `read_csv` and `read_json` would change what rows mean, because they infer one type for
each column (`007` becomes 7, and a text among numbers is an error) and refuse a table for one irregular row. Its
`read_parquet` repeats a value that the file stores once in every row, whatever memory that takes.

Parts come back in the order of the file, so that whoever receives them can number the rows.
"""

import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.exceptions import RayError

from pipeline.cluster.nodes import this_node
from pipeline.cluster.source import Source
from pipeline.common.errors import ClusterError, RefusedError, StorageError
from pipeline.common.limits import MAX_ROWS
from pipeline.manifest.rows import parts_of, raw_rows, raw_rows_of
from pipeline.manifest.table_parquet import check_rows
from pipeline.storage.explained import explained
from pipeline.storage.uris import is_local

R = TypeVar("R")

PART_BYTES = 64 << 10
"""Size of a part: some hundred rows, which are a second of work, or few rows with much in them."""

PART_ROWS = 1_000

READER_CPUS, TASK_CPUS = 0.25, 0.5
"""Tasks mostly wait for the storage. Different numbers keep Ray Data from reading and working in the same task."""

TASKS = 128
"""Most tasks at a time. Each has several requests to the storage under way, which must not be flooded."""


def map_rows(uri: str, work: Callable[[list[Any]], R], most: int = MAX_ROWS) -> Iterator[R]:
    """What `work` makes of each part of the rows (`manifest.rows.raw_rows`), in the order of the table.

    Raises ManifestError for a table that cannot be read or has more than `most` rows, and StorageError, which `work`
    may raise too.
    """
    rows = 0
    try:
        with DataContext.current(task_context(PART_BYTES)):
            results = _read(uri, most).map_batches(
                lambda table: {"result": [_result(work, _unpacked(table))]},
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=TASK_CPUS,
                concurrency=TASKS,
            )
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for data in table["result"].to_pylist():
                count, result = pickle.loads(data)  # written by this job's own tasks
                rows += count
                check_rows(uri, rows, most)
                if isinstance(result, Exception):
                    raise result
                yield result
    except Exception as error:
        if isinstance(error, RefusedError | StorageError) and not isinstance(error, RayError):
            raise
        # An error of the reader comes back inside several of Ray's. Reading the table here says what is wrong with it;
        # if nothing is, the cluster has failed.
        for _ in raw_rows(uri, most):
            pass
        if isinstance(error, RefusedError):
            raise ClusterError(
                f"{uri} can be read on this machine, but not on the cluster: {explained(error)}"
            ) from error
        raise


def task_context(block_bytes: int) -> DataContext:
    """Settings for work in tasks, whose results stay in order, in blocks of this size; rendering has others."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = block_bytes
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = -1  # a large file is not a stall, and requests are retried
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters is raised
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # of a table with fewer parts
    return context


def _read(uri: str, most: int) -> Dataset:
    """Packed parts of the rows as a data set."""
    parts = parts_of(uri)
    where: dict[str, Any] = {"num_cpus": READER_CPUS}
    if is_local(uri):  # this node may have no CPUs for tasks
        where = {"num_cpus": 0, "resources": this_node()}
    # One task per file finds its rows, which is little compared to the rest.
    source = Source([partial(_packed_rows, file, most) for file in parts])
    return ray.data.read_datasource(source, override_num_blocks=len(parts), **where)


def _packed_rows(file: str, most: int = MAX_ROWS) -> Iterator[pa.Table]:
    """The rows of a file, packed in parts: tables of one row, which contains a part."""
    part: list[Any] = []
    size = 0
    for row in raw_rows_of(file, most):
        part.append(row)
        size += len(repr(row))
        if len(part) == PART_ROWS or size >= PART_BYTES:
            yield pa.table({"part": [pickle.dumps(part)]})
            part, size = [], 0
    if part:
        yield pa.table({"part": [pickle.dumps(part)]})


def _unpacked(table: pa.Table) -> list[Any]:
    parts: list[Any] = table["part"].to_pylist()
    return [row for part in parts for row in pickle.loads(part)]  # packed by this job's own task


def _result(work: Callable[[list[Any]], Any], rows: list[Any]) -> bytes:
    try:
        return pickle.dumps((len(rows), work(rows)))
    except StorageError as error:  # a result, because Ray Data would wrap the exception in several others
        return pickle.dumps((len(rows), error))
