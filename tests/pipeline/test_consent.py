import json
import os
import subprocess
import sys
from datetime import date

import pytest

from pipeline.consent import check_consent
from pipeline.errors import ManifestError
from pipeline.manifest import read_manifest
from pipeline.settings import ConsentSettings, SettingError
from tests import media

TODAY = date(2026, 11, 24)
REGISTER = """consent_ref,speaker,expires,revoked
C-1,Anna,,
C-2,Anna,2026-11-24,
C-3,Anna,2026-11-23,
C-4,Anna,,yes
C-5,Ben,2030-01-01,no
"""


def manifest(tmp_path, *rows):
    line = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH)}
    text = "\n".join(json.dumps(line | {"clip_id": f"c{i}"} | row) for i, row in enumerate(rows))
    (tmp_path / "m.jsonl").write_text(text)
    return read_manifest(str(tmp_path / "m.jsonl"))


def checked(tmp_path, rows, speakers=("Anna",), register=REGISTER, name="consents.csv"):
    (tmp_path / name).write_text(register, encoding="utf-8")
    settings = ConsentSettings(list(speakers), str(tmp_path / name))
    found = check_consent(manifest(tmp_path, *rows), settings, TODAY)
    return [clip.clip_id for clip in found.clips], [(r.row, r.error.code, r.error.message) for r in found.rejected]


def test_every_way_in_which_a_consent_can_lack(tmp_path):
    rows = [
        {"speaker": "Anna", "consent_ref": "C-1"},
        {"speaker": "Anna"},
        {"speaker": "Anna", "consent_ref": "C-2"},  # today is its last day
        {"speaker": "Anna", "consent_ref": "C-3"},
        {"speaker": "Anna", "consent_ref": "C-4"},
        {"nfe": "many", "speaker": "Anna"},
        {"speaker": "Anna", "consent_ref": "C-5"},
        {"speaker": "Anna", "consent_ref": "C-9"},
        {"speaker": "Carla"},
        {},
    ]
    clips, rejected = checked(tmp_path, rows)
    assert clips == ["c0", "c2", "c8", "c9"]
    assert [(row, code) for row, code, _ in rejected] == [
        (2, "consent_missing"),
        (4, "consent_expired"),
        (5, "consent_expired"),
        (6, "value_invalid"),
        (7, "consent_unknown"),
        (8, "consent_unknown"),
    ]
    messages = [message for _, _, message in rejected]
    assert messages[1] == (
        "row 4: consent C-3 of speaker Anna was valid until 2026-11-23: get a new one, or leave it out"
    )
    assert "was revoked" in messages[2]
    assert "is that of Ben" in messages[4]


def test_a_star_asks_for_all_clips_those_without_a_speaker_too(tmp_path):
    clips, rejected = checked(tmp_path, [{}, {"speaker": "Ben", "consent_ref": "C-5"}, {"speaker": "Dora"}], ["*"])
    assert clips == ["c1"]
    assert [code for _, code, _ in rejected] == ["consent_missing"] * 2


def test_without_speakers_nobody_is_asked(tmp_path):
    found = check_consent(manifest(tmp_path, {"speaker": "Anna"}), ConsentSettings(), TODAY)
    assert len(found.clips) == 1
    with pytest.raises(SettingError, match="register: is needed too"):
        ConsentSettings(["Anna"])


def test_a_register_of_json_lines(tmp_path):
    text = '{"consent_ref": "C-1", "speaker": "Anna", "expires": null}\n\n{"consent_ref": 7, "speaker": "Anna"}\n'
    rows = [{"speaker": "Anna", "consent_ref": "C-1"}, {"speaker": "Anna", "consent_ref": 7}]
    assert checked(tmp_path, rows, register=text, name="consents.jsonl")[0] == ["c0", "c1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("consent_ref,expires\n", "no column speaker"),
        ("consent_ref,speaker,expires\nC-1,Anna,31.12.2027\n", "line 2: expires '31.12.2027' is not a date"),
        ("consent_ref,speaker\nC-1,Anna\nC-1,Ben\n", "line 3: consent_ref is there twice"),
        ("consent_ref,speaker\n,Anna\n", "line 2: consent_ref is empty"),
    ],
)
def test_a_register_that_cannot_be_trusted_is_refused_as_a_whole(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        checked(tmp_path, [{"speaker": "Anna"}], register=text)
    settings = ConsentSettings(["Anna"], str(tmp_path / "no.csv"))
    with pytest.raises(ManifestError, match="does not exist"):
        check_consent(manifest(tmp_path, {}), settings, TODAY)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--dry-run", "--check"])
def test_jobs_refuse_clips_without_consent_before_anything_is_rendered(tiny_model, tmp_path, flag):
    manifest(tmp_path, {"speaker": "Anna"}, {"speaker": "Ben"})
    (tmp_path / "consents.csv").write_text(REGISTER)
    keys = [f"manifest={tmp_path / 'm.jsonl'}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}"]
    keys += ["consent.speakers=[Anna]", f"consent.register={tmp_path / 'consents.csv'}"]
    command = [sys.executable, "-m", "jobs.render", flag, *keys]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "consent_missing: row 1: speaker Anna needs a consent" in done.stdout
