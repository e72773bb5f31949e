"""The benchmark's sections on a GPU that is not there: no tensor is in the wrong place."""

import numpy as np
import pytest
import torch

from jobs.bench import counting, machine, rendering
from jobs.bench.job import BenchmarkJob
from jobs.bench.subject import Sizes, Subject
from models import load_float
from pipeline.render.model_runner import ModelRunner
from tests.fake_cuda.device import fake_cuda, on_cuda

SMALL = Sizes(product=64, copied=1, frame_batches=1, times=1, whole=0)


class Direct:
    """In place of `Handover`: fake tensors are known in the thread alone that enters their mode."""

    def __init__(self, device):
        self.device = device

    def pass_on(self, frames, write, fail):
        assert frames.device.type == self.device.type == "cuda"
        write(frames.cpu().numpy())

    def close(self):
        pass


@pytest.fixture
def subject(tiny_model, cuda_mode, monkeypatch):
    monkeypatch.setattr(BenchmarkJob, "on_gpu", True)
    monkeypatch.setattr(counting, "wait_for_gpu", lambda: None)
    for module in (machine, rendering):
        monkeypatch.setattr(module, "memory", lambda subject: {}, raising=False)
    monkeypatch.setattr(rendering, "Handover", Direct)
    monkeypatch.setattr(rendering, "measure_encoder", lambda video, side: 100.0)
    made = Subject(BenchmarkJob(model=str(tiny_model.path), device="cuda", nfe=2, slots=2, frame_batch=4), SMALL)
    assert made.side
    assert made.pixels.size
    # Samplers ask the guidance scales for their values, which fake tensors do not have (test_gpu_path.py has them).
    monkeypatch.setattr(Subject, "sample_plain", lambda subject, portrait, speech=None: subject.plain_motion)
    monkeypatch.setattr(Subject, "sample", lambda subject, engine, portrait, slots: [subject.plain_motion] * slots)
    config = made.folder.config
    made.speech = np.zeros((config.window, config.latent_dim), np.float32)
    small = load_float(tiny_model, "cpu")
    with fake_cuda(cuda_mode):
        made.model = on_cuda(small)
        made.plain_motion = torch.zeros(config.window, config.latent_dim, device="cuda")
        yield made


def test_the_released_algorithm_runs_on_the_gpu(subject):
    found = rendering.measure_baseline(subject)
    assert list(found["baseline"]) == ["decode", "portrait", "sampling", "end_to_end"]
    assert subject.image.device.type == subject.plain_portrait.motion.device.type == "cuda"


@pytest.mark.slow
def test_the_engine_decodes_on_the_gpu_and_its_work_is_counted(subject):
    subject.engine = ModelRunner(subject.model, mode="eager", frame_batch=4)
    found = rendering.measure_engine(subject)
    assert list(found["engine"]) == ["decode", "sampling", "portrait", "end_to_end"]
    assert found["decode_gflop_a_frame"] > 0
    assert found["precisions"] == {"decode": "float32", "sampling": "float32"}


def test_ceilings_are_measured_in_every_type_of_a_gpu(subject, monkeypatch):
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: True)
    found = machine.measure_ceilings(subject)
    types = ("float32", "tf32", "float16", "bfloat16")
    assert [name for name in found if name.endswith("_matrix_gflops")] == [f"{name}_matrix_gflops" for name in types]
