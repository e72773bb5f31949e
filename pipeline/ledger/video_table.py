"""The output table with the videos in it, for readers who take both from one place: `videos.parquet`.

It is a folder, and not one file, because many tasks write it: parts of some videos each, with a row group per few of
them. `_SUCCESS` is written last, so that a folder with that file is whole.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.disk_collections import mapped
from pipeline.storage.objects import (
    NO_FILE,
    filesystem,
    list_folder,
    list_sizes,
    put_file,
    remove,
    retried,
    write_bytes,
)
from pipeline.storage.set_aside import clear_way, set_aside
from pipeline.storage.uris import is_local, join, parent, shown

logger = logging.getLogger(__name__)

VIDEOS = "videos.parquet"

WHOLE = "_SUCCESS"
"""A file that says that a dataset is whole, as Spark and Hadoop write it; readers of Parquet ignore it."""

VIDEOS_PER_GROUP = 8
"""Rows in a row group. A row takes megabytes, so small groups bound the memory of writer and reader."""


def replace_videos(table: str, folder: str, write: Callable[[str, str], None]) -> str:
    """Write the dataset `folder` from the rows of `table` with `write`, in place of an earlier one; returns `folder`.

    From the start until the end, the folder has no `_SUCCESS`; parts of an earlier run are removed before the first
    new one is written. What is no file is moved aside.
    """
    output = parent(folder)
    if is_local(folder) and os.path.lexists(path := filesystem(folder)[1]) and not os.path.isdir(path):
        logger.warning(
            "%s is damaged (it is not a folder): moved to %s", shown(folder), shown(set_aside(folder, output))
        )
    clear_way(join(folder, WHOLE), output)
    remove(join(folder, WHOLE))
    for name in sorted(name for name, size in list_sizes(folder) if size == NO_FILE):
        clear_way(join(folder, name), output)
    for _ in mapped(lambda name: remove(join(folder, name)), sorted(list_folder(folder))):
        pass
    write(table, folder)
    write_bytes(b"", join(folder, WHOLE))
    return folder


def write_videos(table: str, folder: str) -> None:
    """Write the dataset as one part, one row after another."""
    schema = table_schema(table)
    fs, path = filesystem(table)
    with tempfile.TemporaryDirectory() as place:
        local = Path(place) / "part.parquet"
        with fs.open(path, "rb") as file, pq.ParquetWriter(local, schema) as writer:
            for batch in pq.ParquetFile(file).iter_batches(VIDEOS_PER_GROUP):
                rows = list(with_videos(pa.Table.from_batches([batch]), schema))
                writer.write_table(pa.concat_tables(rows).combine_chunks())
        put_file(local, join(folder, "part-000000.parquet"))


def table_schema(table: str) -> pa.Schema:
    """The columns of a table and `video`, which takes the place of a column of that name from the manifest."""
    fs, path = filesystem(table)
    with fs.open(path, "rb") as file:
        fields = [field for field in pq.ParquetFile(file).schema_arrow if field.name != "video"]
    return pa.schema([*fields, pa.field("video", pa.binary())])


def with_videos(rows: pa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
    """Each row with its delivered MP4, or with null if it has none."""
    for i in range(rows.num_rows):
        row = rows.slice(i, 1)
        columns = [row[name] for name in schema.names[:-1]]
        video = _video(row["status"][0].as_py(), row["uri"][0].as_py())
        yield pa.table([*columns, pa.array([video], type=pa.binary())], schema=schema)


def _video(status: str, uri: str | None) -> Any:
    if status != "done" or uri is None:
        return None
    fs, path = filesystem(uri)
    return retried(lambda: fs.cat_file(path))
