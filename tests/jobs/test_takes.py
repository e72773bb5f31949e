"""Quality control in a run: what fails by design is taken again, the better take delivered; the rows tell of it."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models import load_float, save_model
from models.encoders import load_content_encoder, load_emotion_encoder
from pipeline.ledger.ledger import Ledger
from tests import media
from tests.running import run_job
from tests.tiny import DATA


@pytest.fixture(scope="module")
def trained_model(tiny_model, tmp_path_factory):
    """The tiny model under the flag of a trained one, so that its pictures are judged: they still are noise."""
    content, emotion = load_content_encoder(DATA / "tiny_wav2vec2"), load_emotion_encoder(DATA / "tiny_ser")
    folder = tmp_path_factory.mktemp("trained") / "model"
    return save_model(folder, load_float(tiny_model), content, emotion, name="tiny", licence="test", trained=True).path


def run(*arguments):
    return run_job("render", *arguments, "executor=serial")


# Noise shows no face: rules that do not fit it are switched off, one that no take can meet is put in their place.
OFF = ["face_share < off fail", "face_share < off review", "flicker > off fail", "frozen_seconds > off fail"]
NOISE = [*OFF, "flicker > off review", "blur > off review", "black_seconds > off fail", "frozen_seconds > off review"]
NOISE += ["seam_z > off review", "seam_z > off fail"]


def thresholds(*more):
    return f"qc.thresholds={json.dumps([*NOISE, *more])}"


def rows_of(path):
    return {row["clip_id"]: row for row in pq.read_table(path).to_pylist()}


@pytest.mark.slow
def test_a_clip_that_fails_is_taken_again_and_a_person_has_the_last_word(trained_model, tmp_path):
    audio = str(media.SPEECH)
    lines = [
        {"clip_id": "fine", "image": str(media.PORTRAIT), "audio": audio, "language": "en"},
        {"clip_id": "hard", "image": str(media.PORTRAIT), "audio": audio, "language": "ko"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    common = [f"manifest={tmp_path / 'm.jsonl'}", f"model={trained_model}", f"output={out}", "qc.max_takes=3"]

    # For Korean alone, the picture must flicker less than it ever does.
    fails = thresholds("flicker > 0.00001 fail language=ko")
    done = run(*common, fails)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 pass" in done.stdout
    assert "1 fail" in done.stdout
    rows = rows_of(out / "clips.parquet")
    assert (rows["fine"]["qc_status"], rows["fine"]["takes"], rows["fine"]["take"]) == ("pass", 1, 1)
    hard = rows["hard"]
    assert (hard["status"], hard["qc_status"], hard["takes"]) == ("done", "fail", 3)
    assert hard["qc_reasons"] == ["flicker_high"]
    takes = [row for row in pq.read_table(out / "takes.parquet").to_pylist() if row["clip_id"] == "hard"]
    assert [row["take"] for row in takes] == [1, 2, 3]
    assert len({row["seed"] for row in takes}) == len({row["sha256"] for row in takes}) == 3
    assert [row["delivered"] for row in takes].count(True) == 1
    assert all(Path(row["uri"]).exists() for row in takes)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rendered"], summary["retakes"], summary["qc"]) == (2, 2, {"pass": 1, "review": 0, "fail": 1})
    assert len(list((out / "qc").glob("*.json"))) == 4

    # The limit now lies between the takes: the metrics are there, so nothing is rendered, and the best is delivered.
    flicker = sorted(row["qc_flicker"] for row in takes)
    between = thresholds(f"flicker > {(flicker[0] + flicker[1]) / 2:.6f} fail language=ko")
    videos = sorted(path.name for path in (out / "videos").iterdir())
    done = run(*common, between)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (out / "videos").iterdir()) == videos
    hard = rows_of(out / "clips.parquet")["hard"]
    assert (hard["qc_flicker"], hard["qc_status"], hard["takes"]) == (flicker[0], "pass", 3)

    # A person does not like that take: one more is rendered, though all takes are used up.
    (out / "review.csv").write_text(f"clip_id,take,verdict,comment\nhard,{hard['take']},retake,looks away\n")
    dry = run(*common, fails, "--dry-run")
    assert "would render another take of 1 clips, as reviewers have asked: hard" in dry.stdout
    done = run(*common, fails)
    assert done.returncode == 1, done.stderr
    after = rows_of(out / "clips.parquet")["hard"]
    assert after["take"] != hard["take"]
    assert (hard["takes"], after["takes"]) == (3, 4)
    assert len(list((out / "videos").iterdir())) == len(videos) + 1
    others = "".join(f"hard,{n},retake,\n" for n in (1, 2, 3))
    (out / "review.csv").write_text(f"clip_id,take,verdict,comment\n{others}")
    done = run(*common, fails)
    assert "a reviewer asked for a retake: rendering another take" in done.stdout
    after = rows_of(out / "clips.parquet")["hard"]
    assert (after["take"], after["takes"]) == (4, 6)  # one more for each request, as all of them fail
    assert len(list((out / "videos").iterdir())) == len(videos) + 3

    # It approves the new one, whatever the metrics say.
    (out / "review.csv").write_text(f"clip_id,take,verdict,comment\n{others}hard,4,approved,good\n")
    done = run(*common, fails)
    assert done.returncode == 0, done.stdout + done.stderr
    approved = rows_of(out / "clips.parquet")["hard"]
    assert (approved["qc_status"], approved["review"], approved["review_comment"]) == ("pass", "approved", "good")

    # All of it comes out of the folder again.
    (out / "clips.parquet").unlink()
    again = run_job("report", f"output={out}")
    assert again.returncode == 0, again.stderr
    rebuilt = rows_of(out / "clips.parquet")["hard"]
    assert {name: rebuilt[name] for name in approved} == approved


@pytest.mark.slow
def test_metrics_that_are_missing_are_measured_and_nothing_is_rendered(tiny_model, tmp_path):
    out = tmp_path / "out"
    common = [f"model={tiny_model.path}", f"output={out}", "limit=2"]
    assert run(*common, "qc.enabled=false").returncode == 0
    assert not (out / "qc").exists()
    before = rows_of(out / "clips.parquet")
    assert {row["qc_status"] for row in before.values()} == {None}
    done = run(f"model={tiny_model.path}", f"output={out}", f"only={','.join(before)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "quality control of 2 clips that are done" in done.stdout
    after = rows_of(out / "clips.parquet")
    assert {row["qc_status"] for row in after.values()} == {"review"}
    assert {tuple(row["qc_reasons"]) for row in after.values()} == {("model_untrained",)}
    assert [row["committed"] for row in after.values()] == [row["committed"] for row in before.values()]
    assert all(row["qc_loudness_error_lu"] < 0.1 for row in after.values())
    assert json.loads((out / "summary.json").read_text())["rendered"] == 0
    clip_id, row = next(iter(after.items()))
    assert Ledger(str(out)).read_qc(clip_id, row["fingerprint"])["figures"]["qc_frames_missing"] == 0


@pytest.mark.slow
def test_failed_jsonl_is_a_manifest(tiny_model, tmp_path):
    shutil.copy(media.PORTRAIT, tmp_path / "p.png")
    rows = [
        {"clip_id": "gone", "image": "p.png", "audio": "later.wav", "emotion": {"happy": 1, "sad": 1}, "title": "x"},
        {"clip_id": "wrong", "image": "p.png", "audio": str(media.SPEECH), "nfe": "many"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    done = run(f"manifest={tmp_path / 'm.jsonl'}", f"model={tiny_model.path}", f"output={out}")
    assert done.returncode == 1
    shutil.copy(media.SPEECH, tmp_path / "later.wav")
    done = run(f"manifest={out / 'failed.jsonl'}", f"model={tiny_model.path}", f"output={tmp_path / 'again'}")
    assert done.returncode == 1
    again = rows_of(tmp_path / "again" / "clips.parquet")
    assert again["gone"]["status"] == "done"
    assert json.loads(again["gone"]["emotion"]) == {"happy": 0.5, "sad": 0.5}
    assert again["gone"]["title"] == "x"
    assert (again["wrong"]["status"], again["wrong"]["error_code"]) == ("rejected", "value_invalid")
