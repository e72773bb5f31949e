"""The benchmark compares things that give the same frames, and writes what it says it writes."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from jobs.bench import baseline, features, quality
from jobs.bench.capacity import Rates, describe_cluster, describe_limit, describe_manifest
from jobs.bench.counting import count
from jobs.bench.job import Measurements, Stage
from models import FLOAT
from pipeline.manifest.clip import Clip
from tests.running import run_job
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
def test_a_run_writes_both_rates_of_every_stage(local_ray, tmp_path, monkeypatch):
    file = tmp_path / "figures.json"
    monkeypatch.setattr(features, "SPEECH_SECONDS", 1)
    monkeypatch.setattr(quality, "QC_SECONDS", 1)
    done = run_job("benchmark", "model=pocket", "mode=eager", "nfe=2", "clips=200", f"json={file}")
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert list(figures) == [
        "portrait",
        "sampling",
        "decode",
        "encode",
        "end_to_end",
        "features",
        "variants",
        "further",
    ]
    for name in list(figures)[:-2]:
        stage = figures[name]
        assert stage["ratio"] == pytest.approx(stage["engine"] / stage["baseline"])
        assert stage["engine"] > 0
    assert figures["further"]["mean_difference_of_255"] < 1  # both draw the same pictures
    assert figures["further"]["ray_units"] == 34  # of six clips of 10 s each
    assert figures["further"]["ray_start_up_seconds"] > 0
    assert figures["further"]["ray_milliseconds_a_clip"] > 0


RATES = Rates(workers_cpus=2, on_gpu=False, features=3.0, load_seconds=0.5, sampling=20.0, end_to_end=4.0, nfe=10)


def test_the_hours_of_a_manifest_are_its_work_over_the_rates(tmp_path):
    clips = [clip_of(tmp_path, seconds=36, nfe=10)] * 100  # an hour of sound
    text = describe_manifest(clips, RATES, Fraction(25))
    assert "100 clips with about 1.00 hours" in text
    assert "features  0.69 CPU-hours" in text  # (3600 / 3 + 100 * 0.5) s * 2 CPUs
    assert "render    12.50 CPU-hours" in text  # 90,000 frames / 4 * 2 CPUs


def test_twice_the_evaluations_cost_the_sampling_again(tmp_path):
    clips = [clip_of(tmp_path, seconds=36, nfe=20)] * 100
    assert "render    15.00 CPU-hours" in describe_manifest(clips, RATES, Fraction(25))  # + 90,000 / 20 * 2


def test_a_cluster_waits_for_its_slower_stage(tmp_path):
    clips = [clip_of(tmp_path, seconds=36, nfe=10)] * 100
    assert "the render stage is the bottleneck: it takes 0.78 hours" in describe_cluster(
        clips, RATES, Fraction(25), cpus=64, gpus=0
    )
    slow = replace(RATES, features=0.05)
    assert "the features stage is the bottleneck" in describe_cluster(clips, slow, Fraction(25), cpus=64, gpus=0)
    assert "no GPU was measured" in describe_cluster(clips, RATES, Fraction(25), cpus=64, gpus=8)
    gpu = replace(RATES, on_gpu=True, end_to_end=1000.0)
    assert "8 render actors (1 GPU each" in describe_cluster(clips, gpu, Fraction(25), cpus=64, gpus=8)


def test_one_sentence_says_what_limits_a_worker_of_each_stage():
    measured = Measurements(further={"load_seconds_a_clip": 0.1})
    for name, rate in (("sampling", 2_000.0), ("decode", 1_000.0), ("encode", 300.0), ("features", 50.0)):
        measured.stages.append(Stage(name, "", rate, rate))
    # 10 s: 0.3 s for features, 0.375 s for sampling and decoding, and 250 / 300 s for one encoder
    assert "the video encoders limit the speed" in describe_limit(measured, 1)
    assert "55% of the time of these workers; 2.2 times its speed" in describe_limit(measured, 1)
    assert "sampling and decoding the frames limits the speed" in describe_limit(measured, 4)


def test_work_is_counted_as_it_can_be_by_hand():
    x, y = torch.zeros(8, 16), torch.zeros(16, 32)
    work = count(lambda: x @ y)
    assert work.gflop == pytest.approx(2 * 8 * 16 * 32 / 1e9)
    assert work.gigabytes == pytest.approx(4 * (8 * 16 + 16 * 32 + 8 * 32) / 1e9)
    assert count(lambda: x.T).gigabytes == 0  # a view moves nothing


def clip_of(folder, seconds, nfe):
    file = folder / "sound.wav"
    file.write_bytes(bytes(64_000 * seconds))  # what the estimate takes for `seconds` of WAV
    return Clip(1, "a", "", str(file), None, 0, nfe, 2.0, 1.0, 1.0, "auto")
