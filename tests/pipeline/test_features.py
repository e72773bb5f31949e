"""The feature stage: where and how precisely it computes, and what it leaves on disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import ModelFolder
from pipeline.features import FeatureStage
from pipeline.manifest import read_manifest
from pipeline.settings import FeatureSettings, Limits, SettingError, VideoSettings

DEMO = Path(__file__).parents[2] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clips():
    return read_manifest(str(DEMO)).clips


def stage(model, **settings):
    return FeatureStage(model, FeatureSettings(**settings), Limits(), VideoSettings())


def test_the_emotion_encoder_is_read_only_when_a_clip_does_not_name_its_emotion(tiny_model, clips, tmp_path):
    shutil.copytree(tiny_model.path, tmp_path / "model")
    model = ModelFolder.open(tmp_path / "model")
    shutil.rmtree(model.path / "emotion_encoder")
    features = stage(model)
    named, heard = replace(clips[0], emotion={"sad": 0.4, "fear": 0.6}), replace(clips[0], emotion=None)
    first, second, third = features.process([named, heard, named])
    assert first.emotion.tolist() == third.emotion.tolist() == np.float32([0, 0, 0.6, 0, 0, 0.4, 0]).tolist()
    assert second["status"] == "failed"  # the encoder is wanted now, and is not there


def test_a_gpu_that_pytorch_does_not_see_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"PyTorch sees none: .* or set features.device=cpu"):
        stage(tiny_model, device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_features_of_the_cpu(tiny_model, clips):
    clip = replace(clips[0], emotion=None)
    cpu, gpu = (stage(tiny_model, device=device).process([clip])[0] for device in ("cpu", "gpu"))
    assert np.linalg.norm(gpu.speech - cpu.speech) < 0.01 * np.linalg.norm(cpu.speech)
    np.testing.assert_allclose(gpu.emotion, cpu.emotion, atol=0.01)


def test_no_share_of_a_gpu_is_refused_where_the_gpu_is_to_be_used():
    assert FeatureSettings(num_gpus=0).device == "cpu"
    with pytest.raises(SettingError, match="num_gpus: 0 leaves device=gpu without a GPU"):
        FeatureSettings(device="gpu", num_gpus=0)


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True, "avx512_bf16": False, "amx_tile": True}])
def test_bfloat16_is_refused_where_the_cpu_does_not_have_it(tiny_model, monkeypatch, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with pytest.raises(RuntimeError, match=r"AVX512-BF16 or AMX.*set features.dtype=float32"):
        stage(tiny_model, dtype="bfloat16")
    stage(tiny_model)


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16"])
def test_bfloat16_features_are_close_to_those_of_float32(tiny_model, clips, monkeypatch, capability):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    clip = replace(clips[0], emotion=None)
    exact, rough = (stage(tiny_model, dtype=dtype).process([clip])[0] for dtype in ("float32", "bfloat16"))
    assert rough.speech.dtype == rough.emotion.dtype == np.float32
    assert 1e-4 < np.linalg.norm(rough.speech - exact.speech) / np.linalg.norm(exact.speech) < 0.05
    np.testing.assert_allclose(rough.emotion, exact.emotion, atol=0.02)
