"""The stage of quality control: delivered files on disk and in object storage, and what it does where one is bad."""

import base64
import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import RefusedError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.common.stage import started
from pipeline.ledger.ledger import Ledger
from pipeline.media.settings import VideoSettings
from pipeline.qc import stage as module
from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import QcStage, qc_version
from pipeline.qc.verdict import metric_table
from pipeline.storage.objects import put_file
from tests import media
from tests.pipeline.render.test_portrait import FACE, OTHER, beside, png
from tests.synthetic_videos import FPS, SIZE, SyntheticVideo, speech

ROOT = Path(__file__).parents[3]


@pytest.fixture
def delivered(output, tmp_path):
    """A stage, and the row of a clip whose video lies in the output."""
    video = SyntheticVideo(wave=speech(2.0))
    video.write(tmp_path / "film.mp4")
    (tmp_path / "source.wav").write_bytes(media.wav(video.wave[None]))
    put_file(tmp_path / "film.mp4", f"{output}/videos/a.0123456789ab.mp4")
    row = {
        "clip_id": "a",
        "row": 1,
        "status": "done",
        "fingerprint": "0123456789ab",
        "uri": f"{output}/videos/a.0123456789ab.mp4",
        "image": str(media.PORTRAIT),
        "audio": str(tmp_path / "source.wav"),
        "audio_duration": 2.0,
        "width": SIZE,
        "height": SIZE,
        "face_box": None,
        "fps": float(FPS),
    }
    return started(QcStage(QcSettings(), Limits(), VideoSettings(), Ledger(output), 2.0)), row


def test_a_row_gets_its_metrics_which_stay_next_to_the_clip(delivered, output, monkeypatch):
    stage, row = delivered
    row |= {"emotion": '[{"start": 0.5, "end": 1.5, "emotion": "happy"}, {"emotion": "neutral"}]', "emotion_fade": 0.1}
    [judged] = list(stage.process([row]))
    assert judged["qc_frames_missing"] == 0
    assert abs(judged["qc_emotion_span"]) < 0.3  # the photograph's mouth opens, and does not smile
    assert judged["qc_lip_correlation"] > 0.8
    assert judged["qc_loudness_error_lu"] < 0.1
    assert judged["qc_notes"] == []
    assert judged["qc_version"] == qc_version(QcSettings())
    known = Ledger(output).read_qc("a", "0123456789ab")
    assert known["figures"]["qc_face_share"] == 1
    assert len(known["curves"]["mouth"]) == 50
    assert known["curves"]["emotions"] == [[0.5, 1.5, "happy", judged["qc_emotion_span"]]]
    # Known metrics are taken as they are: nothing is decoded again.
    monkeypatch.setattr(module.QcStage, "_inspect", lambda *_: pytest.fail("measured twice"))
    assert list(stage.process([row])) == [judged]


def test_the_faces_of_an_image_with_several_are_in_a_small_picture(delivered, output, tmp_path):
    stage, row = delivered
    (tmp_path / "two.png").write_bytes(png(beside(FACE, OTHER)))
    asked = row | {"image": str(tmp_path / "two.png"), "faces_found": 2, "face": "2"}
    [judged] = list(stage.process([asked]))
    assert judged["qc_frames_missing"] == 0
    picture = base64.b64decode(Ledger(output).read_qc("a", "0123456789ab")["faces"])
    assert len(picture) < 16_000
    pixels = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 1] > 160) & (pixels[..., 2] < 110)
    assert np.flatnonzero(yellow.any(axis=0)).min() > 160  # the second of two faces in 320 px


@pytest.mark.slow
def test_a_clip_that_was_just_rendered_is_measured_without_looking_for_measurements(delivered, monkeypatch):
    stage, row = delivered
    asked = []
    monkeypatch.setattr(Ledger, "read_qc", lambda *of: asked.append(of))
    [judged] = list(stage.process([row | {"committed": time.time()}]))
    assert judged["qc_frames_missing"] == 0
    assert asked == []
    list(stage.process([row | {"committed": 1.0}]))  # done before this worker started: it may be measured
    assert len(asked) == 1


def test_rows_that_are_not_done_pass_through(delivered):
    stage, row = delivered
    rejected = row | {"status": "rejected"}
    assert list(stage.process([rejected])) == [rejected]


def test_a_source_that_is_missing_is_a_note_and_the_rest_is_judged(delivered):
    stage, row = delivered
    [judged] = list(stage.process([row | {"audio": "/nowhere/gone.wav"}]))
    assert judged["qc_loudness_error_lu"] is None
    assert "could not be read again" in judged["qc_notes"][0]
    assert judged["qc_face_share"] == 1


def test_a_file_that_does_not_decode_fails(delivered, output, tmp_path):
    stage, row = delivered
    (tmp_path / "broken.mp4").write_bytes(b"no film at all" * 100)
    put_file(tmp_path / "broken.mp4", row["uri"])
    [judged] = list(stage.process([row]))
    assert judged["qc_frames_missing"] == 50
    assert "cannot be decoded" in judged["qc_notes"][0]


def test_a_file_that_is_missing_is_reported_and_tried_again_next_time(delivered):
    stage, row = delivered
    [judged] = list(stage.process([row | {"uri": row["uri"] + ".gone"}]))
    assert judged["qc_version"] == "failed"
    [note] = judged["qc_notes"]
    assert note == "not measured: it does not exist: check its name; the same command tries again"


def test_other_networks_are_another_version_and_a_missing_one_is_refused(tmp_path):
    (tmp_path / "net").write_bytes(b"1")
    one = qc_version(QcSettings(syncnet=str(tmp_path / "net")))
    (tmp_path / "net").write_bytes(b"2")
    assert len({one, qc_version(QcSettings(syncnet=str(tmp_path / "net"))), qc_version(QcSettings())}) == 3
    with pytest.raises(SettingError, match=r"identity_model: .* does not exist"):
        qc_version(QcSettings(identity_model=str(tmp_path / "no")))


def test_dlib_is_measured_where_it_is_installed_and_no_other_network_is_given(monkeypatch, tmp_path):
    assert QcSettings().measures_dlib
    assert not QcSettings(dlib_distance="never").measures_dlib
    assert not QcSettings(identity_model=str(tmp_path / "net")).measures_dlib
    assert QcSettings(identity_model=str(tmp_path / "net"), dlib_distance="always").measures_dlib
    assert qc_version(QcSettings()) != qc_version(QcSettings(dlib_distance="never"))
    monkeypatch.setitem(sys.modules, "dlib", None)
    assert not QcSettings().measures_dlib
    assert qc_version(QcSettings()) == qc_version(QcSettings(dlib_distance="never"))
    with pytest.raises(RefusedError, match=r"floatcast\[identity\]"):
        qc_version(QcSettings(dlib_distance="always"))


def test_the_readme_has_all_metrics_with_their_limits():
    text = (ROOT / "pipeline" / "qc" / "README.md").read_text("utf-8")
    assert text.endswith(f"## Metrics\n\n{metric_table()}")
