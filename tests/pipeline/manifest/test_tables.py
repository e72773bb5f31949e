"""Tables as people save them: what is simply read, with a note, and what is refused with a sentence."""

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.errors import ManifestError
from pipeline.manifest import table_json
from pipeline.manifest.reader import glance, read_manifest

HEAD = "clip_id,image,audio,seed\n"


def table(tmp_path, content, name="m.csv"):
    """The manifest with this content."""
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    return read_manifest(str(tmp_path / name))


def refusal(tmp_path, content, name="m.csv"):
    with pytest.raises(ManifestError) as caught:
        table(tmp_path, content, name)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{tmp_path}/")


def short(read):
    """What matters of its clips, and the codes of its rejected rows."""
    clips = [(clip.clip_id, clip.image.rsplit("/", 1)[-1], clip.seed) for clip in read.clips]
    return clips, [(one.row, one.error.code) for one in read.rejected]


# --- Names of columns ------------------------------------------------------------------------------------------


def in_each_format(tmp_path, rows):
    """The same rows as CSV, JSONL, a JSON array and Parquet."""
    names = list(rows[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    yield "m.csv", "\n".join(lines).encode()
    yield "m.jsonl", "\n".join(map(json.dumps, rows)).encode()
    yield "m.json", json.dumps(rows, indent=1).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    yield "m.parquet", sink.getvalue().to_pybytes()


@pytest.mark.parametrize("name", ["Seed", " seed", "SEED ", "\u00a0seed", "seed:", "\uff33eed", "se\u200bed"])
def test_a_column_is_known_however_it_is_capitalized_and_spaced(tmp_path, name):
    for file, content in in_each_format(tmp_path, [{"image": "a.png", "audio": "a.wav", name: 7, "Scene 1": "x"}]):
        read = table(tmp_path, content, file)
        assert (read.clips[0].seed, read.clips[0].extra) == (7, {"Scene 1": "x"}), file
        assert [note for note in read.notes if note.startswith("column") and note.endswith("is read as seed")]


@pytest.mark.parametrize("name", ["Clip ID", "clip-id", "ClipId", "clip id "])
def test_words_of_a_name_may_be_separated_in_another_way(tmp_path, name):
    assert table(tmp_path, f"{name},image,audio\none,a.png,a.wav\n").clips[0].clip_id == "one"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("emotoin", "emotion"), ("sead", "seed"), ("langauge", "language"), ("speeker", "speaker")),
        *(("consent_reff", "consent_ref"), ("Corp ", None), ("cropp", "crop"), ("clip_idd", "clip_id")),
        *(("speakers", "speaker"), ("b_cfg_scale", "a_cfg_scale or e_cfg_scale or r_cfg_scale")),
        *(("fase", "face"), ("race", None), ("place", None), ("fact", None)),
        *(("speed", None), ("motion", None), ("speaker2", None), ("emotional range", None), ("note", None)),
    ],
)
def test_a_mistyped_column_is_refused_by_its_name_and_other_words_are_not(tmp_path, name, known):
    for file, content in in_each_format(tmp_path, [{"image": "a.png", "audio": "a.wav", name: "x"}]):
        if known is None:
            assert table(tmp_path, content, file).clips[0].extra == {name: "x"}
        else:
            assert f"column '{name}' looks like {known}: correct it" in refusal(tmp_path, content, file)


def test_a_similar_name_beside_the_known_one_is_a_column_of_its_own(tmp_path):
    clip = table(tmp_path, "image,audio,speaker,speakers,images\na.png,a.wav,Anna,2,3\n").clips[0]
    assert (clip.speaker, clip.extra) == ("Anna", {"speakers": "2", "images": "3"})


def test_two_columns_for_the_same_thing_are_refused(tmp_path):
    for file, content in in_each_format(tmp_path, [{"image": "a.png", "audio": "a.wav", "seed": 1, "Seed": 2}]):
        assert "the columns 'Seed' and 'seed' mean the same" in refusal(tmp_path, content, file)
    assert "column 'note' appears 2 times" in refusal(tmp_path, "image,audio,note,note\na.png,a.wav,1,2\n")
    line = '{"image": "a.png", "audio": "a.wav", "speaker": "A", "speaker": "B", "tags": {"x": 1}}'
    assert "'speaker' appears 2 times" in refusal(tmp_path, line, "m.jsonl")
    twice = pa.table([["a.png"], ["a.wav"], ["b.wav"]], names=["image", "audio", "audio"])
    pq.write_table(twice, tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="column 'audio' appears 2 times"):
        read_manifest(str(tmp_path / "m.parquet"))


def test_columns_without_a_name_are_left_out(tmp_path):
    read = table(tmp_path, ",image,audio,,seed,,\n0,a.png,a.wav,,7,,\n1,b.png,b.wav,,8\n2,c.png,c.wav,,8,x,\n")
    assert short(read) == ([("a", "a.png", 7), ("b", "b.png", 8)], [(3, "row_unreadable")])
    assert read.clips[0].extra == {}
    assert read.notes == ("column 1 has no name and is left out", "column 4 has no name and is left out")


# --- Rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("a,a.png,a.wav,1,", "and remove commas at the end of the line"),
        ("a,a.png,a.wav,1,x,y", "put values that contain commas in double quotes, without a space before the quote"),
        ("a,a, b.png,a.wav,1", "put values that contain commas in double quotes, without a space before the quote"),
    ],
)
def test_a_row_with_another_number_of_values_is_rejected_with_its_line(tmp_path, row, hint):
    read = table(tmp_path, f'{HEAD}"b\n",b.png,b.wav,2\n\n{row}\nc,c.png,c.wav,3\n')
    assert [clip.clip_id for clip in read.clips] == ["b", "c"]
    message = read.rejected[0].error.message
    assert message.startswith("row 2 (line 5): it has ")
    assert "values for 4 columns, so each may be in the wrong column: " in message
    assert message.endswith(hint)
    assert read.rejected[0].values == {}  # each may be of another column, also where they are read again


def test_a_row_that_ends_early_has_empty_values_at_its_end(tmp_path):
    read = table(tmp_path, f"{HEAD}a,a.png,a.wav\nb,b.png,b.wav,2\nc,c.png\n")
    assert short(read) == ([("a", "a.png", 0), ("b", "b.png", 2)], [(3, "value_missing")])
    [note] = read.notes
    assert note.startswith("rows that end before the last column were filled up with empty values (2 rows; the first")


def test_rows_without_any_value_are_left_out(tmp_path):
    read = table(tmp_path, f"{HEAD}a,a.png,a.wav,1\n,,,\n , ,,\n,,\n\nb,b.png,b.wav,2\n,,,\n")
    assert short(read) == ([("a", "a.png", 1), ("b", "b.png", 2)], [])
    assert [clip.row for clip in read.clips] == [1, 5]
    assert read.notes == ("rows without any value were left out (4 rows; the first is row 2 (line 3))",)
    rows = [{"image": "a.png", "audio": "a.wav"}, {"image": None, "audio": ""}, {}]
    assert len(table(tmp_path, "\n".join(map(json.dumps, rows)), "m.jsonl")) == 1
    assert len(table(tmp_path, json.dumps(rows), "m.json")) == 1
    assert "has no rows with values" in refusal(tmp_path, f"{HEAD},,,\n")


def test_messages_name_the_line_on_which_a_row_begins(tmp_path):
    read = table(tmp_path, 'image,audio,note,seed\na.png,a.wav,"one\ntwo",x\n\nb.png,b.wav,,y\n')
    assert [one.error.message[:29] for one in read.rejected] == [
        "row 1 (line 2), column seed: ",
        "row 2 (line 5), column seed: ",
    ]
    read = table(tmp_path, '\n{"image": "a.png", "audio": "a.wav", "seed": "x"}\n', "m.jsonl")
    assert read.rejected[0].error.message.startswith("row 1 (line 2), column seed: ")
    read = table(tmp_path, '[\n{"image": "a.png",\n"audio": "a.wav"},\n{"audio": "b.wav"}]', "m.jsonl")
    assert read.rejected[0].error.message.startswith("row 2 (line 4), column image: ")


# --- Delimiters and encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("image;audio;seed\na, b.png;a.wav;7\n", "the values are separated by semicolons"),
        ("sep=;\r\nimage;audio;seed\r\na, b.png;a.wav;7\r\n", "the values are separated by semicolons"),
        ('\ufeff"sep=;"\nimage;audio;seed\na, b.png;a.wav;7\n', "the values are separated by semicolons"),
        ("image\taudio\tseed\na, b.png\ta.wav\t7\n", "the values are separated by tabs"),
        ("image|audio|seed\na, b.png|a.wav|7\n", "the values are separated by vertical bars"),
        ('image,audio,seed,"my; own; column; note"\n"a, b.png",a.wav,7,x\n', ""),
        ('image;audio;seed;"my, own, column, note"\na, b.png;a.wav;7;x\n', "the values are separated by semicolons"),
        ('sep=,\nimage,audio,seed\n"a, b.png",a.wav,7\n', ""),
        ('\n\nimage,audio,seed\r"a, b.png",a.wav,7\r', ""),
        ('\ufeffimage,audio,seed\n"a, b.png",a.wav,7\n'.encode("utf-16-le"), "the text is UTF-16"),
        ('\ufeffimage,audio,seed\n"a, b.png",a.wav,7\n'.encode("utf-16-be"), "the text is UTF-16"),
        ('image,audio,seed\n"a, b.png",a.wav,7\n'.encode("utf-32"), "the text is UTF-32"),
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path, content, note):
    for name in ("m.csv", "m.tsv"):
        read = table(tmp_path, content, name)
        assert short(read) == ([("a", "a, b.png", 7)], [])
        assert "".join(read.notes) == note
        assert glance(str(tmp_path / name)) >= 1


def test_unicode_text_of_excel_is_read(tmp_path):
    read = table(tmp_path, "clip_id\timage\taudio\r\nÜ 1\ta.png\ta.wav\r\n".encode("utf-16"))
    assert short(read) == ([("Ü 1", "a.png", 0)], [])
    assert read.notes == ("the text is UTF-16", "the values are separated by tabs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEAD}a,a.png,a.wav,1\n".encode("utf-16-le"), "contains zero bytes, as UTF-16 does"),
        (f"{HEAD}a,a.png,a.wav,1\nJosé,a.png,a.wav,1\n".encode("cp1252"), "line 3: the byte 0xE9 (in Windows-1252 it"),
        (b"PK\x03\x04\x14", "m.csv is an Excel workbook"),
        (b"\x1f\x8b\x08", "m.csv is compressed with gzip"),
        (f"{HEAD}{'a,a.png,a.wav,1' * 900}\0", "line 2: it contains a zero byte"),
        (f'{HEAD}a,a.png,"a.wav,1\n', "line 2: a double quote is opened here and never closed"),
        (f'{HEAD}a,a.png,"a"b.wav,1\n', "line 2: a value goes on after its closing double quote"),
        (f"{HEAD}a,a.png,{'x' * 140_000},1\n", "line 2: a value has more than 131,072 characters"),
        ("a.png,a.wav\nb.png,b.wav\n", "it has a.png, a.wav; the first line must name the columns"),
        ('{"image": "a.png", "audio": "a.wav"}\n', "m.csv holds JSON, and not CSV: its name must end in .jsonl"),
        (f"{'x' * 9999},{'y' * 9999}\n1,2\n", "it has 'xxx"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


# --- JSON ------------------------------------------------------------------------------------------------------

A, B = ('{"image": "a.png", "audio": "a.wav", "seed": 1}', '{"image": "b.png", "audio": "b.wav", "seed": 2}')


@pytest.mark.parametrize(
    "content",
    [
        f"{A}\n{B}",
        f"[{A},{B}]",
        f"[\n{A},\n{B}\n]\n",
        f"\n [\n{A},{B},]",
        f"{A},\n{B},\n",
        f"{A}\r\n\r\n{B}\r\n",
        f"{json.dumps(json.loads(A), indent=2)}\n{json.dumps(json.loads(B), indent=2)}\n",
        f"{json.dumps([json.loads(A), json.loads(B)], indent=2)}",
        f"\ufeff[{A},{B}]",
        f"[{A},{B}]".encode("utf-16"),
    ],
)
def test_objects_are_read_however_they_are_put_together(tmp_path, content):
    for name in ("m.jsonl", "m.json", "m.ndjson"):
        assert short(table(tmp_path, content, name)) == ([("a", "a.png", 1), ("b", "b.png", 2)], [])
        assert glance(str(tmp_path / name)) in (1, 2, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{A},\n{B}", "line 2: the array has no closing bracket"),
        (f"[{A}\n{B}]", "line 2: it is not JSON: a comma is missing between two objects"),
        (f"[{A}]\n{B}", "line 1: something follows the closing bracket"),
        ('[\n{"image": "a.png"\n"audio": 1}]', "line 3: it is not JSON: expecting ',' delimiter"),
        ('{\n"image": "a.png",\n}', "line 3: it is not JSON"),
        ("image,audio\na.png,a.wav\n", "row 1 (line 1): it is not a JSON object (expecting value at character 1): wri"),
        ("{'image': 'a.png'}", "row 1 (line 1): it is not a JSON object (expecting property name enclosed in double"),
        ('["a.png", "a.wav"]\n["b.png", "b.wav"]', "row 1 (line 1): it is a list and not a JSON object"),
        ("[1, 2]", "row 1 (line 1): it is a list and not a JSON object: write one object {...} a line"),
        ("[[[" + "[" * 99_999, "it is nested too deeply"),
    ],
)
def test_json_that_holds_no_rows_says_where_and_why(tmp_path, content, message):
    assert message in refusal(tmp_path, content, "m.jsonl")


def test_a_broken_first_line_costs_its_row_alone(tmp_path):
    assert short(table(tmp_path, f'{{"image": \n{B}\n', "m.jsonl"))[1] == [(1, "row_unreadable")]
    assert short(table(tmp_path, f'{A}\n{{"image"\n"x"\n{B}\n', "m.jsonl"))[1] == [
        (2, "row_unreadable"),
        (3, "row_unreadable"),
    ]


def test_an_array_is_read_up_to_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(table_json, "WHOLE", 200)
    assert len(table(tmp_path, f"[{A},{B}]", "m.json")) == 2
    assert "does not have one JSON object a line" in refusal(tmp_path, f"[{A},{','.join([B] * 9)}]", "m.json")
    assert len(table(tmp_path, f"{A}\n{B}\n" * 99, "m.jsonl")) == 198  # lines have no end


# --- Values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seed"),
    [
        *(("7", 7), (" 7 ", 7), ("7.0", 7), ("1e3", 1000), ("007", 7), ("9007199254740993", 9007199254740993)),
        *((7.0, 7), (Decimal(7), 7), (Decimal("7.00"), 7), ("NaN", 0), ("nan", 0), ("null", 0), ("N/A", 0), ("", 0)),
        *(
            (float("nan"), 0),
            ("7.5", None),
            (True, None),
            ("true", None),
            ("seven", None),
            ("7,5", None),
            ("1_0", None),
        ),
        *(("9" * 5000, None), ("inf", None), ("0x10", None), (b"7", None), ("\u0667", None)),
    ],
)
def test_numbers_are_the_same_in_all_formats(tmp_path, value, seed):
    row = {"image": "a.png", "audio": "a.wav", "seed": value}
    plain = isinstance(value, str | int | float)
    for file, content in in_each_format(tmp_path, [row]) if plain else [("m.parquet", None)]:
        if content is None or (file == "m.csv" and "," in str(value)):
            file = "m.parquet"
            pq.write_table(pa.Table.from_pylist([row]), tmp_path / file)
            content = (tmp_path / file).read_bytes()
        read = table(tmp_path, content, file)
        assert [clip.seed for clip in read.clips] == ([] if seed is None else [seed]), file
        for one in read.rejected:
            assert "is not an integer from 0 to" in one.error.message
            assert len(one.error.message) < 250


def test_a_decimal_comma_is_named(tmp_path):
    message = table(tmp_path, "image;audio;a_cfg_scale\na.png;a.wav;1,5\n").rejected[0].error.message
    assert "'1,5' is not a number from 0 to 20; write a point instead of the comma" in message


def test_emotions_are_mappings_and_their_weights_numbers_in_all_formats(tmp_path):
    row = {"image": "a.png", "audio": "a.wav", "emotion": '{"happy": "3", "sad": 1, "fear": "nan"}'}
    for name, content in list(in_each_format(tmp_path, [row]))[1:]:
        assert table(tmp_path, content, name).clips[0].emotion == {"happy": 0.75, "sad": 0.25}


def test_spaces_around_values_of_known_columns_are_removed_and_noted(tmp_path):
    for name, content in in_each_format(tmp_path, [{"image": "a.png ", "audio": "\u00a0a.wav", "note": " x "}]):
        read = table(tmp_path, content, name)
        clip = read.clips[0]
        assert (clip.image, clip.audio, clip.extra) == (f"{tmp_path}/a.png", f"{tmp_path}/a.wav", {"note": " x "})
        assert read.notes[0].startswith("spaces around values of column image were removed (row 1")
        assert read.notes[0].endswith(": 'a.png ')")
        assert read.notes[1].endswith(r": '\xa0a.wav')")


def test_an_unsuitable_name_of_an_audio_file_becomes_a_clip_id_of_its_own(tmp_path):
    names = ["wait...what.wav", "wait?what.wav", "wait:what.wav", "is it.wav", "...wav", "x" * 300 + ".wav"]
    rows = [{"image": "a.png", "audio": name} for name in names]
    read = table(tmp_path, "\n".join(map(json.dumps, rows)), "m.jsonl")
    ids = [clip.clip_id for clip in read.clips]
    assert len(set(ids)) == len(names)
    assert [clip_id.rpartition("-")[0][:10] for clip_id in ids[:3]] == ["wait_what"] * 3
    assert ids[3] == "is it"
    assert ids == [clip.clip_id for clip in read_manifest(str(tmp_path / "m.jsonl")).clips]
    assert read.notes[0].startswith("clip_ids were made from names of audio files")
    assert "5 rows; the first is row 1 (line 1): 'wait...what' became 'wait_what-" in read.notes[0]


def test_pictures_in_a_table_are_named_and_not_shown(tmp_path):
    picture = {"bytes": b"\x89PNG\xff" * 30_000, "path": None}
    rows = [
        {"image": picture, "audio": "a.wav"},
        {"image": "a.png", "audio": picture},
        {"image": b"\x89", "audio": "b"},
    ]
    for row, shown in zip(rows, ("a struct with bytes, path", "a struct with bytes, path", "1 bytes"), strict=True):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "m.parquet")
        (one,) = read_manifest(str(tmp_path / "m.parquet")).rejected
        assert one.error.message.endswith(f"{shown} is not text: give a path or URI")
        assert len(one.clip_id) < 20


def test_a_zero_byte_in_a_value_is_refused(tmp_path):
    (one,) = table(tmp_path, r'{"image": "a\u0000.png", "audio": "a.wav"}', "m.jsonl").rejected
    assert one.error.message == r"row 1 (line 1), column image: 'a\x00.png' contains a zero byte, which no name has"


def test_long_and_invisible_values_are_quoted_short_and_visibly(tmp_path):
    for column in ("clip_id", "seed", "a_cfg_scale", "crop", "language", "emotion", "pose"):
        row = {"image": "a.png", "audio": "a.wav", column: "\x1b[2J?" * 100_000}
        (one,) = table(tmp_path, json.dumps(row), "m.jsonl").rejected
        assert len(one.error.message) < 700
        assert one.error.message.isprintable()
