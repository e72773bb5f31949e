"""The videos of an output as a Parquet dataset, written by Ray Data, so that none passes through the driver."""

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import DataContext

from pipeline.cluster.manifest_data import task_context
from pipeline.cluster.source import Source
from pipeline.ledger.video_table import VIDEOS_PER_GROUP, table_schema, with_videos
from pipeline.storage.objects import filesystem
from pipeline.storage.uris import is_local

ROWS = 256
"""Number of rows that a task takes at a time."""

PART_BYTES = 128 << 20
"""A part of the dataset is not larger than this by more than a video."""

WRITER_CPUS = 0.5


def write_videos(table: str, folder: str) -> None:
    """Write the rows of `table` with their videos into `folder`, a dataset of parts in the order of the table."""
    schema = table_schema(table)

    def embedded(rows: pa.Table) -> Iterator[pa.Table]:
        yield from with_videos(rows, schema)

    target, place = filesystem(folder)
    # `read_parquet` of Ray 2.60 starts 32 processes first, to read the footers of as many files; this is one file.
    source = Source([partial(_rows_of, table, ROWS)])
    with DataContext.current(task_context(PART_BYTES)):
        rows = ray.data.read_datasource(source, override_num_blocks=1).repartition(target_num_rows_per_block=ROWS)
        videos = rows.map_batches(embedded, batch_size=None, batch_format="pyarrow", num_cpus=1)
        # Other resources keep Ray Data from doing both in one task, which would hold all of its videos in memory. Rows
        # that come in several pieces would be written in any order.
        videos.map_batches(
            pa.Table.combine_chunks, batch_size=None, batch_format="pyarrow", num_cpus=WRITER_CPUS
        ).write_parquet(
            place,
            filesystem=target,
            try_create_dir=is_local(folder),
            row_group_size=VIDEOS_PER_GROUP,
            ray_remote_args={"num_cpus": WRITER_CPUS},
        )


def _rows_of(table: str, rows: int) -> Iterator[pa.Table]:
    """The table in parts of so many rows."""
    fs, path = filesystem(table)
    with fs.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(rows):
            yield pa.Table.from_batches([batch])
