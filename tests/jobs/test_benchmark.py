"""The benchmark compares things that give the same frames, and writes what it says it writes."""

import json
import sys

import pytest
import torch

from jobs import baseline, benchmark
from models import FLOAT
from tests.tiny import CONFIG


@torch.no_grad()
def test_the_baseline_gives_the_model_s_own_portraits_and_frames():
    torch.manual_seed(0)
    model = FLOAT(CONFIG).eval()
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    expected, got = model.encode_portrait(image), baseline.encode(model, image)
    torch.testing.assert_close(got.identity, expected.identity, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(got.features, expected.features, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    motion = expected.motion + 0.3 * torch.randn(3, CONFIG.latent_dim)
    frames = model.decode(expected, motion)
    torch.testing.assert_close(baseline.decode(model, expected, motion), frames, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_run_writes_both_rates_of_every_stage(tmp_path, monkeypatch):
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark", "model=pocket", "mode=eager", "nfe=2", f"json={file}"])
    assert benchmark.main() == 0
    figures = json.loads(file.read_text())
    assert list(figures) == ["portrait", "sampling", "decode", "encode", "end_to_end", "further"]
    for name in list(figures)[:-1]:
        stage = figures[name]
        assert stage["ratio"] == pytest.approx(stage["engine"] / stage["baseline"])
        assert stage["engine"] > 0
    assert figures["further"]["mean_difference_of_255"] < 1  # both draw the same pictures
