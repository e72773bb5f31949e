"""The column `faces`: what it may hold, what stands against it, and that consent and fingerprint cover every face."""

import json
from dataclasses import replace
from datetime import date

import pytest

from pipeline.ledger.clip_row import clip_row
from pipeline.manifest.consent import check_consent
from pipeline.manifest.dialogue import parts_of
from pipeline.manifest.entries import with_changed
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ConsentSettings
from pipeline.qc.retakes import take_clip
from pipeline.run.fingerprint import Source, clip_parts, fingerprint
from tests.tiny import CONFIG

ANNA, BEN = {"face": 1, "audio": "anna.wav"}, {"face": "640,360", "audio": "ben.wav"}
LISTENS = {"face": 3, "idle": True}


def read(folder, faces, model=None, **values):
    row = {"clip_id": "a", "image": "i.png", "frame": "full", "faces": faces} | values
    (folder / "m.jsonl").write_text(json.dumps(row))
    return read_manifest(str(folder / "m.jsonl"), None, model)


def clip_of(folder, faces, **values):
    manifest = read(folder, faces, **values)
    assert not manifest.rejected, manifest.rejected[0].error
    return manifest.clips[0]


def refusal(folder, faces, **values):
    return read(folder, faces, **values).rejected[0].error.message


def test_each_face_is_as_a_row_of_its_own_and_has_the_rows_values_where_it_has_none(tmp_path):
    own = {"emotion": "sad", "e_cfg_scale": 2, "seed": 9, "audio_stream": "de", "speaker": "Ben"}
    clip = clip_of(tmp_path, [ANNA, BEN | own, LISTENS], emotion="happy", seed=5, language="en", nfe=4, speaker="Cy")
    one, two, three = parts_of(clip)
    assert (one.face, one.audio, one.emotion, one.seed) == ("1", str(tmp_path / "anna.wav"), {"happy": 1.0}, 5)
    assert (two.face, two.emotion, two.e_cfg_scale, two.seed) == ("640,360", {"sad": 1.0}, 2.0, 9)
    assert (three.face, three.audio, three.seed, three.nfe) == ("3", "", 7, 4)
    assert [part.language for part in (one, two, three)] == ["en"] * 3
    assert [part.speaker for part in (one, two, three)] == [None, "Ben", None]
    assert [part.audio_stream for part in (one, two, three)] == [None, "de", None]
    assert not any(part.faces for part in (one, two, three))
    assert clip.sounds == (str(tmp_path / "anna.wav"), str(tmp_path / "ben.wav"))


def test_a_row_says_what_was_asked_for_in_a_form_that_can_be_read_again(tmp_path):
    spans = [{"start": 0, "end": 1, "emotion": "happy"}, {"emotion": {"sad": 0.5, "fear": 0.5}}]
    clip = clip_of(tmp_path, [ANNA | {"emotion": spans}, BEN | {"seed": 2}, LISTENS])
    row = clip_row(clip)
    assert row["audio"] is row["face"] is None
    again = clip_of(tmp_path, row["faces"], audio=row["audio"], face=row["face"])
    assert again.faces == clip.faces


def test_a_cell_of_json_and_a_name_from_the_first_sound(tmp_path):
    (tmp_path / "m.csv").write_text(f"image;frame;faces\ni.png;full;'{json.dumps([LISTENS, ANNA])}'\n".replace("'", ""))
    (clip,) = read_manifest(str(tmp_path / "m.csv")).clips
    assert clip.clip_id == "anna"
    assert [face.face for face in clip.faces] == ["3", "1"]


@pytest.mark.parametrize(
    ("faces", "values", "said"),
    [
        ([ANNA], {"frame": "crop"}, "set frame to full"),
        ([ANNA], {"frame": None}, "set frame to full"),
        ([ANNA], {"crop": "none"}, "set crop to auto"),
        ([ANNA], {"audio": "a.wav"}, "leave this cell empty"),
        ([ANNA], {"face": 2}, "leave this cell empty"),
        ([ANNA], {"seconds": 2}, "leave this cell empty"),
        ([ANNA], {"programme": "p", "order": 1}, "animate one face"),
        ([], {}, "is not a list of objects"),
        ("anna.wav", {}, "is not a list of objects"),
        ('[{"face": 1', {}, "is not JSON"),
        ([LISTENS], {}, "no face has an audio"),
        ([ANNA, BEN | {"face": "1"}], {}, "faces[2]: faces[1] names the same face"),
        ([ANNA, {"face": 2}], {}, "faces[2], audio: it has no audio"),
        ([ANNA, BEN | {"idle": True}], {}, "faces[2], audio: it has an audio and is idle"),
        ([ANNA, LISTENS | {"idle": "yes"}], {}, "faces[2], idle: 'yes' is not true"),
        ([ANNA, {"audio": "b.wav"}], {}, "faces[2], face: it says which face"),
        ([ANNA, BEN | {"face": "largest"}], {}, "faces[2], face: 'largest' does not say which face"),
        ([ANNA, BEN | {"face": "left"}], {}, "faces[2], face: 'left' names no face"),
        ([ANNA, BEN | {"emotions": "sad"}], {}, "faces[2]: 'emotions' is not one of"),
        ([ANNA, BEN | {"emotion": "hapy"}], {}, "faces[2], emotion: 'hapy' is not one of"),
        ([ANNA, BEN | {"e_cfg_scale": 21}], {}, "faces[2], e_cfg_scale: 21 is not a number"),
        ([ANNA, BEN | {"seed": -1}], {}, "faces[2], seed: -1 is not an integer"),
        ([ANNA, BEN | {"audio": "a\0.wav"}], {}, "faces[2], audio: "),
        ([ANNA | {"face": n} for n in range(1, 10)], {}, "9 faces are more than the 8"),
    ],
)
def test_a_wrong_cell_is_refused_with_the_number_of_the_face(tmp_path, faces, values, said):
    message = refusal(tmp_path, faces, **values)
    assert message.startswith("row 1 (line 1), column ")
    assert said in message


def test_a_model_that_follows_head_poses_animates_one_face(tmp_path):
    posed = replace(CONFIG, pose="head")
    assert "has one" in refusal(tmp_path, [ANNA], model=posed, pose="/a.npy")


def test_paths_of_sounds_are_made_absolute_and_the_rest_stays():
    placed = with_changed([ANNA, LISTENS, "x"], "audio", lambda path: f"/base/{path}")
    assert placed == [ANNA | {"audio": "/base/anna.wav"}, LISTENS, "x"]
    assert with_changed("[", "audio", str) == "["


# --- Consent ---------------------------------------------------------------------------------------------------

NAMED = {"speaker": "Ben", "consent_ref": "c-2"}


@pytest.fixture
def checked(tmp_path):
    (tmp_path / "r.csv").write_text("consent_ref,speaker,expires\nc-1,Anna,\nc-2,Ben,\nc-3,Ben,2020-01-01\n")

    def check(faces, speakers, **values):
        settings = ConsentSettings(speakers, str(tmp_path / "r.csv"))
        manifest = check_consent(read(tmp_path, faces, **values), settings, date(2026, 1, 1))
        assert len(manifest) == 1
        error = manifest.rejected[0].error if manifest.rejected else None
        return None if error is None else (error.code, error.message)

    return check


def test_everybody_in_the_picture_needs_a_consent_also_one_who_listens(checked):
    anna = ANNA | {"speaker": "Anna", "consent_ref": "c-1"}
    assert checked([anna, BEN | NAMED], ["*"]) is None
    for other in (BEN, LISTENS, BEN | {"speaker": "Ben"}):
        code, message = checked([anna, other], ["*"], speaker="Anna", consent_ref="c-1")
        assert code == "consent_missing"
        assert message.startswith("faces[2]: ")
    assert checked([anna, LISTENS | NAMED | {"consent_ref": "c-3"}], ["*"])[0] == "consent_expired"
    assert checked([anna, LISTENS | NAMED | {"consent_ref": "c-1"}], ["*"])[0] == "consent_unknown"


def test_with_a_list_of_speakers_a_face_without_a_name_is_unclear(checked):
    assert checked([ANNA | {"speaker": "Cy"}, BEN | NAMED], ["Ben"]) is None
    assert checked([ANNA, BEN | NAMED], ["Ben"])[0] == "consent_unclear"
    assert checked([ANNA, BEN | NAMED], ["Ben"], speaker="Cy")[0] == "consent_unclear"
    row = checked([ANNA | {"speaker": "Cy"}], ["Ben"], speaker="Ben")
    assert row[0] == "consent_missing"
    assert not row[1].startswith("faces")


# --- Fingerprint and takes -------------------------------------------------------------------------------------


def mark(clip, *sounds):
    first, *others = [Source(sound, 1) for sound in sounds or ("sha256:1", "sha256:2")]
    return fingerprint(clip_parts(clip, Source("sha256:0", 1), first, {}, others=others))


def test_the_fingerprint_covers_all_faces_and_their_sounds(tmp_path):
    usual = clip_of(tmp_path, [ANNA, BEN])
    others = [
        [BEN, ANNA],  # the order in which they are put into the picture
        [ANNA, BEN, LISTENS],
        [ANNA, BEN | {"face": 2}],
        [ANNA, BEN | {"emotion": "sad"}],
        [ANNA, BEN | {"emotion": [{"start": 0, "end": 1, "emotion": "sad"}]}],
        [ANNA, BEN | {"e_cfg_scale": 2}],
        [ANNA, BEN | {"seed": 4}],
        [ANNA, BEN | {"audio_stream": 2}],
    ]
    marks = {mark(usual), mark(usual, "sha256:1", "sha256:3"), *(mark(clip_of(tmp_path, faces)) for faces in others)}
    assert len(marks) == len(others) + 2
    same = clip_of(tmp_path, [ANNA, BEN | {"seed": 1, "speaker": "Ben"}])
    assert mark(same) == mark(usual)


def test_another_take_has_another_seed_for_each_face(tmp_path):
    clip = clip_of(tmp_path, [ANNA, BEN | {"seed": 3}])
    again = take_clip(clip, 2)
    before, now = ([part.seed for part in parts_of(one)] for one in (clip, again))
    assert before == [0, 3]
    assert len({*before, *now}) == 4
    assert take_clip(clip, 1) == clip
