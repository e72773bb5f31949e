"""Who is rendered with which consent, by the rows that come out; and registers that are refused."""

import json
import tracemalloc
from datetime import date

import pytest
import s3fs

from pipeline.common.disk_collections import Spool
from pipeline.common.errors import ManifestError
from pipeline.common.options import SettingError
from pipeline.ledger.clip_row import rejected_row
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import Manifest, read_manifest
from pipeline.manifest.settings import ConsentSettings

TODAY = date(2026, 11, 24)

REGISTER = """consent_ref,speaker,expires,revoked,signed_by
c-anna,Anna,2026-11-24,,studio
c-old,Anna,2026-11-23,false,studio
c-ever,Anna,,no,studio
c-gone,Anna,2030-01-01,true,studio
c-ben,Ben,,,studio
7,Zo\u00eb,,,studio
"""


def manifest(tmp_path, *rows):
    lines = [json.dumps({"image": "a.png", "audio": "a.wav", "clip_id": f"c{i}", **row}) for i, row in enumerate(rows)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    return read_manifest(str(tmp_path / "m.jsonl"))


def settings(tmp_path, register=REGISTER, speakers=("Anna",), name="register.csv"):
    path = tmp_path / name
    path.write_bytes(register if isinstance(register, bytes) else register.encode())
    return ConsentSettings(list(speakers), str(path))


def outcome(tmp_path, *rows, **options):
    """Error code of each row, None where the clip may be rendered."""
    checked = check_consent(manifest(tmp_path, *rows), settings(tmp_path, **options), TODAY)
    codes = {clip.row: None for clip in checked.clips} | {one.row: one.error.code for one in checked.rejected}
    return [codes[row] for row in sorted(codes)]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"consent_ref": "c-anna"}, None),  # today is its last day
        ({"consent_ref": " c-anna "}, None),
        ({"consent_ref": "c-ever"}, None),
        ({}, "consent_missing"),
        ({"consent_ref": "  "}, "consent_missing"),
        ({"consent_ref": "c-none"}, "consent_unknown"),
        ({"consent_ref": "C-ANNA"}, "consent_unknown"),
        ({"consent_ref": "c-ben"}, "consent_unknown"),  # of somebody else
        ({"consent_ref": "c-old"}, "consent_expired"),
        ({"consent_ref": "c-gone"}, "consent_expired"),
    ],
)
def test_a_speaker_who_must_consent_is_rendered_with_a_consent_that_holds(tmp_path, row, code):
    assert outcome(tmp_path, {"speaker": "Anna", **row}) == [code]


def test_others_need_none_unless_all_do(tmp_path):
    rows = [{"speaker": "Carl"}, {}, {"speaker": "Ben", "consent_ref": "c-ben"}, {"consent_ref": "c-ben"}]
    assert outcome(tmp_path, *rows) == [None, "consent_unclear", None, "consent_unknown"]
    # A consent is of a person: who leaves the speaker out has none, and may be anybody.
    assert outcome(tmp_path, *rows, speakers=["*"]) == ["consent_missing", "consent_missing", None, "consent_unknown"]


@pytest.mark.parametrize("speaker", ["Zo\u00eb", "Zoe\u0308", "ZOË", " zoë"])
def test_another_way_to_write_a_name_is_no_way_around(tmp_path, speaker):
    assert outcome(tmp_path, {"speaker": speaker}, speakers=["Zo\u00eb"]) == ["consent_missing"]
    assert outcome(tmp_path, {"speaker": speaker, "consent_ref": 7}, speakers=["Zoe\u0308"]) == [None]


def test_messages_name_row_speaker_reference_and_date(tmp_path):
    rows = [{"speaker": "Anna", "consent_ref": ref} for ref in (None, "c-none", "c-ben", "c-old", "c-gone")]
    checked = check_consent(manifest(tmp_path, *rows), settings(tmp_path), TODAY)
    missing, unknown, other, old, gone = [one.error.message for one in checked.rejected]
    assert missing.startswith("row 1 (line 1), column consent_ref: speaker 'Anna' needs a consent")
    assert "row 2" in unknown
    assert "no consent 'c-none' (speaker 'Anna')" in unknown
    assert "consent 'c-ben' belongs to speaker 'Ben', but the row has speaker 'Anna'" in other
    assert "consent 'c-old' of speaker 'Anna' expired on 2026-11-23, and today is 2026-11-24 (UTC)" in old
    assert "consent 'c-gone' of speaker 'Anna' was revoked" in gone
    assert all("correct" in text or "remove the row" in text for text in (missing, unknown, other, old, gone))


def test_rejected_rows_stay_in_the_order_of_the_manifest_with_their_columns(tmp_path):
    rows = [
        {"speaker": "Anna", "scene": "one", "language": "en", "tags": ["x"]},
        {"seed": "seven"},
        {"speaker": "Anna", "consent_ref": "c-ever"},
        {"speaker": "Anna", "consent_ref": "c-old"},
        {"seed": "eight"},
    ]
    checked = check_consent(manifest(tmp_path, *rows), settings(tmp_path), TODAY)
    assert [clip.row for clip in checked.clips] == [3]
    assert [one.row for one in checked.rejected] == [1, 2, 4, 5]
    assert len(checked) == 5
    row = rejected_row(checked.rejected[0])
    assert (row["status"], row["error_code"]) == ("rejected", "consent_missing")
    assert (row["clip_id"], row["row"], row["speaker"], row["language"]) == ("c0", 1, "Anna", "en")
    assert (row["scene"], row["tags"]) == ("one", ["x"])


def test_without_settings_the_manifest_is_as_it_was(tmp_path):
    read = manifest(tmp_path, {"speaker": "Anna"})
    assert check_consent(read, ConsentSettings()) is read


def test_a_register_of_lines_of_json_reads_as_one_of_csv(tmp_path):
    lines = [
        {"consent_ref": 7, "speaker": "Anna"},
        {"consent_ref": "old", "speaker": "Anna", "expires": "2026-11-23", "revoked": None},
        {"Consent_Ref": "gone", "speaker": "Anna", "Revoked ": True},
        {"consent_ref": "held", "speaker": "Anna", "expires": None, "revoked": False, "note": [1]},
    ]
    text = "\ufeff" + "\n\n".join(map(json.dumps, lines))
    rows = [{"speaker": "Anna", "consent_ref": ref} for ref in ("7", "old", "gone", "held")]
    codes = outcome(tmp_path, *rows, register=text, name="r.jsonl")
    assert codes == [None, "consent_expired", "consent_expired", None]


HEAD = "consent_ref,speaker,expires,revoked\n"


@pytest.mark.parametrize(
    ("name", "register", "message"),
    [
        ("r.csv", "", "has no rows"),
        ("r.csv", HEAD, "has no rows"),
        ("r.csv", "ref,speaker\nx,Anna\n", r"row 1 \(line 2\): the column consent_ref is missing"),
        (
            "r.csv",
            "consent_ref,speaker,revoked,Revoked\nx,Anna,,true\n",
            "the columns 'Revoked' and 'revoked' mean the same",
        ),
        ("r.csv", HEAD + "x,Anna,,\n,Anna,,\n", r"row 2 \(line 3\), column consent_ref: it is empty"),
        ("r.csv", HEAD + "x, ,,\n", r"\(line 2\), column speaker: it is empty"),
        (
            "r.csv",
            HEAD + "x,Anna,31.12.2027,\n",
            r"\(line 2\), column expires: '31.12.2027' is not a date such as 2027-12-31",
        ),
        ("r.csv", HEAD + "x,Anna,2027-02-30,\n", r"\(line 2\), column expires"),
        ("r.csv", HEAD + "x,Anna,,maybe\n", r"\(line 2\), column revoked: 'maybe' is neither true nor false"),
        (
            "r.csv",
            HEAD + 'x,"An\nna",,\nx,Anna,,\n',
            r"row 2 \(line 4\): row 1 \(line 2\) has the same consent_ref 'x'",
        ),
        ("r.csv", HEAD + "x,Anna,,,extra\n", r"\(line 2\): it has 5 values for 4 columns"),
        ("r.csv", HEAD + "x,Anna\n", r"\(line 2\): it has 2 values for 4 columns"),
        ("r.csv", HEAD + '"x,Anna', "line 2: a double quote is opened here and never closed"),
        ("r.csv", HEAD.encode() + b"x,Ann\xe4,,\n", "line 2: the byte 0xE4 .*CSV UTF-8"),
        ("r.jsonl", '{"consent_ref": "x", "speaker": "Anna"}\nnot json', r"\(line 2\): it is not a JSON object"),
        ("r.jsonl", "[1]", r"\(line 1\): it is a list and not a JSON object"),
        ("r.jsonl", '\n{"consent_ref": "x"}', r"\(line 2\): the column speaker is missing"),
        ("r.jsonl", '{"consent_ref": "x", "speaker": ["Anna"]}', r"\(line 1\), column speaker: a list is not text"),
        (
            "r.jsonl",
            '{"consent_ref": "\\ud800", "speaker": "Anna"}',
            r"\(line 1\): it is not a JSON object \(it contains half a character",
        ),
        ("r.xlsx", "x", "must end in .csv, "),
    ],
)
def test_a_wrong_register_is_refused_as_a_whole_with_its_line(tmp_path, name, register, message):
    with pytest.raises(ManifestError, match=message) as error:
        outcome(tmp_path, {"speaker": "Carl"}, register=register, name=name)
    assert str(tmp_path / name) in str(error.value)


def test_a_register_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"nowhere\.csv does not exist"):
        check_consent(manifest(tmp_path, {}), ConsentSettings(["Anna"], str(tmp_path / "nowhere.csv")), TODAY)


@pytest.mark.slow
def test_a_register_in_object_storage(tmp_path, s3):
    uri = f"{s3}/consent/{tmp_path.name}.csv"
    s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(uri, REGISTER.encode())
    read = manifest(tmp_path, {"speaker": "Anna", "consent_ref": "c-ever"}, {"speaker": "Anna"})
    assert len(check_consent(read, ConsentSettings(["*"], uri), TODAY).clips) == 1
    with pytest.raises(ManifestError, match="does not exist"):
        check_consent(read, ConsentSettings(["*"], f"{uri}.csv"), TODAY)


def test_speakers_and_register_come_together():
    for key, given in (("register", {"speakers": ["Anna"]}), ("speakers", {"register": "r.csv"})):
        with pytest.raises(SettingError) as error:
            ConsentSettings(**given)
        assert error.value.key == key


def test_memory_does_not_grow_with_the_manifest(tmp_path):
    read = manifest(tmp_path, {"speaker": "Anna", "consent_ref": "c-ever"}, {"speaker": "Anna", "note": "x" * 1000})
    many = Manifest(read.uri, Spool(read.clips[i % 2] for i in range(2_000)), read.rejected)
    tracemalloc.start()
    checked = check_consent(many, settings(tmp_path), TODAY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(checked.clips), len(checked.rejected)) == (1_000, 1_000)
    assert peak < 500_000  # the texts of the rejected rows alone are 1 MB


# --- A gate that cannot see who speaks -------------------------------------------------------------------------


def passed(tmp_path, content, name="m.csv", speakers=("Anna",)):
    """clip_ids that may be rendered, where Anna needs a consent."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    checked = check_consent(read_manifest(str(tmp_path / name)), settings(tmp_path, speakers=speakers), TODAY)
    return [clip.clip_id for clip in checked.clips]


@pytest.mark.parametrize("name", ["speaker", "Speaker", " speaker", "SPEAKER ", "\u00a0speaker", "spea\u200bker"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_column_is_seen_however_it_is_written(tmp_path, name, separator):
    rows = [["clip_id", "image", "audio", name], ["a", "a.png", "a.wav", "Anna"], ["b", "a.png", "b.wav", "Ben"]]
    assert passed(tmp_path, "\n".join(map(separator.join, rows))) == ["b"]
    assert passed(tmp_path, json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]]), "m.json") == ["b"]


@pytest.mark.parametrize(
    "content",
    [
        "clip_id,image,audio\na,a.png,a.wav\n",
        "clip_id,image,audio,name\na,a.png,a.wav,Anna\n",
        "clip_id,image,audio,speakr\na,a.png,a.wav,Anna\n",
        "clip_id,image,audio,speaker,speaker\na,a.png,a.wav,Anna,Ben\n",
        "clip_id,image,audio,speaker,Speaker\na,a.png,a.wav,Ben,Anna\n",
    ],
)
def test_a_manifest_whose_speakers_cannot_be_told_is_refused(tmp_path, content):
    for speakers in (("Anna",), ("*",)):
        with pytest.raises(ManifestError, match="speak"):
            passed(tmp_path, content, speakers=speakers)


@pytest.mark.parametrize("end", ["", ",", ",,", ",x"])
def test_a_shifted_row_is_not_rendered(tmp_path, end):
    head = "clip_id,image,audio,note,speaker"
    for header in (head, f"{head},", f"{head},comment", f"{head},comment,"):
        content = f"{header}\na,a.png,a.wav,Hello, world,Anna{end}\n"
        columns, values = len(header.rstrip(",").split(",")), len(content.splitlines()[1].rstrip(",").split(","))
        if columns == values and end != ",x":
            continue  # a row that is short by as many values as it has commas too many cannot be told from others
        with pytest.raises(ManifestError, match=r"row 1 \(line 2\): it has"):
            passed(tmp_path, content)


def test_a_row_that_ends_early_is_refused_with_its_values_which_may_be_shifted(tmp_path):
    # The clip_id "a, b" without quotes moves Anna out of her column.
    (tmp_path / "m.csv").write_text("image,audio,clip_id,speaker,language,seed\na.png,a.wav,a, b,en\n")
    checked = check_consent(read_manifest(str(tmp_path / "m.csv")), settings(tmp_path))
    assert len(checked.clips) == 0
    [refused] = checked.rejected
    assert (refused.error.code, refused.values) == ("consent_unclear", {})
    assert "row 1 (line 2): it has 5 values for 6 columns" in refused.error.message


def test_a_row_without_a_speaker_may_be_anybodys(tmp_path):
    lines = [
        '{"clip_id": "a", "image": "a", "audio": "b"}',
        '{"clip_id": "b", "image": "a", "audio": "b", "speaker": "Ben"}',
    ]
    assert passed(tmp_path, "\n".join(lines), "m.jsonl") == ["b"]
    head = "clip_id,image,audio,speaker,consent_ref\n"
    assert passed(tmp_path, f"{head}a,a.png,a.wav, ,\nb,a.png,b.wav,Ben,\nc,a.png,c.wav,,c-ben\n") == ["b"]
    assert passed(tmp_path, f"{head}a,a.png,a.wav,\u3164,\nb,a.png,b.wav,Ben,\n") == ["b"]
    with pytest.raises(ManifestError, match=r"has no column speaker, but consent\.speakers says that clips of 'Anna'"):
        passed(tmp_path, lines[0], "m.jsonl")


LOOKS_LIKE_ANNA = {
    "zero width": "An\u200bna",
    "soft hyphen": "An\u00adna",
    "zero byte": "An\0na",
    "control character": "An\x07na",
    "line break": "Anna\n",
    "joiner": "Anna\u034f",
    "filler": "Anna\u3164",
    "variation selector": "Anna\ufe0f",
    "byte order mark": "\ufeffAnna",
    "full width": "\uff21\uff4e\uff4e\uff41",
    "mathematical": "\U0001d400nna",
    "circled": "\u24b6nna",
    "negative squared": "\U0001f170nna",
    "small capitals": "\u1d00\u0274\u0274\u1d00",
    "Latin alpha": "Ann\u0251",
    "Cyrillic first letter": "\u0410nna",
    "Cyrillic last letter": "Ann\u0430",
    "Greek": "\u0391\u039d\u039d\u0391",
    "turned around": "\u202eannA",
    "underlined": "An\u0332na",
    "spaces": " Anna\u00a0",
    "capitals": "ANNA",
}


@pytest.mark.parametrize("speaker", LOOKS_LIKE_ANNA.values(), ids=LOOKS_LIKE_ANNA)
def test_no_way_to_write_a_name_passes_the_gate(tmp_path, speaker):
    (code,) = outcome(tmp_path, {"speaker": speaker})
    assert code in ("consent_missing", "consent_unclear")
    message = (
        check_consent(manifest(tmp_path, {"speaker": speaker}), settings(tmp_path), TODAY).rejected[0].error.message
    )
    assert message.startswith("row 1 (line 1), column ")
    assert message.isprintable()


@pytest.mark.parametrize(
    "speaker",
    [
        *("Hannah", "Ann", "\u0410\u043d\u043d\u0430", "Zo\u00eb", "\uc548\ub098 Kim", "Nguy\u1ec5n", "speaker-7", 12),
        *("\u5c71\u7530 \u82b1\u5b50", "\u3042\u3093\u306a \u30e4\u30de\u30c0", "\u0645\u06cc\u200c\u062e\u0648\u0627"),
        *(
            "Anna Smith",
            "\u0410\u043d\u043d\u0430 Smith",
            "O'Neill",
            "A.",
            "\u0391\u03bd\u03b4\u03c1\u03ad\u03b1\u03c2",
        ),
    ],
)
def test_other_names_in_any_script_are_other_people(tmp_path, speaker):
    assert outcome(tmp_path, {"speaker": speaker}) == [None]


def test_a_name_that_mixes_alphabets_is_refused_whosever_it_is(tmp_path):
    read = check_consent(manifest(tmp_path, {"speaker": "B\u0435n"}), settings(tmp_path), TODAY)
    assert read.rejected[0].error.code == "consent_unclear"
    assert "letters of the alphabets Cyrillic and Latin in one word" in read.rejected[0].error.message


def test_a_register_is_read_as_people_save_it_and_its_columns_cannot_be_mistyped(tmp_path):
    rows = [{"speaker": "Anna", "consent_ref": ref} for ref in ("c-anna", "c-old", "c-gone")]
    expected = [None, "consent_expired", "consent_expired"]
    for register in (REGISTER.replace(",", ";"), REGISTER.encode("utf-16"), REGISTER.replace("expires", " Expires")):
        assert outcome(tmp_path, *rows, register=register) == expected
    assert outcome(tmp_path, *rows, register=f"{REGISTER},,,,\n") == expected
    for name in ("expirs", "expire", "revoke", "revokd"):
        column = "expires" if name.startswith("e") else "revoked"
        with pytest.raises(ManifestError, match=f"column '{name}' looks like {column}"):
            outcome(tmp_path, *rows, register=REGISTER.replace(column, name))
