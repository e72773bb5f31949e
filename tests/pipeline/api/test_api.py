"""Floatcast from Python, as a notebook uses it."""

import json
from pathlib import Path

import floatcast
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api.settings import with_values
from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.media.image import load_image
from pipeline.media.xmp import read_mark
from pipeline.render import mouth_probe
from pipeline.render.mouth import Mouth
from pipeline.run.plan_stage import PlanStage
from pipeline.run.settings import RenderSettings
from tests import media
from tests.pipeline.render.test_portrait import FACE, OTHER, beside
from tests.running import results

ROW = {"clip_id": "a", "image": str(media.PORTRAIT), "audio": str(media.SPEECH), "emotion": "happy", "nfe": 4}
QUIET = {"executor": "serial", "progress": False}


def test_rows_become_videos_and_a_table_and_the_same_call_resumes(tiny_model, tmp_path):
    rows = [ROW, {"clip_id": "b", "image": "nowhere.png", "audio": str(media.SPEECH)}]
    given = {"output": tmp_path / "out", "model": str(tiny_model.path), **QUIET}
    table = floatcast.render(rows, **given, video={"crf": 30})
    assert [(row["clip_id"], row["status"], row["error_code"]) for row in table.to_pylist()] == [
        ("a", "done", None),
        ("b", "rejected", "input_not_found"),
    ]
    assert table.equals(pq.read_table(tmp_path / "out" / "clips.parquet"))
    assert len(media.pictures(table["uri"][0].as_py())) == table["frames"][0].as_py()
    again = floatcast.render(tmp_path / "out" / "manifest.jsonl", **given, **{"video.crf": 30})
    assert again["committed"][0] == table["committed"][0]  # it was not rendered again
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["done"], summary["rendered"], summary["exit_code"]) == (1, 0, 1)


def test_paths_in_rows_begin_where_python_is(tiny_model, tmp_path, monkeypatch):
    for name, file in (("face.png", media.PORTRAIT), ("voice.wav", media.SPEECH)):
        (tmp_path / name).write_bytes(Path(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    table = pa.Table.from_pylist([{"image": "face.png", "audio": "voice.wav", "emotion": "sad"}])
    done = floatcast.render(table, output="out", model=str(tiny_model.path), qc={"enabled": False}, **QUIET)
    assert done["status"].to_pylist() == ["done"]
    assert done["clip_id"].to_pylist() == ["voice"]


@pytest.mark.parametrize(
    ("clips", "settings", "message"),
    [
        ([ROW], {"limt": 3}, "unknown setting limt: did you mean limit?"),
        ([ROW], {"video": {"crv": 3}}, "unknown setting video.crv: did you mean video.crf?"),
        ([ROW], {"video.crf": 99}, "video.crf: 99 is not allowed; it must be 1 to 51"),
        ([ROW], {"video.crf": "9"}, "video.crf: '9' is not allowed; it must be int"),
        ([ROW], {"limit.x": 3}, "limit is a single value"),
        ([ROW], {"model": "/nowhere"}, "/nowhere is not a model folder"),
        ([], {}, "there are no clips"),
        (["a.png"], {}, "row 1 is a str, but must be a dict"),
        ([{**ROW, "tags": {1, 2}}], {}, "row 1: set cannot be written into a manifest"),
    ],
)
def test_what_cannot_be_rendered_is_refused_with_what_to_change(clips, settings, message, tmp_path):
    with pytest.raises(floatcast.RefusedError) as refused:
        floatcast.render(clips, output=tmp_path, **QUIET | settings)
    assert message in str(refused.value)


def test_settings_keep_what_is_not_named():
    settings = with_values(RenderSettings(limit=2), {"video": {"crf": 20}, "video.fps": "30", "render.tolerance": 1})
    assert (settings.limit, settings.video.crf, settings.video.fps, settings.video.speed) == (2, 20, "30", "veryfast")
    assert settings.render.tolerance == 1.0
    assert RenderSettings().video.crf == 18


def test_a_model_step_by_step_gives_the_frames_of_a_job(tiny_model, tmp_path):
    given = {"model": str(tiny_model.path), "video": {"crf": 1}, "qc": {"enabled": False}}
    (row,) = floatcast.render([ROW], output=tmp_path / "out", **given, **QUIET).to_pylist()
    model = floatcast.open_model(str(tiny_model.path), device="cpu")
    portrait = model.encode_portrait(ROW["image"])
    speech = model.speech_features(ROW["audio"])
    assert speech.content.shape == (row["frames"], tiny_model.config.latent_dim)
    motion = model.sample_motion(portrait, speech, emotion={"happy": 1.0}, nfe=4)
    frames = model.decode(portrait, motion)
    assert frames.shape == (row["frames"], model.size, model.size, 3)
    path = model.write_mp4(tmp_path / "a.mp4", frames, ROW["audio"], floatcast_video(crf=1))
    found, expected = media.planes(str(path)).astype(int), media.planes(row["uri"])
    assert np.abs(found - expected).max() <= 10  # through 8 bits of RGB, and an encoder that loses a little
    assert np.abs(found - expected).mean() < 1.0
    assert read_mark(path)["model"] == tiny_model.name
    heard = model.sample_motion(portrait, speech, nfe=4)
    assert not np.allclose(heard, motion)


def test_a_portrait_that_lies_on_its_side_is_turned_with_a_warning(tiny_model, tmp_path, caplog):
    model = floatcast.open_model(str(tiny_model.path), device="cpu")
    upright = load_image(media.PORTRAIT.read_bytes(), Limits())
    (tmp_path / "lying.png").write_bytes(media.picture(np.rot90(upright)))
    expected = model.encode_portrait(upright).motion
    for image in (np.rot90(upright), tmp_path / "lying.png"):
        assert np.array_equal(model.encode_portrait(image).motion, expected)
    assert ["turned by 90 degrees clockwise" in record.message for record in caplog.records] == [True, True]


def floatcast_video(**values):
    from pipeline.media.settings import VideoSettings

    return VideoSettings(**values)


def test_arrays_are_taken_as_files_are(tiny_model):
    model = floatcast.open_model(str(tiny_model.path), device="cpu")
    wave = np.sin(np.arange(16_000, dtype=np.float32) / 10)
    assert len(model.speech_features(wave).content) == 25
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert model.encode_portrait(pixels, crop="none").motion.shape == (1, tiny_model.config.latent_dim)
    pair = np.asarray(beside(FACE, OTHER))
    first, second = (model.encode_portrait(pair, face=face).motion for face in (1, (260, 80)))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, model.encode_portrait(pair, face="1").motion)
    with pytest.raises(floatcast.RefusedError, match="face: 'first' names no face"):
        model.encode_portrait(pair, face="first")
    with pytest.raises(floatcast.ClipError, match="no face found"):
        model.encode_portrait(pixels)
    with pytest.raises(floatcast.RefusedError, match="RGB"):
        model.encode_portrait(pixels[..., 0])
    with pytest.raises(floatcast.RefusedError, match="mono samples"):
        model.speech_features(wave[None])
    with pytest.raises(floatcast.RefusedError, match="unknown emotion glad"):
        model.sample_motion(None, floatcast.Speech(np.zeros((1, 1)), np.zeros(7)), emotion={"glad": 1})


@pytest.mark.slow
def test_our_stages_in_a_users_own_graph(local_ray, tiny_model, tmp_path):
    import ray

    rows = [ROW | {"clip_id": name, "own": i} for i, name in enumerate(("a", "b", "c"))]
    rows += [{"clip_id": "none", "image": "/nowhere/p.png", "audio": ROW["audio"]}, {"clip_id": "bad", "seed": "x"}]
    columns = sorted({name for row in rows for name in row})
    whole = [{name: row.get(name) for name in columns} for row in rows]
    for row in whole:
        row["seed"] = None if row.get("seed") is None else str(row["seed"])
    given = {"output": tmp_path / "out", "model": str(tiny_model.path)}
    given |= {"features": {"workers": 1}, "render": {"workers": 1, "device": "cpu"}, "qc": {"num_cpus": 0}}
    found = floatcast.render_dataset(ray.data.from_items(whole), **given).take_all()
    status = {row["clip_id"]: (row["status"], row["error_code"]) for row in found}
    assert status == {
        **dict.fromkeys("abc", ("done", None)),
        "none": ("rejected", "input_not_found"),
        "bad": ("rejected", "value_missing"),
    }
    done = {row["clip_id"]: row for row in found if row["status"] == "done"}
    assert done["b"]["own"] == 1
    assert done["a"]["qc_version"]
    # The stage that comes first finds what is done, and leaves nothing to the others.
    ledger = Ledger(str(tmp_path / "out"), "again")
    job = RenderSettings(output=str(tmp_path / "out"), model=given["model"])
    job = with_values(job, {group: given[group] for group in ("features", "render", "qc")})
    again = [row for row in results(PlanStage(job, ledger), whole) if isinstance(row, dict)]
    assert {row["clip_id"]: row["committed"] for row in again if row["status"] == "done"} == {
        name: row["committed"] for name, row in done.items()
    }
    with pytest.raises(floatcast.RefusedError, match=r"ray\.data\.Dataset"):
        floatcast.render_dataset(rows, **given)


@pytest.mark.slow
def test_spans_of_emotions_are_those_of_a_job(tiny_model, tmp_path):
    """The same frames as the row with the same spans, and what cannot be is refused by the number of the span."""
    spans = [{"start": 0.2, "end": 1.0, "emotion": "happy", "strength": 3}, {"emotion": "sad"}]
    told = {"nfe": 4, "emotion_fade": 0.1}
    given = {"model": str(tiny_model.path), "video": {"crf": 1}, "qc": {"enabled": False}}
    (row,) = floatcast.render([ROW | told | {"emotion": spans}], output=tmp_path / "out", **given, **QUIET).to_pylist()
    assert json.loads(row["emotion"]) == [{"start": 0.2, "end": 1.0, "emotion": "happy", "strength": 3.0}, spans[1]]
    assert (row["emotion_source"], row["emotion_fade"]) == ("manifest", 0.1)
    model = floatcast.open_model(str(tiny_model.path), device="cpu")
    portrait, speech = model.encode_portrait(ROW["image"]), model.speech_features(ROW["audio"])
    motion = model.sample_motion(portrait, speech, emotion=spans, **told)
    frames = model.decode(portrait, motion)
    found = media.planes(str(model.write_mp4(tmp_path / "a.mp4", frames, ROW["audio"], floatcast_video(crf=1))))
    assert np.abs(found.astype(int) - media.planes(row["uri"])).max() <= 10
    assert not np.allclose(motion, model.sample_motion(portrait, speech, emotion={"sad": 1.0}, nfe=4), atol=1e-2)
    with pytest.raises(floatcast.RefusedError, match="emotion: span 1: 'glad' is not one of"):
        model.sample_motion(portrait, speech, emotion=[spans[0] | {"emotion": "glad"}])
    with pytest.raises(floatcast.RefusedError, match="emotion_fade: -1 is not a number of seconds"):
        model.sample_motion(portrait, speech, emotion=spans, emotion_fade=-1)
    with pytest.raises(floatcast.ClipError, match="span 1 of the column emotion lasts from"):
        model.sample_motion(portrait, speech, emotion=[spans[0] | {"end": 1000}])


def test_the_mouth_rests_in_pauses_and_silence_is_heard_there(tiny_model, monkeypatch):
    model = floatcast.open_model(str(tiny_model.path), device="cpu")
    read = np.zeros(tiny_model.config.latent_dim, np.float32)
    read[0] = 1.0
    monkeypatch.setattr(mouth_probe, "mouth_of", lambda *_: Mouth(read, read, 0.25))  # it has no mouth that is seen
    portrait = model.encode_portrait(ROW["image"])
    pause = [{"start": 0.4, "end": 1.2}]
    spoken, closed, idle = (
        model.speech_features(ROW["audio"], silence) for silence in ("model", pause, [pause[0] | {"silence": "idle"}])
    )
    assert np.array_equal(spoken.content, closed.content)
    assert not np.array_equal(spoken.content, idle.content)
    plain, rested = (model.sample_motion(portrait, one, nfe=4).numpy() for one in (spoken, closed))
    assert np.array_equal(plain[:, 1:], rested[:, 1:])
    assert np.array_equal(plain[[*range(10), *range(30, len(plain))]], rested[[*range(10), *range(30, len(plain))]])
    assert rested[15:25, 0] == pytest.approx(0.25, abs=1e-5)
    with pytest.raises(floatcast.RefusedError, match="silence: 'shut' is not one of model, closed, idle"):
        model.speech_features(ROW["audio"], "shut")


@pytest.mark.slow
def test_each_span_moves_as_a_clip_with_its_emotion_and_more_so_with_more_strength():
    """On trained weights; nearest of four clips that have one emotion each."""
    model = floatcast.open_model(device="cpu")
    portrait, speech = model.encode_portrait(media.PORTRAIT), model.speech_features(media.SPEECH)
    names, third = ("happy", "angry", "sad"), len(speech.content) // 3
    whole = {name: model.sample_motion(portrait, speech, emotion={name: 1.0}, nfe=4) for name in (*names, "surprise")}
    moved = {}
    for strength in (1.0, 2.0):
        parts = [
            {"start": i * third / 25, "end": (i + 1) * third / 25, "emotion": name, "strength": strength}
            for i, name in enumerate(names)
        ]
        motion = model.sample_motion(portrait, speech, emotion=parts, nfe=4)
        for i, name in enumerate(names):
            inner = slice(i * third + 4, (i + 1) * third - 4)  # without the fades
            nearest = min(whole, key=lambda other: float((motion[inner] - whole[other][inner]).norm()))
            assert nearest == name
            others = sum(whole[other][inner] for other in whole if other != name) / 3
            moved[name, strength] = float((motion[inner] - others).norm())
    assert all(moved[name, 2.0] > moved[name, 1.0] for name in names)
