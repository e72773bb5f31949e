"""A file whose decoder never returns, in native code and with Python's lock: it fails alone, wherever that happens.

The decoders of child processes are those of `spinning/sitecustomize.py`. A test ends their time as soon as one spins.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli import checking
from pipeline.common import child
from pipeline.common.child import stop_children
from pipeline.common.limits import Limits
from pipeline.evaluation.stage import VideoStage
from pipeline.ledger.ledger import Ledger
from pipeline.media.settings import VideoSettings
from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import QcStage
from pipeline.training_data.places import Places
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.stage import PrepareStage
from pipeline.training_data.videos import Video
from tests import media, reels
from tests.running import alive, press_ctrl_c_when, results, run_job

SPINNING = Path(__file__).parents[1] / "spinning"
MARK = b"never ends"
SAID = "did not end within"


@pytest.fixture
def spins(tmp_path, monkeypatch):
    """The file that says that a child spins; such a child has no more time."""
    file = tmp_path / "spins"
    seen = []

    def allowed(decoded, minutes):
        if not file.exists():
            return 600.0
        seen.append(int(file.read_text()))
        file.unlink()
        return 0.0

    monkeypatch.syspath_prepend(SPINNING)
    monkeypatch.setenv("FLOATCAST_SPINS", str(file))
    monkeypatch.setattr(child, "allowed_seconds", allowed)
    yield file
    assert not any(map(alive, seen))
    stop_children()


def marked(path, data):
    path.write_bytes(data + MARK)
    return path


@pytest.fixture
def manifest(tmp_path):
    """Three clips: a portrait that hangs, a sound that hangs, and a good one."""
    face, sound = media.PORTRAIT.read_bytes(), media.wav(media.tone())
    (tmp_path / "face.png").write_bytes(face)
    (tmp_path / "a.wav").write_bytes(sound)
    marked(tmp_path / "hangs.png", face)
    marked(tmp_path / "hangs.wav", sound)
    rows = [("image", "hangs.png", "a.wav"), ("sound", "face.png", "hangs.wav"), ("good", "face.png", "a.wav")]
    text = "".join(json.dumps({"clip_id": i, "image": p, "audio": s, "emotion": "sad"}) + "\n" for i, p, s in rows)
    (tmp_path / "m.jsonl").write_text(text)
    return tmp_path / "m.jsonl"


@pytest.mark.slow
def test_rendering_fails_two_clips_and_delivers_the_other(spins, manifest, tiny_model, tmp_path):
    done = run_job(
        "render", f"manifest={manifest}", f"model={tiny_model.path}", f"output={tmp_path}/out", "executor=serial"
    )
    assert done.returncode == 1
    rows = {row["clip_id"]: row for row in pq.read_table(next((tmp_path / "out").rglob("clips*.parquet"))).to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {"image": "failed", "sound": "failed", "good": "done"}
    for kind, row in (("image", rows["image"]), ("audio", rows["sound"])):
        assert row["error_code"] == "timed_out"
        assert row["error_message"].startswith(f"{kind} {tmp_path}/hangs.")
        assert SAID in row["error_message"]


@pytest.mark.slow
def test_a_check_names_both_and_goes_on(spins, manifest, monkeypatch):
    monkeypatch.setattr(checking.os, "cpu_count", lambda: 1)
    done = run_job("render", "--check", f"manifest={manifest}")
    assert done.returncode == 1
    assert "1 clips can be rendered, 2 cannot" in done.stdout
    assert done.stdout.count("timed_out") == 2


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--check"], ["executor=serial"]])
def test_ctrl_c_meanwhile_ends_the_job_and_the_child(spins, manifest, arguments, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "allowed_seconds", lambda *of: 600.0)
    with press_ctrl_c_when(spins):
        done = run_job(
            "render", *arguments, f"manifest={manifest}", f"model={tiny_model.path}", f"output={tmp_path}/out"
        )
    assert done.returncode == 130
    assert not alive(int(spins.read_text()))


@pytest.mark.slow
def test_quality_control_says_that_it_did_not_measure_a_clip(spins, tmp_path):
    film = marked(tmp_path / "film.mp4", media.mp4(media.tone(rate=48_000)))
    (tmp_path / "a.wav").write_bytes(media.wav(media.tone()))
    row = {"clip_id": "a", "row": 1, "status": "done", "fingerprint": "0123456789ab", "uri": str(film)}
    row |= {"image": str(media.PORTRAIT), "audio": f"{tmp_path}/a.wav", "audio_duration": 1.0, "face_box": None}
    row |= {"width": 64, "height": 64}
    (judged,) = results(
        QcStage(QcSettings(), Limits(), VideoSettings(), Ledger(str(tmp_path / "out")), 2.0), [row | {"fps": 25.0}]
    )
    assert judged["status"] == "done"
    assert judged["qc_version"] == "failed"
    assert SAID in judged["qc_notes"][0]


@pytest.mark.slow
def test_evaluation_fails_a_video_and_measures_the_next(spins, tmp_path):
    good = tmp_path / "good.mp4"
    good.write_bytes(media.mp4(media.tone(rate=48_000)))
    bad = marked(tmp_path / "bad.mp4", good.read_bytes())
    items = [{"uri": str(bad)}, {"uri": str(good)}]
    bad_row, good_row = results(VideoStage(str(tmp_path / "out"), {}, Limits()), items)
    assert (bad_row["status"], bad_row["error_code"]) == ("failed", "timed_out")
    assert SAID in bad_row["error_message"]
    assert good_row["status"] == "done"  # its frames are plain, and what needs no face is measured


@pytest.mark.slow
def test_preparing_drops_a_video_and_looks_at_the_next(spins, tmp_path):
    good = tmp_path / "good.mp4"
    good.write_bytes(media.mp4(media.tone(rate=48_000)))
    bad = marked(tmp_path / "bad.mp4", good.read_bytes())
    videos = [Video(path.stem, str(path), "anna", fingerprint="f") for path in (bad, good)]
    stage = PrepareStage(Places(str(tmp_path / "out"), "r"), ClipSettings(**reels.SMALL), Limits())
    bad_row, good_row = results(stage, videos)
    assert (bad_row["status"], bad_row["error_code"]) == ("failed", "timed_out")
    assert SAID in bad_row["rows"][0]["found"]
    assert good_row["status"] == "done"
