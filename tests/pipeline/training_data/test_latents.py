"""Samples -> what the second phase reads: the same numbers that the model's parts give when they are asked alone."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models import load_float
from models.encoders import load_face_emotion, load_speech_encoders
from models.pixels import to_tensor
from models.speech import normalize_waveform
from pipeline.common.limits import Limits
from pipeline.common.stage import Resources
from pipeline.storage.objects import put_file
from pipeline.storage.uris import join
from pipeline.training_data.latents import LatentStage, plan_latents
from pipeline.training_data.places import Places
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import Shards
from pipeline.training_data.stage import PrepareStage
from pipeline.training_data.videos import Video
from tests import reels, synthetic_videos
from tests.running import results
from tests.tiny import save_tiny_face_emotion, save_tiny_model


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A speaker, 80 frames."""
    wave = synthetic_videos.speech(3.2)
    return reels.write(tmp_path_factory.mktemp("film") / "a.mp4", reels.speaker(wave), wave)


def prepare(video, output, **settings):
    places = Places(str(output), "r")
    videos = [Video("film", str(video), "anna", fingerprint="f"), Video("none", "/no/film.mp4", "ben")]
    results(PrepareStage(places, ClipSettings(**(reels.SMALL | settings)), Limits()), videos)
    return places


@pytest.fixture(scope="module")
def samples(video, tmp_path_factory):
    """A folder with two samples of one video, 32 px as the tiny model has it, and a video without; to be copied."""
    folder = tmp_path_factory.mktemp("samples")
    prepare(video, folder, size=32, max_seconds=2.0)
    return folder


@pytest.fixture
def places(samples, output):
    """The same on disk and in object storage."""
    for file in samples.rglob("*.*"):
        put_file(file, join(output, file.relative_to(samples).as_posix()))
    return Places(output, "r")


def encode(places, model):
    todo, ready = plan_latents(places, model)
    return results(LatentStage(places, str(model.path)), todo), ready


def test_latents_are_those_of_the_models_own_parts(places, tiny_model):
    (sidecar,), _ = encode(places, tiny_model)
    assert (sidecar["status"], sidecar["samples"], sidecar["frames"]) == ("done", 2, 80)
    clips, latents = Shards(join(places.output, "clips")), Shards(join(places.output, "latents"))
    assert latents.rows == clips.rows
    config = tiny_model.config
    assert {k: latents.metadata[k] for k in ("model_hash", "latent_dim", "content_dim")} == {
        "model_hash": tiny_model.hash,
        "latent_dim": str(config.latent_dim),
        "content_dim": str(config.content_dim),
    }
    model, speech = load_float(tiny_model), load_speech_encoders(tiny_model)
    for index in range(2):
        clip = clips.read(index, "video", "wave", "pose")
        found = latents.read(index, "motion", "content", "speech_emotion", "image_emotion", "pose")
        frames = to_tensor(reels.decoded(clip["video"]))
        motion = model.encode_portrait(frames).motion.numpy()
        assert (found["motion"].shape, found["motion"].dtype) == ((40, config.latent_dim), np.float32)
        assert np.abs(found["motion"] - motion).max() < 1e-4
        wave = torch.from_numpy(clip["wave"].astype(np.float32) / 2**15)[None]
        with torch.no_grad():
            content = speech.content(normalize_waveform(wave))[0].numpy()
        assert (found["content"].shape, found["content"].dtype) == ((40, config.content_dim), np.float16)
        assert np.abs(found["content"] - content).max() < 0.01
        assert np.abs(found["speech_emotion"] - speech.emotion(wave)[0].numpy()).max() < 1e-5
        assert found["speech_emotion"].sum() == pytest.approx(1, abs=1e-5)
        assert found["image_emotion"] is None  # the tiny model has no such network
        assert np.array_equal(found["pose"], clip["pose"])


def test_what_is_encoded_is_not_encoded_again_until_model_or_samples_change(places, tiny_model, tmp_path):
    encode(places, tiny_model)
    todo, ready = plan_latents(places, tiny_model)
    assert ([shard.key for shard in ready], todo) == (["film"], [])
    other = save_tiny_model(tmp_path / "other", latent_dim=8)
    assert [shard.key for shard in plan_latents(places, other)[0]] == ["film"]
    with pytest.raises(FileNotFoundError):  # no training finds latents of two models
        Shards(join(places.output, "latents"))
    encode(places, tiny_model)
    sidecar = places.read("film")
    places.write("film", sidecar | {"fingerprint": "prepared anew"})
    assert [shard.key for shard in plan_latents(places, tiny_model)[0]] == ["film"]
    # Samples that are no more take their latents along.
    places.write("film", sidecar | {"rows": []})
    assert plan_latents(places, tiny_model) == ([], [])
    with pytest.raises(FileNotFoundError):
        Shards(join(places.output, "latents"))


def test_samples_of_another_size_are_brought_to_the_models(video, tiny_model, tmp_path):
    (sidecar,), _ = encode(prepare(video, tmp_path / "out"), tiny_model)
    assert sidecar["status"] == "done"
    assert Shards(str(tmp_path / "out/latents")).read(0, "motion")["motion"].shape == (80, 16)


def test_a_damaged_shard_is_reported_and_leaves_nothing_behind(samples, tiny_model, tmp_path):
    places = Places(str(shutil.copytree(samples, tmp_path / "out")), "r")
    shard = places.clips("film")
    table = pq.read_table(shard)
    short = table.set_column(table.schema.get_field_index("frames"), "frames", [[50, 50]])
    pq.write_table(short, shard)
    (sidecar,), _ = encode(places, tiny_model)
    assert (sidecar["status"], sidecar["error_code"]) == ("failed", "internal_error")
    assert "40 frames" in sidecar["message"]
    assert places.read("film", "done-latents") is None


def test_a_model_that_sees_emotion_says_what_it_sees_in_the_first_frame(samples, tmp_path):
    places = Places(str(shutil.copytree(samples, tmp_path / "out")), "r")
    model = save_tiny_model(tmp_path / "model", save_tiny_face_emotion(tmp_path / "vit"), emotion="image")
    encode(places, model)
    first = reels.decoded(Shards(str(tmp_path / "out/clips")).read(0, "video")["video"])[:1]
    with torch.no_grad():
        expected = load_face_emotion(model)(to_tensor(first))[0]
    found = Shards(str(tmp_path / "out/latents")).read(0, "image_emotion")["image_emotion"]
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_worker_without_a_share_of_a_gpu_encodes_on_the_cpu(samples, tiny_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the node has one, which Ray does not hide
    stage = LatentStage(Places(str(samples), "r"), str(tiny_model.path), resources=Resources(gpus=0))
    stage.setup()
    stage.close()
    assert stage._encoder.device.type == "cpu"


def test_a_gpu_that_has_failed_ends_the_worker_and_gives_no_rows(samples, tiny_model, tmp_path, monkeypatch):
    class ProcessEnded(BaseException):
        pass

    def end(status):
        raise ProcessEnded(status)

    def broken(images):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    places = Places(str(shutil.copytree(samples, tmp_path / "out")), "r")
    stage = LatentStage(places, str(tiny_model.path))
    stage.setup()
    stage._device = "cuda"
    monkeypatch.setattr(stage, "_encoded", broken)
    monkeypatch.setattr("pipeline.common.broken_device.os._exit", end)
    with pytest.raises(ProcessEnded, match="13"):
        next(stage.process(plan_latents(places, tiny_model)[0]))
    stage.close()
