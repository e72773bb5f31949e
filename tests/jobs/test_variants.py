"""Every variant of the model through `jobs.render`."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import media, synthetic_videos
from tests.running import run_job
from tests.tiny import save_tiny_face_emotion, save_tiny_model

SECONDS = 1.6
FRAMES = 40
POSES = 0.2 + 0.1 * np.sin(np.arange(FRAMES)[:, None] / 25 + np.arange(6))


@pytest.fixture
def render(tmp_path):
    """Renders rows by a variant of the model; gives how the job ended and the rows of the table by clip_id."""
    (tmp_path / "speech.wav").write_bytes(media.wav(synthetic_videos.speech(SECONDS)[None]))

    def render(model, rows, *arguments):
        files = {"image": str(media.PORTRAIT), "audio": "speech.wav"}
        (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(files | row) for row in rows))
        output = tmp_path / "out"
        job = [f"manifest={tmp_path / 'm.jsonl'}", f"output={output}", f"model={model.path}", "executor=serial"]
        done = run_job("render", *job, *arguments)
        table = output / "clips.parquet"
        found = pq.read_table(table).to_pylist() if table.exists() else []
        return done, {row["clip_id"]: row for row in found}

    return render


def check_video(row):
    assert row["status"] == "done", row
    assert len(media.pictures(row["uri"])) == row["frames"] == FRAMES


@pytest.mark.slow
def test_diffusion_with_cross_attention_is_sampled_by_ddim(render, tmp_path):
    model = save_tiny_model(tmp_path / "model", objective="x0", conditioning="cross_attention")
    rows = [{"clip_id": "own"}, {"clip_id": "few", "nfe": 5}, {"clip_id": "many", "nfe": 900}]
    done, table = render(model, rows)
    assert done.returncode == 1, done.stderr
    for clip_id, nfe in (("own", 50), ("few", 5)):
        check_video(table[clip_id])
        assert (table[clip_id]["solver"], table[clip_id]["nfe"]) == ("ddim", nfe)
        assert table[clip_id]["emotion_source"] == "speech"
    assert (table["many"]["status"], table["many"]["error_code"]) == ("rejected", "value_invalid")
    again, _ = render(model, rows[:2], "render.solver=ddim", "--dry-run")
    assert "0 new, 0 changed, 2 done before" in again.stdout  # auto was ddim


@pytest.mark.slow
def test_head_poses_come_from_a_table_or_from_a_driving_video(render, tmp_path):
    model = save_tiny_model(tmp_path / "model", pose="head")
    np.save(tmp_path / "pose.npy", POSES)
    np.save(tmp_path / "short.npy", POSES[:10])
    np.savetxt(tmp_path / "pose.csv", POSES, delimiter=",", header="yaw,pitch,roll,x,y,size", comments="")
    (tmp_path / "m").mkdir()
    synthetic_videos.SyntheticVideo(wave=synthetic_videos.speech(SECONDS)).write(tmp_path / "m" / "driving.mp4")
    (tmp_path / "blank.mp4").write_bytes(media.mp4(None))
    names = {"array": "pose.npy", "table": "pose.csv", "video": "m/driving.mp4"}
    names |= {"short": "short.npy", "faceless": "blank.mp4", "none": None}
    for clip_id, end in (("turned", 0.8), ("late", 99)):
        names[clip_id] = [{"start": 0.4, "end": end, "yaw": 40}, {"pose": "pose.npy"}]
    rows = [{"clip_id": clip_id, "pose": name, "pose_fade": 0.1} for clip_id, name in names.items()]

    checked, _ = render(model, rows, "--check")
    assert "check: 4 clips can be rendered, 4 cannot" in checked.stdout
    assert "pose_too_short: pose " in checked.stdout

    done, table = render(model, rows)
    assert done.returncode == 1, done.stderr
    for clip_id, source in (("array", "array"), ("table", "array"), ("video", "video")):
        check_video(table[clip_id])
        assert (table[clip_id]["pose"], table[clip_id]["pose_source"]) == (f"{tmp_path}/{names[clip_id]}", source)
        assert (table[clip_id]["solver"], table[clip_id]["nfe"]) == ("euler", 10)
    codes = {clip_id: table[clip_id]["error_code"] for clip_id in ("short", "faceless", "none", "late")}
    assert codes == {
        **{"short": "pose_too_short", "faceless": "face_not_found", "none": "value_missing"},
        "late": "pose_span_too_late",
    }
    array, same, other, turned = (
        media.pictures(table[name]["uri"]).astype(int) for name in ("array", "table", "video", "turned")
    )
    assert np.abs(array - turned).mean() > 1  # within a window all frames are sampled together
    assert json.loads(table["turned"]["pose"])[-1] == {"pose": f"{tmp_path}/pose.npy"}
    assert np.abs(array - same).mean() < 0.5  # of 255: the same numbers; x264 does not repeat itself bit for bit
    assert np.abs(array - other).mean() > 1
    failed = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    cells = {row["clip_id"]: row.get("pose") for row in failed}
    assert cells["short"] == f"{tmp_path}/short.npy"
    assert json.loads(cells["late"])[-1] == {"pose": f"{tmp_path}/pose.npy"}

    np.save(tmp_path / "pose.npy", POSES + 0.1)
    again, _ = render(model, rows[:3], "--dry-run")
    assert "0 new, 1 changed, 2 done before" in again.stdout
    assert "changed: pose x 1" in again.stdout


@pytest.mark.slow
def test_without_emotion_condition_an_emotion_is_rejected_and_none_is_reported(render, tmp_path):
    model = save_tiny_model(tmp_path / "model", emotion="none")
    done, table = render(model, [{"clip_id": "plain"}, {"clip_id": "happy", "emotion": "happy"}])
    assert done.returncode == 1, done.stderr
    check_video(table["plain"])
    assert (table["plain"]["emotion"], table["plain"]["emotion_source"]) == (None, "none")
    assert (table["happy"]["status"], table["happy"]["error_code"]) == ("rejected", "value_invalid")
    assert "leave the column empty" in table["happy"]["error_message"]


@pytest.mark.slow
def test_an_emotion_is_seen_in_the_portrait_unless_it_is_named(render, tmp_path):
    model = save_tiny_model(tmp_path / "model", save_tiny_face_emotion(tmp_path / "vit"), emotion="image")
    done, table = render(model, [{"clip_id": "seen"}, {"clip_id": "named", "emotion": "sad"}])
    assert done.returncode == 0, done.stderr
    check_video(table["seen"])
    check_video(table["named"])
    assert {clip_id: row["emotion_source"] for clip_id, row in table.items()} == {"seen": "image", "named": "manifest"}
    weights = json.loads(table["seen"]["emotion"])
    assert len(weights) == 7
    assert sum(weights.values()) == pytest.approx(1, abs=1e-3)
    assert json.loads(table["named"]["emotion"]) == {"sad": 1.0}


@pytest.mark.slow
def test_a_solver_that_does_not_sample_the_model_is_refused(render, tmp_path):
    diffusion = save_tiny_model(tmp_path / "diffusion", objective="epsilon")
    done, _ = render(diffusion, [{}], "render.solver=euler")
    assert done.returncode == 2
    assert "render.solver: euler cannot sample a model whose objective is epsilon; use one of auto, ddim" in done.stderr
    assert not (tmp_path / "out").exists()
