"""Rows of Parquet files, in memory that the size of the file bounds.

Parquet stores a value once that stands in thousands of rows, and compresses a gigabyte of zeros to some kilobytes: a
file of 1 kB may hold 3 GB of text. So the file's own statistics are looked at before anything is read, texts stay as
Parquet stores them until their rows are taken, and rows become Python values a few at a time.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.common.errors import ManifestError
from pipeline.common.quoted import quoted
from pipeline.manifest.table_text import Raw

AT_A_TIME = 4_096
"""Most rows that are decoded at a time; for fewer, Arrow copies the texts that a row group stores once too often."""

TEXT = "BYTE_ARRAY"
"""Physical type of texts and other values of any length."""

BUFFER = 1 << 20
"""Bytes of a column that are fetched at a time."""

PLAIN = 64 << 20
"""Decoded size of a row group that needs no explanation, bytes."""

RATIO = 100
"""How many times its compressed size a larger row group may have. Texts of people compress to a third."""

ALL = 4 << 30
"""Size of all values that needs no explanation, bytes of memory: they go to this machine's disk."""

WHOLE_RATIO = 1_000
"""How many times the size of its file all values of a larger table may have."""

CELLS = 100
"""Number of columns in a table with as many rows as the limit allows; tables with fewer rows may have more."""

FIXED = 1 << 20
"""Bytes of all values of fixed length in a row."""

VALUES = 64 << 20
"""Bytes of Python values in memory at a time, and of those in a row."""

OBJECT = 56
"""Bytes of a small Python value."""


def parquet_rows(uri: str, file: BinaryIO, most: int) -> Iterator[Any]:
    """The rows of an open file as dicts, or `Raw` rows that say why a row cannot be read.

    Raises ManifestError for a table with too many rows, or that is far larger than its file.
    """
    metadata = pq.read_metadata(file)
    check_parquet(uri, metadata, most)
    texts, at_a_time = _reading(metadata)
    table = pq.ParquetFile(file, metadata=metadata, read_dictionary=texts, buffer_size=BUFFER, pre_buffer=False)
    check_schema(uri, table.schema_arrow)
    stored = sum(_sizes(metadata.row_group(i), metadata.schema)[1] for i in range(metadata.num_row_groups))
    room = max(ALL, WHOLE_RATIO * stored)
    for batch in table.iter_batches(at_a_time):
        room -= sum(map(_python_bytes, batch.columns))
        if room < 0:
            raise ManifestError(
                f"{uri} has values of more than {max(ALL, WHOLE_RATIO * stored) >> 30} GB in a file of {stored >> 10} "
                "kB: write the table without long values that are the same in many rows"
            )
        yield from _python_rows(batch)


def check_rows(uri: str, rows: int, most: int) -> None:
    """Raise ManifestError for a table with too many rows."""
    if rows > most:
        raise ManifestError(
            f"{uri} has more than the {most} rows that limits.max_rows allows: split it into several manifests, or "
            "raise limits.max_rows"
        )


def check_parquet(uri: str, metadata: pq.FileMetaData, most: int) -> None:
    """Raise ManifestError for a table that is larger than a manifest can be, by its own statistics."""
    check_rows(uri, metadata.num_rows, most)
    if metadata.num_rows * metadata.num_columns > CELLS * most:
        raise ManifestError(
            f"{uri} has {metadata.num_rows} rows of {metadata.num_columns} columns, which is more than a manifest can "
            "have: leave out columns that clips do not need, or split it into several manifests"
        )
    fixed = [metadata.schema.column(i).length or 0 for i in range(metadata.num_columns)]
    if sum(fixed) > FIXED:
        raise ManifestError(
            f"{uri} has columns whose values have a fixed length of {max(fixed)} bytes: put paths of files into the "
            "table, and not their contents"
        )
    for i in range(metadata.num_row_groups):
        decoded, stored = _sizes(metadata.row_group(i), metadata.schema)
        if decoded > max(PLAIN, RATIO * stored):
            raise ManifestError(
                f"{uri}, row group {i + 1}: its values have {decoded >> 20} MB, but were compressed to {stored >> 10} "
                f"kB, more than {RATIO} times smaller: write the table without long or repeated values in one row"
            )


def _sizes(group: pq.RowGroupMetaData, schema: pq.ParquetSchema) -> tuple[int, int]:
    """(bytes after decompression, bytes in the file) of a row group; values in lists count twelve bytes more each."""
    decoded = stored = 0
    for i in range(group.num_columns):
        column = group.column(i)
        decoded += column.total_uncompressed_size
        stored += column.total_compressed_size
        if schema.column(i).max_repetition_level:
            decoded += 12 * column.num_values
    return decoded, stored


def _reading(metadata: pq.FileMetaData) -> tuple[list[str], int]:
    """(columns of texts that stay as the file stores them, how many rows to decode at a time)."""
    texts = {c.path for i in range(metadata.num_columns) if (c := metadata.schema.column(i)).physical_type == TEXT}
    largest = 1
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = [group.column(i) for i in range(group.num_columns)]
        largest = max(largest, sum(chunk.total_uncompressed_size for chunk in chunks) // max(1, group.num_rows))
        for chunk in chunks:
            # This encoding says how a text differs from the one before it, and can only be decoded in full.
            if "DELTA_BYTE_ARRAY" in chunk.encodings:
                texts.discard(chunk.path_in_schema)
                largest = max(largest, chunk.total_uncompressed_size)
    return sorted(texts), max(1, min(AT_A_TIME, PLAIN // largest))


def check_schema(uri: str, schema: pa.Schema) -> None:
    """Raise ManifestError if several columns of a Parquet file have the same name, of which only one would be read."""
    name, count = Counter(schema.names).most_common(1)[0] if schema.names else ("", 0)
    if count > 1:
        raise ManifestError(
            f"{uri}: column {quoted(name)} appears {count} times: keep one of them, or rename the others"
        )


# --- Python values ---------------------------------------------------------------------------------------------


def _python_rows(batch: pa.RecordBatch) -> Iterator[Any]:
    """The rows of a batch, as many at a time as fit into memory; one that does not fit alone has a problem."""
    size = sum(map(_python_bytes, batch.columns))
    if size <= VALUES:
        columns = [part.dictionary_decode() if isinstance(part, pa.DictionaryArray) else part for part in batch.columns]
        yield from pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _python_rows(batch.slice(0, half))
        yield from _python_rows(batch.slice(half))
    else:
        problem = (
            f"its values have {size >> 20} MB, and a row may have {VALUES >> 20} MB: put paths of files into the "
            "table, and not their contents"
        )
        yield Raw(0, {}, problem=problem)


def _python_bytes(values: pa.Array) -> int:
    """Memory of an array's values as Python objects, estimated, bytes."""
    if isinstance(values, pa.ExtensionArray):
        return _python_bytes(values.storage)
    if isinstance(values, pa.DictionaryArray):
        return OBJECT * len(values) + _repeated(values)
    if isinstance(values, pa.StructArray):
        parts = values.flatten()
    elif isinstance(values, pa.MapArray):
        start, end = (values.offsets[i].as_py() for i in (0, -1))
        parts = [part.slice(start, end - start) for part in (values.keys, values.items)]
    elif isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        parts = [values.flatten()]
    else:
        return OBJECT * len(values) + values.nbytes
    return OBJECT * len(values) + sum(map(_python_bytes, parts))


def _repeated(values: pa.DictionaryArray) -> int:
    """Bytes of texts that are stored once, where each stands alone."""
    known: Any = values.dictionary
    try:
        lengths: Any = pc.binary_length(known)
    except pa.ArrowNotImplementedError:  # of other types
        return len(values) * known.nbytes // max(1, len(known))
    return int(pc.sum(lengths.take(values.indices)).as_py() or 0)
