"""Tables that are far larger than their files, or have too many rows: they are refused, or read in bounded memory."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cluster.serial import SerialExecutor
from pipeline.common.errors import ManifestError
from pipeline.evaluation.pairs import read_pairs
from pipeline.manifest import table_parquet
from pipeline.manifest.consent import check_consent, read_register
from pipeline.manifest.reader import glance, read_manifest
from pipeline.manifest.rows import raw_rows
from pipeline.manifest.settings import ConsentSettings
from pipeline.training_data.videos import read_source
from tests.memory import growth
from tests.running import run_job

ROWS = 3_000
LONG = "x" * 1_000_000
TEXT, NUMBER = pa.string(), pa.int32()


def write(path, columns, **options):
    """A table of a portrait, a sound and these columns, in a file that is smaller than 1 MB."""
    rows = len(next(iter(columns.values())))
    table = pa.table({"image": ["a.png"] * rows, "audio": [f"{i}.wav" for i in range(rows)], **columns})
    pq.write_table(table, path, **{"compression": "zstd", **options})
    assert path.stat().st_size < 1_000_000
    return str(path)


def stored_once(kind):
    """`LONG` in each of `ROWS` rows as a column of this type, without the memory that this takes."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, NUMBER), pa.array([LONG]))
    each = pa.array(range(ROWS + 1), NUMBER)
    if kind == "text":
        return texts
    if kind == "struct":
        return pa.StructArray.from_arrays([texts], names=["k"])
    return pa.ListArray.from_arrays(each, texts)


@pytest.mark.parametrize("kind", ["text", "list", "struct"])
def test_a_value_that_is_stored_once_is_not_repeated_in_memory(kind, tmp_path):
    uri = write(tmp_path / "m.parquet", {"note": stored_once(kind)})
    read = []

    def rows():
        read.extend(1 if i % 500 else len(str(row["note"])) for i, row in enumerate(raw_rows(uri)))

    assert growth(rows) < 400  # and not 3 GB
    assert len(read) == ROWS
    assert min(read[::500]) >= len(LONG)


def test_long_values_of_known_columns_are_rejected_and_not_kept(tmp_path):
    file = tmp_path / "m.parquet"
    table = pa.table({"image": stored_once("text").slice(0, 20), "audio": ["a.wav"] * 20, "emotion": [[LONG]] * 20})
    pq.write_table(table, file, compression="zstd")
    read = read_manifest(str(file))
    assert len(read.rejected) == 20
    assert read.rejected[3].error.message == "row 4, column image: it has more than 65536 characters"
    assert sum(map(read.rejected.stored_bytes, range(20))) < 20 * 100_000


def test_a_row_that_does_not_fit_into_memory_is_rejected(tmp_path):
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 102, NUMBER), pa.array([LONG]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 101, 102], NUMBER), texts)
    uri = write(tmp_path / "m.parquet", {"note": lists})
    manifests = []
    assert growth(lambda: manifests.append(read_manifest(uri))) < 400
    assert [clip.row for clip in manifests[0].clips] == [1, 3]
    (one,) = manifests[0].rejected
    assert (one.row, one.error.code) == (2, "row_unreadable")
    assert "row 2: its values have 95 MB, and a row may have 64 MB" in one.error.message


REFUSED = {
    "a page of zeros": (
        lambda: {"note": pa.array(["\0" * (70 << 20)])},
        {"write_statistics": False},
        "row group 1: its values have 70 MB, but were compressed to",
    ),
    "a list of nothing": (
        lambda: {"note": pa.ListArray.from_arrays(pa.array([0, 8_000_000], NUMBER), pa.nulls(8_000_000, NUMBER))},
        {},
        "row group 1: its values have",
    ),
    "long values of one length": (
        lambda: {"note": pa.array([b"\0" * (2 << 20)], pa.binary(2 << 20))},
        {},
        "values have a fixed length of 2097152 bytes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tables_that_are_far_larger_than_their_files_are_refused(name, tmp_path):
    columns, options, message = REFUSED[name]
    uri = write(tmp_path / "m.parquet", columns(), **options)
    for read in (read_manifest, glance, lambda uri: list(SerialExecutor().map_rows(uri, len))):

        def refused(read=read):
            with pytest.raises(ManifestError, match=message):
                read(uri)

        assert growth(refused) < 50


def test_texts_that_are_stored_as_differences_are_decoded_a_few_at_a_time(tmp_path):
    texts = pa.array([LONG + str(i) for i in range(200)])
    options = {"use_dictionary": False, "column_encoding": {"note": "DELTA_BYTE_ARRAY"}}
    table = pa.table({"image": ["a"] * 200, "audio": ["b"] * 200, "note": texts})
    pq.write_table(table, tmp_path / "m.parquet", compression="zstd", **options)
    del table, texts
    count = []
    assert growth(lambda: count.append(sum(1 for _ in raw_rows(str(tmp_path / "m.parquet"))))) < 400
    assert count == [200]


def test_all_values_of_a_table_are_bounded(tmp_path, monkeypatch):
    uri = write(tmp_path / "m.parquet", {"note": stored_once("text")})
    monkeypatch.setattr(table_parquet, "ALL", 1 << 30)
    with pytest.raises(ManifestError, match=r"has values of more than 1 GB in a file of \d+ kB"):
        read_manifest(uri)


def test_more_columns_than_the_rows_allow_are_refused(tmp_path):
    uri = write(tmp_path / "m.parquet", {f"c{i}": [1, 2, 3] for i in range(150)})
    with pytest.raises(ManifestError, match="has 3 rows of 152 columns"):
        read_manifest(uri, most=4)
    assert len(read_manifest(uri, most=5).clips) == 3


# --- Too many rows ---------------------------------------------------------------------------------------------


def in_format(folder, name, rows):
    """A table with these rows, in the format that the name says."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif name.endswith(".csv"):
        path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.mkdir()
        for i, part in enumerate((rows[:2], rows[2:])):
            pq.write_table(pa.Table.from_pylist(part), path / f"part-{i}.parquet")
    return str(path)


TOO_MANY = "has more than the 4 rows that limits.max_rows allows: split it into several manifests, or raise"


@pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv", "m.parquet", "folder"])
def test_a_table_may_have_so_many_rows_and_not_more(name, tmp_path):
    uri = in_format(tmp_path, name, [{"image": "a.png", "audio": f"{i}.wav"} for i in range(5)])
    readers = (
        lambda most: read_manifest(uri, most=most),
        lambda most: list(SerialExecutor().map_rows(uri, len, most)),
        lambda most: glance(uri, most),
    )
    for read in readers[: 2 if name.endswith((".jsonl", ".csv", ".json")) else 3]:
        read(5)
        with pytest.raises(ManifestError, match=TOO_MANY):
            read(4)


def test_the_other_tables_have_the_same_limit(tmp_path):
    pairs = in_format(tmp_path, "p.csv", [{"reference": "a", "generated": "b", "system": "c"}] * 5)
    register = in_format(tmp_path, "r.csv", [{"consent_ref": f"r{i}", "speaker": "Anna"} for i in range(5)])
    videos = in_format(tmp_path, "v.csv", [{"video": f"{i}.mp4"} for i in range(5)])
    manifest = read_manifest(in_format(tmp_path, "m.csv", [{"image": "a", "audio": "b", "speaker": "c"}]))
    consent = ConsentSettings(["Anna"], register)
    for read in (
        lambda most: read_pairs(pairs, most=most),
        lambda most: read_register(register, most),
        lambda most: read_source(videos, most=most),
        lambda most: check_consent(manifest, consent, most=most),
    ):
        read(5)
        with pytest.raises(ManifestError, match=TOO_MANY):
            read(4)


def test_a_job_takes_the_limit_from_its_settings(tmp_path, tiny_model):
    uri = in_format(tmp_path, "m.parquet", [{"image": "a.png", "audio": f"{i}.wav"} for i in range(5)])
    settings = (f"manifest={uri}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}", "executor=serial")
    ended = run_job("render", *settings, "limits.max_rows=4")
    assert ended.returncode == 2
    assert f"manifest: {uri} {TOO_MANY}" in ended.stderr
    assert "max_rows" in run_job("render", "--help").stdout


def test_twenty_million_rows_in_a_small_file_are_refused_before_they_are_read(tmp_path):
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int8()), pa.array(["a"]))
    sink = io.BytesIO()
    table = pa.table({"image": one, "audio": one})
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(table)
    (tmp_path / "m.parquet").write_bytes(sink.getvalue())
    assert len(sink.getvalue()) < 500_000
    for read in (read_manifest, glance):
        with pytest.raises(ManifestError, match=r"has more than the 5000000 rows that limits\.max_rows allows"):
            read(str(tmp_path / "m.parquet"))
