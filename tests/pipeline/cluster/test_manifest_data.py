"""A manifest that is read and planned by tasks of Ray Data gives what it gives in one process, whatever is in it."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import FloatConfig
from pipeline.cluster import manifest_data
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.serial import SerialExecutor
from pipeline.common.errors import ManifestError, StorageError
from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest, wanted_of
from pipeline.manifest.rows import raw_rows
from pipeline.manifest.settings import ClipDefaults
from pipeline.run.plan import make_plan
from pipeline.run.plan_rows import RowPlanner, planned_manifest
from pipeline.run.selection import Selection

MODEL = FloatConfig()


def jsonl(*rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def twice(*names):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table([["x"] for _ in names], names=names), sink)
    return sink.getvalue().to_pybytes()


def row(**values):
    return {"image": "a.png", "audio": "a.wav", **values}


WRONG = ({"seed": "x"}, {"clip_id": "twice"}, {"nfe": 0}, {"audio": None}, {"emotion": {"sad": 2}}, {"clip_id": None})


def many(number):
    """Rows of several parts; some are wrong, and some have a clip_id twice."""
    return [row(clip_id=f"c{i}", scene=i) | (WRONG[i % 6] if i % 7 == 0 else {}) for i in range(number)]


PAIR = {"image": ["a.png", "b.png"], "audio": ["a.wav", "b.wav"]}

MANIFESTS = {
    "many.jsonl": jsonl(*many(2500)),
    "many.csv": "\n".join(
        ["image,audio,clip_id,seed", *(f"a.png,a.wav,c{i % 2400},{i % 11 or 'x'}" for i in range(2500))]
    ),
    "many.parquet": parquet(
        **{name: [r.get(name) for r in many(2500)] for name in ("image", "audio", "clip_id", "scene", "nfe", "emotion")}
    ),
    "blank lines.jsonl": b'\n  \n{"image": "a", "audio": "b.wav"}\n\n{"image": "a", "audio": "c.wav"}\r\n\r\n',
    "bom.jsonl": b'\xef\xbb\xbf{"image": "a", "audio": "b.wav"}',
    "bom.csv": "\ufeffimage,audio\r\na.png,a.wav\r\n",
    "no objects.jsonl": b'{"image": "a.png", "audio": "a.wav"}\n{"image": \n[1]\n"x"\n7\nnull\n',
    "surrogates.jsonl": rb'{"image": "a", "audio": "b", "clip_id": "\ud800"}' + b"\n" + jsonl(row()),
    "digits.jsonl": b'{"image": "a", "audio": "b", "seed": ' + b"9" * 5000 + b"}\n" + jsonl(row()),
    "brackets.jsonl": b'{"image": "a", "audio": "b", "n": ' + b"[" * 99_999 + b"]" * 99_999 + b"}\n" + jsonl(row()),
    "mixed types.jsonl": jsonl(*(row(clip_id=str(i), speaker=s, n=s) for i, s in enumerate((1, "x", 1.5, True, None)))),
    "nested.jsonl": jsonl(row(tags=[1, "a"], emotion={"happy": 1}), row(clip_id="b", tags={"x": {}}, emotion="sad")),
    "nan.jsonl": jsonl(row(clip_id=math.nan, seed=math.nan), row(clip_id="b", audio=math.nan), {"audio": "c.wav"}),
    "lone return.jsonl": jsonl(row()) + b"\r" + jsonl(row(clip_id="b")),
    "numbers.csv": "image,audio,clip_id,speaker,seed\na.png,a.wav,007,012,7\na.png,a.wav,1e3,1.0,007\n",
    "ragged.csv": "image,audio,seed,note\na.png,a.wav\na.png,b.wav,1,x,more,still more\n\na.png,c.wav,,\n",
    "quotes.csv": 'image,audio,scene,emotion\n"a ""1"".png",a.wav,"one,\ntwo","{""happy"": 1}"\na.png,b.wav,,{bad\n',
    "open quote.csv": 'image,audio\na.png,a.wav\na.png,"b.wav\n',
    "same column twice.csv": "image,audio,audio\na.png,a.wav,b.wav\n",
    "semicolons.csv": "sep=;\nImage;audio; Seed\n a.png;a.wav;7\n;;\nb.png;b.wav\n\nc.png;c.wav;x\n",
    "utf-16.tsv": "image\taudio\tseed\r\na.png\ta.wav\t7\r\n".encode("utf-16"),
    "array.json": json.dumps([row(clip_id=f"c{i}") for i in range(1500)], indent=1),
    "broken array.json": json.dumps([row(clip_id=f"c{i}") for i in range(1500)])[:-9],
    "mistyped.csv": "image,audio,sead\na.png,a.wav,7\nb.png,b.wav,8\n",
    "mistyped.parquet": parquet(**PAIR, sead=[7, 8]),
    "both.parquet": parquet(**PAIR, seed=[7, 8], Seed=[7, 8]),
    "same column twice.parquet": twice("image", "audio", "audio"),
    "empty rows.parquet": parquet(image=["a.png", None, ""], audio=["a.wav", None, " "], n=[math.nan, math.nan, None]),
    "pictures.parquet": parquet(image=[{"bytes": b"\x89" * 9999}], audio=["a.wav"]),
    "no rows.jsonl": b"\n\n",
    "no rows.csv": "image,audio\n",
    "no rows.parquet": parquet(image=pa.array([], pa.string()), audio=pa.array([], pa.string())),
    "no audio.jsonl": jsonl({"image": "a"}),
    "no audio.csv": "image,sound\na,b\n",
    "no audio.parquet": parquet(image=["a"], sound=["b"]),
    "list.jsonl": b"[1]",
    "latin.csv": b"image,audio\n\xff\xfe,b\n",
    "latin at the end.jsonl": jsonl(*(row(clip_id=f"c{i}") for i in range(1500))) + b"\n\xff",
    "text.parquet": b"text",
    "cut.parquet": parquet(**PAIR)[:-9],
    "map.parquet": parquet(
        **PAIR, emotion=pa.array([[("happy", 1.0), ("fear", 1.0)], None], type=pa.map_(pa.string(), pa.float64()))
    ),
    "pandas.parquet": parquet(
        **PAIR, seed=[7.0, math.nan], emotion=[{"happy": 3.0, "sad": 1.0, "fear": None}, None], clip_id=[12.0, 13.5]
    ),
    "types.parquet": parquet(
        **PAIR,
        when=pa.array([0, None], pa.timestamp("us", "UTC")),
        data=[b"\0\xff", None],
        kind=pa.array(["x", "y"]).dictionary_encode(),
        empty=pa.nulls(2),
        vectors=[[[1.0, 2.0]], [[3.0], []]],
        flag=[True, None],
        price=pa.array([1, 2], pa.decimal128(5, 2)),
    ),
    "stored once.parquet": parquet(
        image=["a.png"] * 20, audio=["a.wav"] * 20, note=pa.DictionaryArray.from_arrays([0] * 20, ["x" * 100_000])
    ),
    "UPPER.PARQUET": parquet(**PAIR),
    "year=2026/m #1 %41?.parquet": parquet(**PAIR),
    "m #1 %41?.csv": "image,audio\na.png,a.wav\n",
    "m.txt": b"image",
    "folder": {
        "part-2.parquet": parquet(**PAIR, clip_id=["c", "d"], seed=["x", None], note=[1, 2]),
        "part-1.snappy.parquet": parquet(
            image=["a"] * 2500, audio=["a.wav"] * 2500, clip_id=[f"c{i}" for i in range(2500)]
        ),
        "part-3.parquet": parquet(sound=["a"]),
        "_SUCCESS": b"",
        "_metadata.parquet": b"none",
        ".part-1.parquet.crc": b"crc",
    },
    "folder.parquet": {"part-1.parquet": parquet(**PAIR), "part-2.parquet": b"damaged"},
    "empty.parquet": {"_SUCCESS": b""},
    "folder of texts": {"m.csv": b"image,audio\na,b\n"},
}


def planner(uri, model=MODEL, **selection):
    wanted, job = wanted_of(model, ClipDefaults()), {"model": "m"}
    return RowPlanner(uri, wanted, Limits(), job, Selection(**selection), {}, uri)


def read(action):
    """What was read, in a form that can be compared, or what was refused."""
    try:
        manifest = action()
    except (ManifestError, StorageError) as error:
        return type(error), str(error)
    rejected = [(one.row, one.clip_id, one.error.code, one.error.message, one.values) for one in manifest.rejected]
    lines = [clip.line for clip in manifest.clips]
    clips = repr(list(manifest.clips)), repr(rejected)  # NaN differs from itself
    return manifest.uri, clips, lines, manifest.notes, manifest.columns


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(manifest_data, "PART_BYTES", 20_000)


def write(folder, name):
    """A manifest of `MANIFESTS` as a file or folder -> its path; others are absent."""
    path = folder / name
    content = MANIFESTS.get(name, {})
    for file, data in content.items() if isinstance(content, dict) else [("", content)]:
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


@pytest.mark.parametrize("name", [*MANIFESTS, "absent.csv", "absent.parquet"])
def test_rows_that_are_planned_are_those_that_are_read(tmp_path, name):
    uri = write(tmp_path, name)
    expected = read(lambda: read_manifest(uri, model=MODEL))
    assert read(lambda: planned_manifest(planner(uri), SerialExecutor())[0]) == expected


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name.endswith((".jsonl", ".csv"))])
def test_texts_are_packed_for_tasks_and_unpacked_without_a_loss(small_parts, tmp_path, name):
    uri = write(tmp_path, name)

    def packed():
        return [row for part in manifest_data._packed_rows(uri) for row in manifest_data._unpacked(part)]

    assert rows_or_error(packed) == rows_or_error(lambda: list(raw_rows(uri)))


def rows_or_error(action):
    try:
        return action()
    except ManifestError as error:
        return str(error)


ON_RAY = (
    *("many.jsonl", "many.csv", "many.parquet", "no objects.jsonl", "no rows.csv", "no rows.parquet"),
    *("open quote.csv", "latin at the end.jsonl", "no audio.parquet", "cut.parquet", "map.parquet", "pandas.parquet"),
    *("types.parquet", "UPPER.PARQUET", "year=2026/m #1 %41?.parquet", "m #1 %41?.csv", "folder", "folder.parquet"),
    *("absent.csv", "absent.parquet", "stored once.parquet"),
)
"""Those in which Ray Data has a part of its own: what it reads, how parts are put together, what it makes of errors.
The others differ only in their text, which Ray Data carries in packed parts.
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_RAY)
def test_ray_reads_a_manifest_as_one_process_does(local_ray, small_parts, tmp_path, name):
    uri = write(tmp_path, name)
    expected = read(lambda: read_manifest(uri, model=MODEL))
    assert read(lambda: planned_manifest(planner(uri), RayExecutor())[0]) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["many.jsonl", "many.parquet", "folder"])
def test_ray_counts_the_rows_of_all_parts(local_ray, small_parts, tmp_path, name):
    uri = write(tmp_path, name)
    rows = sum(1 for _ in raw_rows(uri))
    assert sum(RayExecutor().map_rows(uri, len, rows)) == rows
    with pytest.raises(ManifestError, match=f"has more than the {rows - 1} rows that limits"):
        list(RayExecutor().map_rows(uri, len, rows - 1))


# --- Identities ------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Manifest of 3000 clips with two portraits and 30 sounds, of which one is absent."""
    for i in range(30):
        (tmp_path / f"{i}.wav").write_bytes(b"x" * 640 * i)
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]))
    (tmp_path / "7.wav").unlink()
    rows = (row(clip_id=f"c{i}", image=f"{i % 2}.png", audio=f"{i % 30}.wav", seed=i) for i in range(3000))
    (tmp_path / "m.jsonl").write_bytes(jsonl(*rows))
    return str(tmp_path / "m.jsonl")


def plan_of(uri, output, executor=None, **selection):
    """What the plan says of each clip, with the identities from the executor's tasks or asked for here."""
    work = planner(uri, **selection)
    manifest, identities = planned_manifest(work, executor) if executor else (read_manifest(uri, model=MODEL), None)
    ledger = Ledger(str(output))
    plan = make_plan(manifest.clips, ledger, work.job, Limits(), work.selection, {}, identities=identities)
    return list(plan.todo), list(plan.seconds), list(plan.done), list(plan.takes), list(plan.parts), plan.left


@pytest.mark.slow
@pytest.mark.parametrize("selection", [{}, {"shard": "2/3", "limit": 100}, {"only": "c5,c2999"}])
def test_the_plan_is_the_same_wherever_clips_are_identified(local_ray, small_parts, files, tmp_path, selection):
    (tmp_path / "out" / "done").mkdir(parents=True)
    for clip in plan_of(files, tmp_path / "out")[0][:40:3]:
        (tmp_path / "out" / "done" / f"{clip.clip_id}.{clip.fingerprint}.json").touch()
        (tmp_path / "out" / "done" / f"{clip.clip_id}.{clip.fingerprint}-2.json").touch()
    expected = plan_of(files, tmp_path / "out", **selection)
    assert plan_of(files, tmp_path / "out", RayExecutor(), **selection) == expected
    assert plan_of(files, tmp_path / "out", SerialExecutor(), **selection) == expected
    assert len(expected[0]) >= 2


@pytest.mark.slow
def test_a_worker_forgets_portraits_with_the_plan(local_ray, files, tmp_path):
    work, marks = planner(files), []
    for name, content in (("first", b"0"), ("second", b"1")):
        (tmp_path / "0.png").write_bytes(content)
        work = RowPlanner(files, work.wanted, work.limits, work.job, work.selection, {}, name)
        _, identities = planned_manifest(work, RayExecutor())
        marks.append(next(identities.of([(0, read_manifest(files).clips[0])]))[1].fingerprint)
    assert marks[0] != marks[1]


@pytest.mark.slow
def test_a_storage_that_does_not_answer_ends_the_plan(local_ray, tmp_path):
    (tmp_path / "m.jsonl").write_bytes(jsonl(row(audio="broken://x/a.wav")))
    work = planner(str(tmp_path / "m.jsonl"))
    work.limits.allowed_schemes.append("broken")
    with pytest.raises(StorageError, match=r"broken://x/a\.wav could not be accessed"):
        planned_manifest(work, RayExecutor())
