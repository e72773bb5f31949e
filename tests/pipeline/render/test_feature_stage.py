"""The feature stage: where and how precisely it computes, and what it leaves on disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import ModelFolder, SpeechWindow
from models.encoders import load_face_emotion
from models.int8 import Int8Linear
from models.pixels import to_tensor
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.common.stage import started
from pipeline.manifest.reader import read_manifest
from pipeline.media.settings import VideoSettings
from pipeline.render import speech_precision
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.storage.model_cache import local_model
from tests.tiny import save_tiny_face_emotion, save_tiny_model

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clips():
    return read_manifest(str(DEMO)).clips


def stage(model, **settings):
    return started(FeatureStage(str(model.path), FeatureSettings(**settings), Limits(), VideoSettings()))


def test_the_emotion_encoder_is_read_only_when_a_clip_does_not_name_its_emotion(tiny_model, clips, tmp_path):
    shutil.copytree(tiny_model.path, tmp_path / "model")
    model = ModelFolder.open(tmp_path / "model")
    features = stage(model)
    shutil.rmtree(model.path / "emotion_encoder")
    named, heard = replace(clips[0], emotion={"sad": 0.4, "fear": 0.6}), replace(clips[0], emotion=None)
    first, second, third = list(features.process([named, heard, named]))
    assert first.emotion.tolist() == third.emotion.tolist() == np.float32([0, 0, 0.6, 0, 0, 0.4, 0]).tolist()
    assert second["status"] == "failed"  # the encoder is wanted now, and is not there


def test_a_gpu_that_pytorch_does_not_see_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"PyTorch finds none: .* or set features.device=cpu"):
        stage(tiny_model, device="gpu")


class ProcessEnded(BaseException):
    """In place of `os._exit`, which would end the tests too."""


def failing(model, monkeypatch, error, **settings):
    """The stage on the CPU, with encoders that fail as those on a GPU would."""

    def end(status):
        raise ProcessEnded(status)

    def speech(wave, window):
        raise error

    features = stage(model)
    features._settings = FeatureSettings(**settings)
    monkeypatch.setattr(features._encoders, "speech", speech)
    monkeypatch.setattr("pipeline.common.broken_device.os._exit", end)
    return features


def test_a_gpu_that_has_failed_ends_the_worker_and_gives_no_rows(tiny_model, clips, monkeypatch):
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(ProcessEnded, match="13"):
        next(failing(tiny_model, monkeypatch, error, device="gpu").process(clips[:2]))


def test_a_gpu_whose_memory_is_full_fails_the_clip_with_a_code(tiny_model, clips, monkeypatch):
    full = failing(tiny_model, monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), device="gpu")
    rows = list(full.process(clips[:2]))
    assert [(row["status"], row["error_code"]) for row in rows] == [("failed", "out_of_memory")] * 2
    assert "features.window_seconds" in rows[0]["error_message"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_features_of_the_cpu(tiny_model, clips):
    clip = replace(clips[0], emotion=None)
    cpu, gpu = (next(iter(stage(tiny_model, device=device).process([clip]))) for device in ("cpu", "gpu"))
    assert np.linalg.norm(gpu.speech - cpu.speech) < 0.01 * np.linalg.norm(cpu.speech)
    np.testing.assert_allclose(gpu.emotion, cpu.emotion, atol=0.01)


def test_no_share_of_a_gpu_is_refused_where_the_gpu_is_to_be_used():
    assert FeatureSettings(num_gpus=0).device == "cpu"
    with pytest.raises(SettingError, match="num_gpus: device=gpu needs a GPU"):
        FeatureSettings(device="gpu", num_gpus=0)
    with pytest.raises(SettingError, match="num_gpus: device=cuda needs a GPU"):
        EngineSettings(device="cuda", num_gpus=0)
    assert EngineSettings(device="cpu", num_gpus=0).num_gpus == EngineSettings(num_gpus=0).num_gpus == 0


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True, "avx512_bf16": False, "amx_tile": True}])
def test_bfloat16_is_refused_where_the_cpu_does_not_have_it(tiny_model, monkeypatch, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with pytest.raises(RuntimeError, match=r"AVX512-BF16 or AMX.*set features.dtype=float32"):
        stage(tiny_model, dtype="bfloat16")
    stage(tiny_model)


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16"])
def test_bfloat16_features_are_close_to_those_of_float32_or_the_worker_is_refused(clips, monkeypatch, capability):
    # Of trained encoders: random weights amplify rounding.
    model = local_model("pocket")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    clip = replace(clips[0], emotion=None)
    exact = next(iter(stage(model).process([clip])))
    try:
        rough = next(iter(stage(model, dtype="bfloat16").process([clip])))
    except RuntimeError as error:  # this machine's kernels multiply bfloat16 wrongly, or not at all
        assert "set features.dtype=float32" in str(error)  # noqa: PT017
        return
    assert rough.speech.dtype == rough.emotion.dtype == np.float32
    assert 1e-4 < np.linalg.norm(rough.speech - exact.speech) / np.linalg.norm(exact.speech) < 0.05
    np.testing.assert_allclose(rough.emotion, exact.emotion, atol=0.02)


def test_half_precision_that_computes_something_else_is_refused(tiny_model, monkeypatch):
    from models import encoders

    real = encoders.load_speech_encoders

    def broken(model, device, dtype, **options):
        loaded = real(model, device, torch.float32)
        if dtype == torch.bfloat16:
            monkeypatch.setattr(loaded, "speech", lambda wave, window: -type(loaded).speech(loaded, wave, window))
        return loaded

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    monkeypatch.setattr(encoders, "load_speech_encoders", broken)
    with pytest.raises(RuntimeError, match=r"differ from float32 by 200%.*set features.dtype=float32"):
        stage(tiny_model, dtype="bfloat16")


@pytest.fixture(scope="module")
def trained():
    """The model with which precision is judged, because random weights amplify rounding."""
    return local_model("pocket")


def opened(model, dtype):
    return speech_precision.open_speech_encoders(model, "cpu", dtype, SpeechWindow())


def test_int8_features_are_close_to_those_of_float32(trained):
    reduced = opened(trained, "int8")
    assert any(isinstance(module, Int8Linear) for module in reduced.content.modules())
    assert 1e-3 < speech_precision.relative_error(reduced, opened(trained, "float32"), SpeechWindow()) < 0.02


@pytest.mark.parametrize(
    ("ratios", "close", "chosen"),
    [
        ((2.0, 3.0), 0.02, "int8"),
        ((3.0, 2.0), 0.02, "bfloat16"),
        ((1.1, 1.1), 0.02, "float32"),
        ((3.0, 3.0), 0, "float32"),
    ],
    ids=["fastest", "first is fastest", "not faster", "not close"],
)
def test_auto_takes_the_fastest_precision_that_is_close_enough(trained, monkeypatch, ratios, close, chosen):
    monkeypatch.setattr(speech_precision, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(speech_precision, "speed_ratio", lambda found, exact, window: ratios[found.int8])
    monkeypatch.setattr(speech_precision, "CLOSE", close)
    found = opened(trained, "auto")
    if found.int8:
        assert chosen == "int8"
    else:
        assert str(found.dtype) == f"torch.{chosen}"


def test_auto_encodes_in_float32_where_no_other_kernel_works(trained, monkeypatch):
    def no_kernel(*arguments):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Int8Linear, "product", no_kernel)
    monkeypatch.setattr(speech_precision, "has_bfloat16", lambda device: False)
    assert opened(trained, "auto").dtype == torch.float32
    assert not opened(trained, "auto").int8
    with pytest.raises(RuntimeError, match=r"cannot encode speech in int8: set features.dtype=float32"):
        opened(trained, "int8")


def test_the_speed_of_encoders_is_a_ratio_above_zero(trained):
    exact = opened(trained, "float32")
    assert speech_precision.speed_ratio(exact, exact, SpeechWindow()) > 0


def test_int8_on_a_gpu_is_refused():
    with pytest.raises(SettingError, match="dtype: int8 is only for CPUs"):
        FeatureSettings(device="gpu", dtype="int8")


# --- Variants of the model -------------------------------------------------------------------------------------


def without(model, path, *folders):
    """The stage of a copy of the model, whose classifiers in `folders` are gone since: to load one would fail."""
    shutil.copytree(model.path, path)
    features = stage(ModelFolder.open(path))
    for folder in folders:
        shutil.rmtree(path / folder)
    return features


def test_a_model_with_emotion_from_the_portrait_never_loads_the_speech_classifier(clips, tmp_path):
    classifier = save_tiny_face_emotion(tmp_path / "vit")
    model = save_tiny_model(tmp_path / "model", classifier, emotion="image")
    unnamed, named = replace(clips[0], emotion=None), replace(clips[0], emotion={"sad": 1.0})
    features = without(model, tmp_path / "deaf", "emotion_encoder")
    seen, redirected = list(features.process([unnamed, named]))
    pixels = to_tensor(seen.portrait)
    with torch.no_grad():
        expected = load_face_emotion(model)(pixels)[0].numpy()
    np.testing.assert_allclose(seen.emotion, expected, atol=1e-6)
    assert seen.emotion.max() - seen.emotion.min() > 0.01  # it tells them apart at all
    assert redirected.emotion.tolist() == np.eye(7)[5].tolist()
    blind = without(model, tmp_path / "blind", "face_emotion_encoder")
    first, second = list(blind.process([named, unnamed]))
    assert first.emotion.tolist() == redirected.emotion.tolist()
    assert second["status"] == "failed"  # the classifier is wanted now, and is not there


def test_a_model_without_emotion_condition_loads_no_classifier(clips, tmp_path):
    model = save_tiny_model(tmp_path / "model", emotion="none")
    features = without(model, tmp_path / "copy", "emotion_encoder")
    assert next(iter(features.process([replace(clips[0], emotion=None)]))).emotion.tolist() == [0] * 7


def test_a_clip_without_speech_is_neutral_unless_its_row_names_an_emotion(clips, trained, tmp_path):
    features = without(trained, tmp_path / "copy", "emotion_encoder")
    idle = replace(clips[0], audio="", seconds=0.2, emotion=None)
    neutral, sad = features.process([idle, replace(idle, emotion={"sad": 1.0})])
    assert neutral.emotion.tolist() == np.eye(7)[4].tolist()
    assert sad.emotion.tolist() == np.eye(7)[5].tolist()


def test_poses_are_as_long_as_the_speech_and_their_faults_name_the_file(tiny_model, clips, tmp_path):
    values = np.full((500, 6), 0.1)
    np.save(tmp_path / "long.npy", values)
    np.save(tmp_path / "short.npy", values[:10])
    posed = [replace(clips[0], pose=str(tmp_path / name)) for name in ("long.npy", "short.npy", "none.npy")]
    good, short, missing = list(stage(tiny_model).process(posed))
    assert good.pose.shape == (len(good.speech), 6)
    assert (short["status"], short["error_code"]) == ("rejected", "pose_too_short")
    assert short["error_message"].startswith(f"pose {tmp_path}/short.npy: ")
    assert (missing["error_code"], missing["pose"]) == ("input_not_found", f"{tmp_path}/none.npy")
    assert next(iter(stage(tiny_model).process(clips[:1]))).pose is None


def test_poses_may_be_read_only_from_where_inputs_may_be(tiny_model, clips, tmp_path):
    np.save(tmp_path / "pose.npy", np.full((500, 6), 0.1))
    media = str(DEMO.parent / "media")
    fenced = started(
        FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(input_prefixes=[media]), VideoSettings())
    )
    inside, outside = list(fenced.process([clips[0], replace(clips[0], pose=str(tmp_path / "pose.npy"))]))
    assert inside.pose is None
    assert outside["error_code"] == "uri_not_allowed"
