"""The contract of a manifest row: what is read, what is filled in, and what is refused with which words."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.errors import ManifestError
from pipeline.common.options import SettingError
from pipeline.ledger.clip_row import clip_row, rejected_row
from pipeline.manifest.reader import glance, read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import Slot
from tests.tiny import CONFIG

POSED = replace(CONFIG, pose="head")


def manifest(tmp_path, *rows, **options):
    """Read a JSONL manifest of these rows; image and audio are given where they are absent."""
    lines = [json.dumps({"image": "a.png", "audio": "a.wav", "clip_id": f"c{i}", **row}) for i, row in enumerate(rows)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    return read_manifest(str(tmp_path / "m.jsonl"), **options)


def refusal(tmp_path, **row):
    """(code, message) of the one row, which must be rejected."""
    read = manifest(tmp_path, row)
    assert not read.clips
    return read.rejected[0].error.code, read.rejected[0].error.message


def test_a_minimal_row_gets_every_default(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"image": "in/a.png", "audio": "speech one.de.wav"}\n\n')
    clip = read_manifest(str(tmp_path / "m.jsonl"), ClipDefaults(seed=5, nfe=7, crop="none")).clips[0]
    assert (clip.row, clip.clip_id) == (1, "speech one.de")
    assert (clip.image, clip.audio) == (f"{tmp_path}/in/a.png", f"{tmp_path}/speech one.de.wav")
    assert (clip.seed, clip.nfe, clip.crop, clip.emotion) == (5, 7, "none", None)
    assert (clip.a_cfg_scale, clip.e_cfg_scale, clip.r_cfg_scale) == (2.0, 1.0, 1.0)


def test_the_three_formats_read_to_the_same_clips(tmp_path):
    rows = [
        {
            "clip_id": "a",
            "image": "a.png",
            "audio": "a.wav",
            "emotion": {"happy": 3, "sad": 1},
            "seed": 7,
            "a_cfg_scale": 1.5,
            "language": "pt-BR",
            "scene": "one, two",
        },
        {"clip_id": "ü b", "image": "/x/b.png", "audio": "s3://k/b.wav", "emotion": None, "seed": None, "scene": "3"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    columns = ["clip_id", "image", "audio", "emotion", "seed", "a_cfg_scale", "language", "scene"]
    table = {name: [row.get(name) for row in rows] for name in columns}
    # As pandas writes it: integers with gaps are floats, missing numbers NaN, and a struct has every field.
    table["seed"], table["a_cfg_scale"] = [7.0, math.nan], [1.5, math.nan]
    table["emotion"] = [{"happy": 3.0, "sad": 1.0, "fear": None}, None]
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    (tmp_path / "m.csv").write_text(
        "\ufeffclip_id,image,audio,emotion,seed,a_cfg_scale,language,scene\r\n"
        'a,a.png,a.wav,"{""happy"": 3, ""sad"": 1}",7,1.5,pt-BR,"one, two"\r\n'
        "ü b,/x/b.png,s3://k/b.wav,,,,,3\r\n",
        encoding="utf-8",
    )
    jsonl, parquet, text = (read_manifest(str(tmp_path / f"m.{suffix}")) for suffix in ("jsonl", "parquet", "csv"))
    assert jsonl.clips == parquet.clips == text.clips
    assert jsonl.clips[0].emotion == {"happy": 0.75, "sad": 0.25}
    assert jsonl.clips[0].extra == {"scene": "one, two"}
    assert not jsonl.rejected
    assert not parquet.rejected
    assert not text.rejected


def test_a_map_column_of_emotions_is_read(tmp_path):
    kind = pa.map_(pa.string(), pa.float64())
    emotion = pa.array([[("happy", 1.0), ("fear", 1.0)]], type=kind)
    pq.write_table(pa.table({"image": ["a.png"], "audio": ["a.wav"], "emotion": emotion}), tmp_path / "m.parquet")
    assert read_manifest(str(tmp_path / "m.parquet")).clips[0].emotion == {"happy": 0.5, "fear": 0.5}


@pytest.mark.parametrize(
    ("row", "column", "allowed"),
    [
        ({"emotion": "melancholy"}, "emotion", "'melancholy' is not one of angry, disgust, fear, happy"),
        ({"emotion": {"happy": 1, "glad": 1}}, "emotion", "'glad' is not one of"),
        ({"emotion": {"happy": -1}}, "emotion", "not a number of 0 or more"),
        ({"emotion": {"happy": "much"}}, "emotion", "not a number of 0 or more"),
        ({"emotion": {"happy": 0}}, "emotion", "all 0"),
        ({"emotion": 3}, "emotion", "neither an emotion nor a mapping"),
        ({"emotion": ["happy"]}, "emotion", "neither an emotion nor a mapping"),
        ({"emotion": [1]}, "emotion", "neither an emotion nor a mapping"),
        ({"emotion": [[["happy"], 1]]}, "emotion", "is not one of angry"),
        ({"emotion": {"happy": math.inf}}, "emotion", "not a number of 0 or more"),
        ({"seed": "seven"}, "seed", "not an integer from 0 to"),
        ({"seed": "7.5"}, "seed", "not an integer from 0 to"),
        ({"seed": "true"}, "seed", "not an integer from 0 to"),
        ({"seed": 1.5}, "seed", "not an integer from 0 to"),
        ({"seed": True}, "seed", "not an integer from 0 to"),
        ({"seed": -1}, "seed", "not an integer from 0 to"),
        ({"seed": 2**63}, "seed", "not an integer from 0 to"),
        ({"nfe": 0}, "nfe", "not an integer from 1 to 1000"),
        ({"a_cfg_scale": "high"}, "a_cfg_scale", "not a number from 0 to 20"),
        ({"e_cfg_scale": -0.1}, "e_cfg_scale", "not a number from 0 to 20"),
        ({"r_cfg_scale": 1e9}, "r_cfg_scale", "not a number from 0 to 20"),
        ({"crop": "square"}, "crop", "not one of auto, none"),
        ({"crop": ["auto"]}, "crop", "not one of auto, none"),
        ({"face": "first"}, "face", "'first' names no face: write largest, only, a number from the left (2), a point"),
        ({"face": True}, "face", "names no face"),
        ({"face": [1, 2, 3]}, "face", "names no face"),
        ({"face": 0}, "face", "write a whole number from 1 to 1000"),
        ({"face": "1.5"}, "face", "write a whole number from 1 to 1000"),
        ({"face": "-3,4"}, "face", "write pixels of the image, from 0 on"),
        ({"face": [50, 10, 20, 40]}, "face", "an empty box: write left,top,right,bottom"),
        ({"face": 2, "crop": "none"}, "face", "no face is looked for: leave this cell empty, or set crop to auto"),
        ({"audio_stream": 0}, "audio_stream", "0 names no audio stream: write its number, from 1,"),
        ({"audio_stream": True}, "audio_stream", "names no audio stream"),
        ({"audio_stream": "1.5"}, "audio_stream", "names no audio stream"),
        ({"audio_stream": "the second"}, "audio_stream", "or its language, such as en, de-AT or eng"),
        ({"timecode": "10:00"}, "timecode", "not a SMPTE time code such as 10:00:00:00"),
        ({"timecode": "10:00:00:25"}, "timecode", "frame 25, and 24 is the last of a second at 25 frames per second"),
        ({"timecode": "10:00:00;00"}, "timecode", "write a colon"),
        ({"timecode": 36000}, "timecode", "not a SMPTE time code"),
        ({"frames": 0}, "frames", "not an integer from 1 to"),
        ({"frames": 47.5}, "frames", "not an integer from 1 to"),
        ({"frames": True}, "frames", "not an integer from 1 to"),
        ({"frames": 48, "on_length": "cut"}, "on_length", "not one of refuse, pad, trim"),
        ({"language": "english!"}, "language", "BCP-47"),
        ({"image": 1.5}, "image", "not text"),
        ({"speaker": {"name": "x"}}, "speaker", "not text"),
    ],
)
def test_a_wrong_value_names_row_column_and_what_is_allowed(tmp_path, row, column, allowed):
    code, message = refusal(tmp_path, **row)
    assert code == "value_invalid"
    assert message.startswith(f"row 1 (line 1), column {column}: ")
    assert allowed in message


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *((None, "largest"), ("", "largest"), ("NaN", "largest"), (" Only ", "only"), (2, "2"), (2.0, "2"), ("2", "2")),
        *(("640,360", "640,360"), ("640.5 360", "640.5,360"), ([640, 360.25], "640,360.25"), ("(640; 360)", "640,360")),
        *(("[10, 20, 30, 40]", "10,20,30,40"), ([10, 20, 30, 40], "10,20,30,40")),
    ],
)
def test_a_face_is_a_word_a_number_or_pixels_in_all_formats(tmp_path, value, read):
    assert manifest(tmp_path, {"face": value}).clips[0].face == read
    pq.write_table(pa.table({"image": ["a.png"], "audio": ["a.wav"], "face": [value]}), tmp_path / "m.parquet")
    assert read_manifest(str(tmp_path / "m.parquet")).clips[0].face == read


@pytest.mark.parametrize(
    ("value", "read"),
    [(None, None), ("", None), ("NaN", None), (2, "2"), (2.0, "2"), ("2", "2"), (" de-AT ", "de-AT"), ("eng", "eng")],
)
def test_an_audio_stream_is_a_number_or_a_language_in_all_formats(tmp_path, value, read):
    assert manifest(tmp_path, {"audio_stream": value}).clips[0].audio_stream == read
    pq.write_table(pa.table({"image": ["a.png"], "audio": ["a.wav"], "audio_stream": [value]}), tmp_path / "m.parquet")
    assert read_manifest(str(tmp_path / "m.parquet")).clips[0].audio_stream == read


def test_a_time_code_is_one_of_the_frame_rate(tmp_path):
    rows = [{"timecode": text} for text in ("10:01:00;02", "10:01:00:00", "", "10:01:00;01", "10:00:00:30")]
    read = manifest(tmp_path, *rows, video=VideoSettings(fps="29.97"))
    assert [clip.timecode for clip in read.clips] == ["10:01:00;02", "10:01:00:00", None]
    messages = [rejected.error.message for rejected in read.rejected]
    assert "frames 0 to 1 are left out at the start of minute 1: the next one is 10:01:00;02" in messages[0]
    assert "frame 30, and 29 is the last" in messages[1]
    assert rejected_row(read.rejected[0])["timecode"] == "10:01:00;01"


def test_a_row_with_frames_is_a_slot_at_the_rate_of_the_job(tmp_path):
    rows = [{"frames": "48"}, {"frames": 48.0, "on_length": "pad"}, {"frames": "nan", "on_length": "pad"}, {}]
    read = manifest(tmp_path, *rows, video=VideoSettings(fps="23.976"), defaults=ClipDefaults(on_length="trim"))
    fps = Fraction(24000, 1001)
    assert [clip.slot for clip in read.clips] == [Slot(48, fps, "trim"), Slot(48, fps, "pad"), None, None]
    assert [clip_row(clip)["on_length"] for clip in read.clips] == ["trim", "pad", None, None]
    assert [clip.extra for clip in read.clips] == [{}] * 4


def test_the_default_of_a_face_is_a_setting_that_is_checked(tmp_path):
    clips = manifest(tmp_path, {}, {"face": 2}, defaults=ClipDefaults(face="only")).clips
    assert [clip.face for clip in clips] == ["only", "2"]
    with pytest.raises(SettingError, match=r"face: 'none' names no face: write largest"):
        ClipDefaults(face="none")


def test_an_nfe_that_the_solver_cannot_spend_is_refused(tmp_path):
    read = manifest(tmp_path, {"nfe": 10}, {"nfe": 8}, solver="rk4")
    assert [clip.nfe for clip in read.clips] == [8]
    assert "column nfe: rk4 takes 4 evaluations per step" in read.rejected[0].error.message


@pytest.mark.parametrize("value", [None, "", math.nan, {}, [], {"happy": None, "sad": None}])
def test_an_emotion_without_any_weight_is_taken_from_the_speech(tmp_path, value):
    assert manifest(tmp_path, {"emotion": value}).clips[0].emotion is None


def test_weights_of_any_size_are_normalized(tmp_path):
    read = manifest(tmp_path, {"emotion": {"happy": 1e308, "sad": 1e308}}, {"emotion": {"happy": 5e-324}})
    assert [clip.emotion for clip in read.clips] == [{"happy": 0.5, "sad": 0.5}, {"happy": 1.0}]


def test_numbers_as_texts_are_read_as_pandas_writes_them(tmp_path):
    clip = manifest(tmp_path, {"clip_id": 12.0, "speaker": 3}).clips[0]
    assert (clip.clip_id, clip.speaker) == ("12", "3")


def test_a_rejected_row_without_an_id_is_named_by_its_number(tmp_path):
    read = manifest(tmp_path, {}, {"clip_id": math.nan, "audio": math.nan})
    assert [one.clip_id for one in read.rejected] == ["row-2"]


@pytest.mark.parametrize("column", ["image", "audio"])
@pytest.mark.parametrize("value", [None, "", math.nan])
def test_an_empty_required_value_is_refused(tmp_path, column, value):
    code, message = refusal(tmp_path, **{column: value})
    assert code == "value_missing"
    assert f"row 1 (line 1), column {column}" in message


@pytest.mark.parametrize("clip_id", ["../a", "a/b", "a\\b", "..", ".hidden", "a\nb", "a:b", "a*", "x" * 201, "a..b"])
def test_a_clip_id_that_could_lead_elsewhere_is_refused(tmp_path, clip_id):
    code, message = refusal(tmp_path, clip_id=clip_id)
    assert code == "clip_id_invalid"
    assert "row 1 (line 1), column clip_id" in message


@pytest.mark.parametrize("clip_id", ["a", "A-1_b.c", "예시 하나", "été", "x" * 200, 17])
def test_a_clip_id_in_any_language_is_kept(tmp_path, clip_id):
    assert manifest(tmp_path, {"clip_id": clip_id}).clips[0].clip_id == str(clip_id)


def test_all_rows_of_a_repeated_clip_id_are_rejected_and_the_others_kept(tmp_path):
    read = manifest(tmp_path, {"clip_id": "a"}, {"clip_id": "b"}, {"clip_id": "A"}, {"clip_id": "a"})
    assert [clip.clip_id for clip in read.clips] == ["b"]
    assert [(one.row, one.error.code) for one in read.rejected] == [(i, "clip_id_duplicate") for i in (1, 3, 4)]
    assert "rows 1, 3, 4 have the same clip_id" in read.rejected[0].error.message
    assert len(read) == 4


def test_a_line_that_is_no_object_is_one_rejected_row(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"image": "a.png", "audio": "a.wav"}\n{"image": \n[1]\n')
    read = read_manifest(str(tmp_path / "m.jsonl"))
    assert len(read.clips) == 1
    assert [(one.row, one.clip_id, one.error.code) for one in read.rejected] == [
        (2, "row-2", "row_unreadable"),
        (3, "row-3", "row_unreadable"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        r'{"image": "a", "audio": "b", "clip_id": "\ud800"}',
        r'{"image": "a", "audio": "b", "note": "\udc00"}',  # it would fail in the output table
        '{"image": "a", "audio": "b", "seed": ' + "9" * 5000 + "}",
        '{"image": "a", "audio": "b", "note": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["half a character in the id", "half a character", "a number of 5000 digits", "100,000 brackets"],
)
def test_hostile_json_costs_its_row_alone(tmp_path, line):
    (tmp_path / "m.jsonl").write_text(line + '\n{"image": "a.png", "audio": "a.wav"}\n')
    read = read_manifest(str(tmp_path / "m.jsonl"))
    assert [clip.row for clip in read.clips] == [2]
    assert [(one.row, one.error.code) for one in read.rejected] == [(1, "row_unreadable")]


@pytest.mark.parametrize(("column", "value"), [("seed", "seven"), ("nfe", "1.5"), ("emotion", "{broken")])
def test_csv_values_of_the_wrong_type_are_rejected(tmp_path, column, value):
    (tmp_path / "m.csv").write_text(f"image,audio,{column}\na.png,a.wav,{value}\n")
    error = read_manifest(str(tmp_path / "m.csv")).rejected[0].error
    assert error.code == "value_invalid"
    assert error.message.startswith(f"row 1 (line 2), column {column}: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", "", "has no rows"),
        ("m.csv", "image,audio\n", "has no rows"),
        ("m.jsonl", '{"image": "a"}', "has no column audio; it has image"),
        ("m.jsonl", "[1]", r"row 1 \(line 1\): it is a list and not a JSON object: write one object {...} a line"),
        ("m.csv", b"image,audio\n\xff\xfe,b\n", "line 2: the byte 0xFF .* not UTF-8"),
        ("m.parquet", "text", "not a Parquet file, or it is damaged"),
        ("m.txt", "image", "its name must end in"),
    ],
)
def test_anything_but_a_manifest_is_refused_whole(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError, match=message):
        read_manifest(str(tmp_path / name))


def test_a_manifest_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(str(tmp_path / "m.csv"))


def test_the_length_of_a_manifest_is_estimated_at_a_glance(tmp_path):
    rows = [{"clip_id": f"c{i:04}", "image": "ü.png", "audio": f"{i:04}.wav"} for i in range(5000)]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "m.csv").write_text("\n".join(["clip_id,image,audio", *(",".join(row.values()) for row in rows)]))
    (tmp_path / "parts").mkdir()
    for i in range(2):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parts" / f"{i}.parquet")
    assert glance(str(tmp_path / "m.jsonl")) == pytest.approx(5000, rel=0.1)
    assert glance(str(tmp_path / "m.csv")) == pytest.approx(5000, rel=0.1)
    assert glance(str(tmp_path / "parts")) == 10_000


def test_a_folder_of_parquet_files_is_one_manifest_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "m.parquet"
    folder.mkdir()
    for name, clip_id in (("part-1.parquet", "b"), ("part-0.parquet", "a"), ("_common.parquet", "none")):
        pq.write_table(pa.table({"image": ["a.png"], "audio": ["a.wav"], "clip_id": [clip_id]}), folder / name)
    (folder / "_SUCCESS").touch()
    read = read_manifest(f"{folder}/")
    assert [(clip.row, clip.clip_id) for clip in read.clips] == [(1, "a"), (2, "b")]
    assert read.clips[0].image == f"{tmp_path}/a.png"


# --- Variants of the model -------------------------------------------------------------------------------------


def test_evaluations_are_the_models_own_unless_the_user_says_so(tmp_path):
    for objective, own in (("flow", 10), ("epsilon", 50), ("x0", 50)):
        model = replace(CONFIG, objective=objective)
        read = manifest(tmp_path, {}, {"nfe": 7}, model=model)
        assert [clip.nfe for clip in read.clips] == [own, 7]
        read = manifest(tmp_path, {}, model=model, defaults=ClipDefaults(nfe=20))
        assert [clip.nfe for clip in read.clips] == [20]


def test_more_evaluations_than_diffusion_has_steps_are_refused(tmp_path):
    read = manifest(tmp_path, {"nfe": 800}, model=replace(CONFIG, objective="x0"))
    assert read.rejected[0].error.code == "value_invalid"
    assert "column nfe: ddim takes 1 to" in read.rejected[0].error.message


@pytest.mark.parametrize(("objective", "solver"), [("flow", "ddim"), ("x0", "euler"), ("epsilon", "dopri5")])
def test_a_solver_that_does_not_go_with_the_model_is_refused(tmp_path, objective, solver):
    with pytest.raises(ValueError, match=f"{solver} cannot sample a model whose objective is {objective}"):
        manifest(tmp_path, {}, model=replace(CONFIG, objective=objective), solver=solver)


@pytest.mark.parametrize("source", ["speech", "image", "none"])
def test_a_clip_knows_where_its_emotion_comes_from(tmp_path, source):
    clip = manifest(tmp_path, {}, model=replace(CONFIG, emotion=source)).clips[0]
    assert (clip.emotion, clip.emotion_from) == (None, source)


def test_an_emotion_is_refused_where_the_model_has_none(tmp_path):
    read = manifest(tmp_path, {"emotion": "happy"}, {}, {"emotion": ""}, model=replace(CONFIG, emotion="none"))
    assert [clip.clip_id for clip in read.clips] == ["c1", "c2"]
    assert read.rejected[0].error.code == "value_invalid"
    assert "no emotion condition: leave the column empty or use another model" in read.rejected[0].error.message


def test_weights_of_zero_say_what_an_empty_column_means_to_the_model(tmp_path):
    for source, words in (("speech", "from speech"), ("image", "from the portrait"), ("none", "no emotion condition")):
        read = manifest(tmp_path, {"emotion": {"happy": 0}}, model=replace(CONFIG, emotion=source))
        assert words in read.rejected[0].error.message


@pytest.mark.parametrize(
    ("name", "source"),
    [("a.npy", "array"), ("b/c.CSV", "array"), ("s3://b/d.mp4", "video"), ("e.MOV", "video"), ("/f.webm", "video")],
)
def test_poses_are_placed_like_other_files_and_told_apart_by_their_names(tmp_path, name, source):
    clip = manifest(tmp_path, {"pose": name}, model=POSED).clips[0]
    assert clip.pose == (name if "://" in name or name.startswith("/") else f"{tmp_path}/{name}")
    assert clip.pose_source == source


@pytest.mark.parametrize("value", [None, "", math.nan])
def test_a_model_with_head_poses_needs_one_in_each_row(tmp_path, value):
    read = manifest(tmp_path, {"pose": value}, model=POSED)
    error = read.rejected[0].error
    assert error.code == "value_missing"
    assert error.message.startswith("row 1 (line 1), column pose: ")
    assert ".npy, .csv" in error.message


@pytest.mark.parametrize(
    ("pose", "code", "words"),
    [
        ("a.parquet", "value_invalid", "its name must end in .npy, .csv, .mp4"),
        ("a", "value_invalid", "its name must end in"),
        ([0.1], "value_invalid", "is not text"),
        ("s3://key:secret@b/a.npy", "uri_not_allowed", "contains credentials"),
    ],
)
def test_anything_but_a_file_of_poses_is_refused(tmp_path, pose, code, words):
    error = manifest(tmp_path, {"pose": pose}, model=POSED).rejected[0].error
    assert error.code == code
    assert words in error.message
    assert "secret" not in error.message


def test_a_pose_is_refused_where_the_model_has_no_such_condition(tmp_path):
    code, message = refusal(tmp_path, pose="a.npy")
    assert code == "value_invalid"
    assert "no head pose condition: leave the column empty or use another model" in message
    assert manifest(tmp_path, {"pose": ""}).clips[0].pose_source is None


def test_a_rejected_row_keeps_its_pose(tmp_path):
    read = manifest(tmp_path, {"clip_id": "a", "pose": "p.npy"}, {"clip_id": "a", "pose": "p.npy"}, model=POSED)
    assert [rejected_row(one)["pose"] for one in read.rejected] == [f"{tmp_path}/p.npy"] * 2
    read = manifest(tmp_path, {"seed": "x", "pose": "s3://key:secret@b/p.npy"}, model=POSED)
    assert "secret" not in rejected_row(read.rejected[0])["pose"]
