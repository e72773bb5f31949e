"""Feature stage and engine called in a plain loop, judged by decoding what they deliver."""

import json
import math
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.common.limits import Limits
from pipeline.common.stage import Part, started
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip
from pipeline.manifest.emotion_spans import EmotionSpan, text_in_words
from pipeline.manifest.reader import read_manifest
from pipeline.media.settings import VideoSettings
from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import QcStage
from pipeline.render import delivery
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.render_stage import RenderStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from tests import media
from tests.running import results
from tests.tiny import save_tiny_model

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clips():
    return read_manifest(str(DEMO)).clips


@pytest.fixture(scope="module")
def features(tiny_model, clips):
    return results(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()), clips)


def engine(model, output, **settings):
    video = settings.pop("video", media.lossless())  # what is decoded is what the engine made
    return Engine(model, EngineSettings(**settings), video, Ledger(str(output)))


def cut(item, frames):
    """The first frames of a clip."""
    return replace(item, speech=item.speech[:frames], frames=frames)


def frames_of(row):
    """Of a clip that is done, as the engine made them."""
    assert row["status"] == "done", row
    return media.planes(row["uri"]).astype(int)


def rendered(model, output, item, **settings):
    """The row of one clip, by an engine of its own."""
    return next(iter(engine(model, output, **settings).process([item])))


def test_every_clip_is_delivered_as_planned(tiny_model, features, tmp_path):
    rows = list(engine(tiny_model, tmp_path).process(features))
    assert sorted(row["clip_id"] for row in rows) == sorted(item.clip.clip_id for item in features)
    seconds = {item.clip.clip_id: item.audio_seconds for item in features}
    for row in rows:
        assert row["status"] == "done", row
        with av.open(row["uri"]) as file:
            video, audio = file.streams.video[0], file.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (
                sum(1 for _ in file.decode(video)) == row["frames"] == -(-int(seconds[row["clip_id"]] * 1e6) // 40000)
            )
        assert row["model_hash"] == tiny_model.hash
        assert row["audio_duration"] == seconds[row["clip_id"]]
        assert Path(row["uri"]).stat().st_size == row["bytes"]


def test_a_clip_among_others_is_what_it_is_alone(tiny_model, features, tmp_path):
    clips = [cut(item, frames) for item, frames in zip(features, (60, 20, 110, 75, 51, 50), strict=True)]
    together = list(engine(tiny_model, tmp_path / "together", slots=3).process(clips))
    one = engine(tiny_model, tmp_path / "alone", slots=3)
    alone = [next(iter(one.process([item]))) for item in clips]  # every one in the first slot
    by_id = {row["clip_id"]: row for row in together}
    for row in alone:
        # Rounding in another slot; in one slot frames are the same (test_slots).
        assert np.abs(frames_of(row) - frames_of(by_id[row["clip_id"]])).max() <= 1


def test_clips_of_later_calls_take_slots_that_earlier_ones_leave_free(tiny_model, features, tmp_path, monkeypatch):
    shared = engine(tiny_model, tmp_path, slots=4)
    long, short = features[3], cut(features[0], 60)
    render_round, begun, ended = shared._round, Event(), Event()

    def guided_round():
        """After its first window the long clip goes on only beside the short one, and after that one's end."""
        render_round()
        begun.set()
        while len(shared._rendering) == 1 and shared._waiting.empty() and not ended.is_set():
            ended.wait(0.01)

    monkeypatch.setattr(shared, "_round", guided_round)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: list(shared.process([long])))
        begun.wait()
        second = pool.submit(lambda: list(shared.process([short])))
        assert second.result()[0]["status"] == "done"
        assert not first.done()  # it has a window to go
        ended.set()
        assert first.result()[0]["status"] == "done"


def test_an_engine_that_is_closed_gives_up_what_it_renders_and_leaves_nothing(tiny_model, features, tmp_path):
    closed = engine(tiny_model, tmp_path)
    endless = replace(features[3], speech=np.tile(features[3].speech, (400, 1)), frames=40)
    rows = closed.process([endless, features[0]])  # one slot: the second has not begun
    scratch = Path(closed._delivery._scratch.name)
    closed.close()
    first, second = list(rows)
    assert {row["error_code"] for row in (first, second)} == {"interrupted"}
    assert not scratch.exists()
    assert not list((tmp_path / "attempts").glob("*"))
    closed.close()  # again is no error


@pytest.mark.slow
def test_six_minutes_are_rendered_in_the_memory_of_one(tiny_model, tmp_path):
    """The render stage's own memory, in a process of its own: what goes in with a clip, speech and sound, is there
    before it starts."""
    command = [sys.executable, "-m", "tests.pipeline.render.render_long", str(tiny_model.path), str(tmp_path), "1", "6"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    one, six = map(json.loads, done.stdout.splitlines())
    assert (one["frames"], six["frames"]) == (1_500, 9_000)
    kept = 7_500 * 32 * 48 / 1e6  # MB that it would take to keep the frames: 11.5
    assert six["megabytes"] - one["megabytes"] < kept / 2  # measured: less than 2 MB


def test_emotion_and_seed_change_the_frames_and_nothing_else_does(tiny_model, features, tmp_path):
    item = cut(features[1], 60)
    happy = np.eye(7, dtype=np.float32)[3]
    variants = {
        "same": item,
        "seed": replace(item, clip=replace(item.clip, seed=99)),
        "emotion": replace(item, emotion=np.roll(happy, 1)),
    }
    base = frames_of(rendered(tiny_model, tmp_path / "base", item))
    changed = {
        name: np.abs(frames_of(rendered(tiny_model, tmp_path / name, one)) - base) for name, one in variants.items()
    }
    assert changed["same"].max() <= 1
    assert changed["seed"].mean() > 3
    assert changed["emotion"].mean() > 0.5


def test_the_frames_before_a_span_are_those_without_it_at_another_frame_rate(tiny_model, clips, tmp_path):
    """Spans are seconds of the clip, whatever the rate: its first window of 2 s ends before the span and its fade."""
    video = media.lossless()
    video.fps = "30000/1001"
    spanned = replace(clips[1], clip_id="spanned", spans=(EmotionSpan(2.3, 2.6, {"angry": 1.0}, 3.0),))
    stage = FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), video)
    plain, marked = results(stage, [clips[1], spanned])
    assert plain.track is None
    assert len(marked.track) == len(marked.speech)
    rows = [rendered(tiny_model, tmp_path, item, video=video) for item in (plain, marked)]
    without, found = map(frames_of, rows)
    assert len(found) == len(without) == rows[0]["frames"]
    before = int(2.0 * rows[0]["fps"]) - 1  # a frame between two of the motion needs both
    assert np.array_equal(found[:before], without[:before])
    assert np.abs(found[before + 1 :] - without[before + 1 :]).mean() > 0.5
    assert text_in_words(rows[1]["emotion"]) == "angry from 2.3 to 2.6 s at 3 times the strength; elsewhere happy"
    assert (rows[1]["emotion_source"], rows[0]["emotion"]) == ("manifest", '{"happy": 1.0}')


def test_a_clip_that_fails_does_not_take_its_batch_along(tiny_model, features, tmp_path):
    broken = replace(features[2], speech=np.zeros((10, 3), dtype=np.float32))
    rows = list(engine(tiny_model, tmp_path).process([features[0], broken, features[1]]))
    status = {row["clip_id"]: (row["status"], row.get("error_code")) for row in rows}
    assert status == {
        features[0].clip.clip_id: ("done", None),
        broken.clip.clip_id: ("failed", "internal_error"),
        features[1].clip.clip_id: ("done", None),
    }


def test_a_solver_out_of_evaluations_fails_its_clip_with_a_code(tiny_model, features, tmp_path):
    item = replace(features[0], clip=replace(features[0].clip, nfe=7))
    row = rendered(tiny_model, tmp_path, item, solver="dopri5", tolerance=1e-8)
    assert (row["status"], row["error_code"]) == ("failed", "nfe_exhausted")
    assert "raise nfe" in row["error_message"]


def test_an_output_that_cannot_be_written_is_a_failed_clip(tiny_model, features, tmp_path):
    (tmp_path / "videos").write_text("a file where the folder should be")
    row = next(iter(engine(tiny_model, tmp_path).process(features[:1])))
    assert (row["status"], row["error_code"]) == ("failed", "storage_error")


def test_another_frame_rate_has_its_own_number_of_frames(tiny_model, clips, tmp_path):
    video = VideoSettings(fps="30000/1001")
    item = results(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), video), clips[:1])[0]
    row = rendered(tiny_model, tmp_path, item, video=video)
    assert row["status"] == "done"
    with wave.open(clips[0].audio) as sound:
        seconds = Fraction(sound.getnframes(), sound.getframerate())
    assert row["frames"] == math.ceil(seconds * 30_000 / 1001) != math.ceil(seconds * 25)
    assert len(media.pictures(row["uri"])) == row["frames"]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_sound_around_the_border_of_a_frame_has_features_for_exactly_its_frames(
    tiny_model, clips, tmp_path, rate, beyond
):
    samples = rate // 25 * 10 + beyond
    tone = media.tone(seconds=1.0, rate=rate)[:, :samples]
    (tmp_path / "tone.wav").write_bytes(media.wav(tone, rate=rate))
    clip = replace(clips[0], audio=str(tmp_path / "tone.wav"), emotion={"happy": 1.0})
    item = results(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()), [clip])[0]
    assert item.frames == len(item.speech) == -(-samples * 25 // rate)


def test_rejected_inputs_pass_through_the_engine_as_their_rows(tiny_model, clips, tmp_path):
    missing = replace(clips[0], clip_id="missing", audio=str(tmp_path / "no.wav"))
    stage = started(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()))
    rows = list(engine(tiny_model, tmp_path).process(list(stage.process([missing, clips[1]]))))
    assert {row["clip_id"]: row["status"] for row in rows} == {"missing": "rejected", clips[1].clip_id: "done"}


def test_the_row_of_a_portrait_that_lay_on_its_side_says_how_it_was_turned(tiny_model, clips, tmp_path):
    lying = Image.open(media.PORTRAIT).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "lying.png")
    frames = [Image.new("RGB", lying.size), lying]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    images = (media.PORTRAIT, tmp_path / "lying.png", tmp_path / "moving.webp")
    changed = [replace(clips[1], clip_id=image.stem, image=str(image)) for image in images]
    stage = started(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()))
    straight, *turned = list(stage.process(changed))
    for item in turned:
        assert np.array_equal(item.portrait, straight.portrait)
        assert item.face_box == straight.face_box
    rows = list(engine(tiny_model, tmp_path).process([straight, *turned]))
    assert [(row["portrait_turn"], row["image_frame"]) for row in rows] == [(0, None), (90, None), (90, 2)]
    assert [row["input_notes"] for row in rows] == [[], ["portrait_turned"], ["image_animated", "portrait_turned"]]
    qc = started(QcStage(QcSettings(), Limits(), VideoSettings(), Ledger(str(tmp_path)), 2.0))
    first, *others = [qc._portrait(row, [])[0] for row in rows]
    assert all(np.array_equal(first, other) for other in others)
    del rows[0]["portrait_turn"], rows[0]["image_frame"]  # as an earlier version wrote it
    assert np.array_equal(first, qc._portrait(rows[0], [])[0])


def test_a_square_image_is_taken_as_it_is_without_crop(tiny_model, clips):
    stage = started(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()))
    auto, none = list(stage.process([clips[1], replace(clips[1], crop="none")]))
    assert auto.faces_found == 1
    assert none.faces_found is None
    assert auto.portrait.shape == none.portrait.shape == (32, 32, 3)
    assert not np.array_equal(auto.portrait, none.portrait)


def test_a_given_emotion_is_used_and_a_missing_one_predicted(features):
    by_id = {item.clip.clip_id: item.emotion for item in features}
    assert by_id["en-2-happy"].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert by_id["en-1"].sum() == pytest.approx(1, abs=1e-5)
    assert (by_id["en-1"] > 0).all()


def test_long_speech_in_windows_gives_as_many_frames(tiny_model, clips):
    whole = results(FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()), clips[3:4])[0]
    windows = results(
        FeatureStage(
            str(tiny_model.path), FeatureSettings(window_seconds=5, overlap_seconds=1), Limits(), VideoSettings()
        ),
        clips[3:4],
    )[0]
    assert windows.speech.shape == whole.speech.shape
    assert isinstance(windows.clip, Clip)


# --- Variants of the model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reference", "eager"])
@pytest.mark.parametrize(
    "variant",
    [{"pose": "head"}, {"pose": "head", "conditioning": "cross_attention", "objective": "x0"}],
    ids=["flow", "cross-attention with diffusion"],
)
def test_another_pose_gives_another_video_and_the_same_pose_the_same(variant, mode, features, tmp_path):
    model = save_tiny_model(tmp_path / "model", **variant)
    item = cut(replace(features[2], clip=replace(features[2].clip, nfe=4)), 90)
    time = np.arange(len(item.speech))[:, None] / 25
    pose = (0.3 * np.sin(time + np.arange(6))).astype(np.float32)
    other = pose.copy()
    other[60:] += 1  # its first window is the same
    rows = [
        next(iter(engine(model, tmp_path / name, mode=mode).process([replace(item, pose=values)])))
        for name, values in (("one", pose), ("same", pose), ("other", other))
    ]
    one, same, turned = map(frames_of, rows)
    assert np.abs(one - same).max() <= 1
    assert np.abs(one - turned)[:50].max() <= 1
    assert np.abs(one - turned)[60:].mean() > 1
    assert {row["solver"] for row in rows} == {"ddim" if "objective" in variant else "euler"}


def test_a_model_with_head_poses_fails_a_clip_that_comes_without(features, tmp_path):
    row = next(iter(engine(save_tiny_model(tmp_path / "model", pose="head"), tmp_path).process(features[:1])))
    assert (row["status"], row["error_code"]) == ("failed", "internal_error")
    assert "head poses are missing" in row["error_message"]


def test_without_emotion_condition_the_row_says_so_and_its_scale_does_nothing(features, tmp_path):
    model = save_tiny_model(tmp_path / "model", emotion="none")
    silent = np.zeros(7, np.float32)
    clip = replace(features[1].clip, emotion=None, emotion_from="none")
    item = replace(cut(features[1], 60), emotion=silent)
    items = [replace(item, clip=replace(clip, e_cfg_scale=scale)) for scale in (1.0, 3.0)]
    rows = [rendered(model, tmp_path / str(i), item) for i, item in enumerate(items)]
    one, other = map(frames_of, rows)
    assert np.abs(one - other).max() <= 1
    assert [(row["emotion"], row["emotion_source"]) for row in rows] == [(None, "none")] * 2


def test_a_solver_that_does_not_sample_the_model_is_refused_at_the_start(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="ddim cannot sample a model whose objective is flow"):
        engine(tiny_model, tmp_path, solver="ddim")


def test_the_row_says_how_the_clip_was_computed_and_whether_the_memory_was_short(tiny_model, features, tmp_path):
    shared = engine(tiny_model, tmp_path, frame_batch=8)
    row = next(iter(shared.process(features[:1])))
    assert row["engine"] == "decoder eager float32 x8, field eager float32"
    assert (row["engine_psnr"], row["engine_fps"]) == (None, None)
    decode = shared._runner._decode

    def fits_two(latent, known):
        if len(latent) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latent, known)

    shared._runner._decode = fits_two
    row = next(iter(shared.process(features[1:2])))
    assert row["status"] == "done"
    assert row["engine"] == "decoder eager float32 x2, field eager float32 (after the memory was short)"


def test_a_tuned_engine_renders_what_the_plain_one_renders_and_says_what_was_measured(
    tiny_model, features, tmp_path, monkeypatch
):
    """Without a compiler, so that nothing is tried in another process."""
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.render.tuning.choose.has_compiler", lambda: False)
    item = cut(features[1], 60)
    tuned = rendered(tiny_model, tmp_path / "tuned", item, mode="tuned")
    assert tuned["engine_psnr"] >= 45
    assert tuned["engine_fps"] > 0
    plain = frames_of(rendered(tiny_model, tmp_path / "plain", item, mode="reference"))
    assert np.square(frames_of(tuned) - plain).mean() < 255**2 / 10**4.5
    again = rendered(tiny_model, tmp_path / "again", item, mode="tuned")
    assert again["engine"] == tuned["engine"]
    assert np.array_equal(frames_of(again), frames_of(tuned))


def test_an_encoder_that_fails_in_the_middle_fails_its_clip_alone(tiny_model, features, tmp_path):
    broken = replace(features[3], sound=b"no sound")
    rows = list(engine(tiny_model, tmp_path, slots=2).process([broken, cut(features[0], 60)]))
    assert {row["clip_id"]: (row["status"], row.get("error_code")) for row in rows} == {
        broken.clip.clip_id: ("failed", "encode_failed"),
        features[0].clip.clip_id: ("done", None),
    }


def test_a_clip_in_work_tells_how_many_of_its_frames_the_encoder_has_taken(tiny_model, features, tmp_path, monkeypatch):
    stage = RenderStage(str(tiny_model.path), EngineSettings(), media.lossless(), Ledger(str(tmp_path)))
    seen, advance, verify = [], MotionSlots.advance, delivery.verify_video

    def looked(work):
        def done(*arguments, **more):
            seen.append(stage.under_way)
            return work(*arguments, **more)

        return done

    monkeypatch.setattr(MotionSlots, "advance", looked(advance))
    monkeypatch.setattr(delivery, "verify_video", looked(verify))
    stage = started(stage)
    seen.clear()  # of the self-test
    item = features[0]
    (row,) = stage.process([item])
    name, frames, number = item.clip.clip_id, item.frames, item.clip.row
    assert row["status"] == "done"
    assert seen[0] == {name: Part("render", 0, frames, number)}
    assert seen[-1] == {name: Part("render", frames, frames, number)}
    taken = [parts[name].done for parts in seen]
    assert taken == sorted(taken)
    assert stage.under_way == {}
    stage.close()


def test_the_time_of_a_round_is_shared_by_its_clips_and_frames_of_the_round_before_are_decoding(
    tiny_model, features, tmp_path, monkeypatch
):
    """A round samples for 600 s after it has waited 300 s for the GPU."""
    rounds = []

    class Clock:
        def __init__(self, device):
            rounds.append(device.type)

        def stop(self):
            return 600.0, 300.0

    rendering = engine(tiny_model, tmp_path, slots=3)
    monkeypatch.setattr("pipeline.render.continuous_batching.DeviceClock", Clock)
    rows = list(rendering.process([cut(item, 60) for item in features[1:4]]))
    assert [row["status"] for row in rows] == ["done"] * 3
    assert sum(row["sample_seconds"] for row in rows) == pytest.approx(600 * len(rounds))
    assert 300 * len(rounds) <= sum(row["decode_seconds"] for row in rows) < 300 * len(rounds) + 200
